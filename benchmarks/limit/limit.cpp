// How fast this processor can composite: the same splats in the same tile lists as the package's kernels, by hand.
//
//     limit IN OUT THREADS REPEATS      (`taichi-avatars bench --limit` compiles it, writes IN and reads OUT)
//
// IN: int32 width, height, tile, splats M, pairs P; int32 tile_end[tiles], list[P] (splats of each tile, front to back);
//     float splats[M][12] in depth order (x, y, conic a b c, opacity, red, green, blue, depth, half width, half height);
//     float gradient[5][height][width] to red, green, blue, depth, alpha.
// OUT: float image[5][height][width]; float gradients[M][10] to the first ten columns.
// stdout: one JSON object with milliseconds per tile shape: every run of forward, backward and gather, of one thread (CPU
// time) and of THREADS (time that passes). Reading, packing and the lists are not timed: other stages in the package.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "vectors.h"

constexpr int CHANNELS = 5, SUMS = 10, COLUMNS = 12;
constexpr int BATCH = 8;     // splats between two looks at whether a tile is opaque
constexpr int TOGETHER = 4;  // vectors whose chains of dependent instructions run side by side, where none is skipped
constexpr int AHEAD = 12;    // entries of a list to fetch ahead: splats lie anywhere in memory, waiting takes a third
constexpr float MAX_ALPHA = 0.99f, MIN_TRANSMITTANCE = 1e-4f;
const float LOWEST = std::log(1.0f / 255.0f) / 8.0f;

struct alignas(64) Splat {  // conic and log opacity in eighths, so that exp is the eighth power of a polynomial
    float x, y, a, b, c, log_opacity, red, green, blue, depth, top, bottom;
};

struct Scene {
    int width, height;
    std::vector<Splat> splats;
    std::vector<float> rows;      // as they came
    std::vector<float> gradient;  // [5][height][width]
};

struct Lists {
    int tiles_x, tiles_y;
    std::vector<int> tile_end, splat, pair;  // pair: number of each entry, splat by splat
    std::vector<uint16_t> hit;               // of each entry: in which vectors of the tile there is a pixel that it reaches
    std::vector<int> splat_end;
};

template <class T>
struct Aligned {  // cache lines of its own
    T* data;
    explicit Aligned(std::size_t count) : data((T*)std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64)) {}
    ~Aligned() { std::free(data); }
    Aligned(const Aligned&) = delete;
};

// exp(8 x) on [-ln(255) / 8, 0] of each of COUNT vectors, relative error 2e-6
template <int COUNT>
INLINE void exp_packed(const F* x, F* p) {
    constexpr float C[] = {0.00586043f, 0.03979405f, 0.16598564f, 0.49988512f, 0.99999273f, 0.99999992f};
    for (int j = 0; j < COUNT; j++) p[j] = all(C[0]);
    for (int n = 1; n < 6; n++)
        for (int j = 0; j < COUNT; j++) p[j] = C[n] + x[j] * p[j];
    for (int n = 0; n < 3; n++)
        for (int j = 0; j < COUNT; j++) p[j] = p[j] * p[j];
}

// A tile of W x H pixels as vectors, each a block of the picture BLOCK pixels wide, row by row of blocks.
template <int W_, int H_, int BLOCK, bool SKIP_>
struct Shape {
    static constexpr int W = W_, H = H_;
    static constexpr bool SKIP = SKIP_;  // whether vectors that a splat does not reach are left out, one by one
    static constexpr int VECTORS = W * H / LANES, PARTS = W / BLOCK, ROWS = LANES / BLOCK;

    F x[PARTS], y;

    Shape(int left, int top) {
        for (int i = 0; i < LANES; i++) {
            for (int part = 0; part < PARTS; part++) x[part][i] = left + 0.5f + part * BLOCK + i % BLOCK;
            y[i] = top + 0.5f + i / BLOCK;
        }
    }

    static constexpr float row(int k) { return float(k / PARTS * ROWS); }

    // Where pixel (x, y) of the tile lies: vector * LANES + lane.
    static constexpr int place(int x, int y) {
        return (y / ROWS * PARTS + x / BLOCK) * LANES + y % ROWS * BLOCK + x % BLOCK;
    }

    // The pixels of vector k that lie in the picture.
    Mask inside(int k, int width, int height) const {
        return both(below(x[k % PARTS], all(width)), below(y + row(k), all(height)));
    }
};

// The exponent of one splat, vector by vector.
template <class S>
struct Exponent {
    F dx[S::PARTS], flat[S::PARTS], cross[S::PARTS], dy0, c;

    INLINE Exponent of(const S& shape, const Splat& s) {
        Exponent e;
        for (int part = 0; part < S::PARTS; part++) {
            e.dx[part] = shape.x[part] - s.x;
            e.flat[part] = s.log_opacity + e.dx[part] * e.dx[part] * s.a;
            e.cross[part] = e.dx[part] * s.b;
        }
        e.dy0 = shape.y - s.y;
        e.c = all(s.c);
        return e;
    }
    F dy(int k) const { return dy0 + S::row(k); }
    F at(int k, F dy) const { return flat[k % S::PARTS] + dy * (cross[k % S::PARTS] + dy * c); }
};

// Calls work(k0, integral_constant COUNT) for the vectors that a splat reaches: one by one where the shape skips, else
// TOGETHER at a time, all of a small tile, or those that the splat's rows lie in.
template <class S, class Work>
INLINE void each_reached(const Splat& s, int hit, int top, Work work) {
    if constexpr (S::SKIP) {
#pragma GCC unroll 16
        for (int k = 0; k < S::VECTORS; k++)
            if (hit & 1 << k) work(k, std::integral_constant<int, 1>{});
    } else {
        int first = 0, past = S::VECTORS;
        if constexpr (S::VECTORS > TOGETHER) {
            const int low = std::max(int(s.top) - top, 0), high = std::min(int(s.bottom) - top, S::H - 1);
            first = low / S::ROWS * S::PARTS / TOGETHER * TOGETHER;
            past = ((high / S::ROWS + 1) * S::PARTS + TOGETHER - 1) / TOGETHER * TOGETHER;
        }
        for (int k = first; k < past; k += TOGETHER) work(k, std::integral_constant<int, TOGETHER>{});
    }
}

// The vectors that are not all opaque, as bits.
template <class S>
INLINE int transparent(const Mask* alive) {
    int bits = 0;
    for (int k = 0; k < S::VECTORS; k++) bits |= int(any(alive[k])) << k;
    return bits;
}

// state[tile][vector][CHANNELS][LANES]
template <class S>
void composite(const Scene& scene, const Lists& lists, int tile, float* state) {
    const int left = tile % lists.tiles_x * S::W, top = tile / lists.tiles_x * S::H;
    const S shape(left, top);
    F T[S::VECTORS], red[S::VECTORS], green[S::VECTORS], blue[S::VECTORS], depth[S::VECTORS];
    Mask alive[S::VECTORS];
    for (int k = 0; k < S::VECTORS; k++) {
        T[k] = all(1), alive[k] = shape.inside(k, scene.width, scene.height);
        red[k] = green[k] = blue[k] = depth[k] = F{};
    }
    int at = tile ? lists.tile_end[tile - 1] : 0;
    const int end = lists.tile_end[tile];
    while (at < end) {
        const int left_over = transparent<S>(alive);
        if (!left_over) break;
        for (const int batch_end = std::min(at + BATCH, end); at < batch_end; at++) {
            __builtin_prefetch(&scene.splats[lists.splat[at + AHEAD]]);
            const Splat& s = scene.splats[lists.splat[at]];
            const auto exponent = Exponent<S>::of(shape, s);
            each_reached<S>(s, lists.hit[at] & left_over, top, [&](int k0, auto count) __attribute__((always_inline)) {
                constexpr int COUNT = count;
                F e[COUNT], p[COUNT];
                for (int j = 0; j < COUNT; j++) e[j] = exponent.at(k0 + j, exponent.dy(k0 + j));
                exp_packed<COUNT>(e, p);
                for (int j = 0; j < COUNT; j++) p[j] = only(at_least(e[j], all(LOWEST)), least(p[j], all(MAX_ALPHA)));
                for (int j = 0, k = k0; j < COUNT; j++, k++) {
                    const F weight = p[j] * T[k];
                    alive[k] = both(alive[k], at_least(T[k] - weight, all(MIN_TRANSMITTANCE)));
                    p[j] = only(alive[k], weight);
                    T[k] -= p[j];
                }
                for (int j = 0; j < COUNT; j++) red[k0 + j] += p[j] * s.red;
                for (int j = 0; j < COUNT; j++) green[k0 + j] += p[j] * s.green;
                for (int j = 0; j < COUNT; j++) blue[k0 + j] += p[j] * s.blue;
                for (int j = 0; j < COUNT; j++) depth[k0 + j] += p[j] * s.depth;
            });
        }
    }
    float* out = state + std::size_t(tile) * S::W * S::H * CHANNELS;
    for (int k = 0; k < S::VECTORS; k++, out += CHANNELS * LANES) {
        store(out, red[k]), store(out + LANES, green[k]), store(out + 2 * LANES, blue[k]);
        store(out + 3 * LANES, depth[k]), store(out + 4 * LANES, 1.0f - T[k]);
    }
}

// pair_grad[pair][16]: the sums of each pair, as `gather` wants them
template <class S>
void composite_adjoint(
    const Scene& scene, const Lists& lists, int tile, const float* state, const float* grad, float* pair_grad) {
    const int left = tile % lists.tiles_x * S::W, top = tile / lists.tiles_x * S::H;
    const S shape(left, top);
    const std::size_t begin = std::size_t(tile) * S::W * S::H * CHANNELS;
    F T[S::VECTORS], behind[S::VECTORS], g[S::VECTORS][CHANNELS];
    Mask alive[S::VECTORS];
    for (int k = 0; k < S::VECTORS; k++) {
        T[k] = all(1), alive[k] = shape.inside(k, scene.width, scene.height);
        behind[k] = F{};
        for (int c = 0; c < CHANNELS; c++) {
            const std::size_t here = begin + (k * CHANNELS + c) * LANES;
            g[k][c] = load(grad + here);
            behind[k] += load(state + here) * g[k][c];
        }
    }
    int at = tile ? lists.tile_end[tile - 1] : 0;
    const int end = lists.tile_end[tile];
    while (at < end) {
        const int left_over = transparent<S>(alive);
        if (!left_over) break;
        for (const int batch_end = std::min(at + BATCH, end); at < batch_end; at++) {
            __builtin_prefetch(&scene.splats[lists.splat[at + AHEAD]]);
            __builtin_prefetch(pair_grad + std::size_t(lists.pair[at + AHEAD]) * 16, 1);
            const Splat& s = scene.splats[lists.splat[at]];
            const auto exponent = Exponent<S>::of(shape, s);
            F sum[SUMS] = {};
            each_reached<S>(s, lists.hit[at] & left_over, top, [&](int k0, auto count) __attribute__((always_inline)) {
                constexpr int COUNT = count;
                F e[COUNT], p[COUNT], dy[COUNT], weight[COUNT], d[COUNT];
                Mask unclamped[COUNT];
                for (int j = 0; j < COUNT; j++) dy[j] = exponent.dy(k0 + j), e[j] = exponent.at(k0 + j, dy[j]);
                exp_packed<COUNT>(e, p);
                for (int j = 0; j < COUNT; j++) unclamped[j] = below(p[j], all(MAX_ALPHA));
                for (int j = 0; j < COUNT; j++) p[j] = only(at_least(e[j], all(LOWEST)), least(p[j], all(MAX_ALPHA)));
                for (int j = 0, k = k0; j < COUNT; j++, k++) {
                    const F here = p[j] * T[k];
                    alive[k] = both(alive[k], at_least(T[k] - here, all(MIN_TRANSMITTANCE)));
                    weight[j] = only(alive[k], here);
                    T[k] -= weight[j];
                }
                for (int j = 0, k = k0; j < COUNT; j++, k++) {
                    const F color = g[k][0] * s.red + g[k][1] * s.green + g[k][2] * s.blue + g[k][3] * s.depth + g[k][4];
                    const F value = weight[j] * color;
                    behind[k] -= value;
                    d[j] = only(both(alive[k], unclamped[j]), value - behind[k] * (p[j] * inverse(1.0f - p[j])));
                }
                for (int j = 0, k = k0; j < COUNT; j++, k++) {
                    const F d_dy = d[j] * dy[j];
                    sum[0] += d[j], sum[3] += d_dy, sum[5] += d_dy * dy[j];
                    if constexpr (S::PARTS > 1) {
                        const F dx = exponent.dx[k % S::PARTS], d_dx = d[j] * dx;
                        sum[1] += d_dx, sum[2] += d_dx * dx, sum[4] += d_dy * dx;
                    }
                }
                for (int c = 0; c < 4; c++)
                    for (int j = 0; j < COUNT; j++) sum[6 + c] += weight[j] * g[k0 + j][c];
            });
            if constexpr (S::PARTS == 1) {  // all vectors of the tile have the same dx
                sum[1] = sum[0] * exponent.dx[0], sum[2] = sum[1] * exponent.dx[0], sum[4] = sum[3] * exponent.dx[0];
            }
            float* out = pair_grad + std::size_t(lists.pair[at]) * 16;
            if constexpr (LANES == 16) {
                store(out, lane_sums<SUMS>(sum));
            } else {
                constexpr int WHOLE = SUMS / LANES * LANES;
                for (int i = 0; i < WHOLE; i += LANES) store(out + i, lane_sums<LANES>(sum + i));
                store(out + WHOLE, lane_sums<SUMS - WHOLE>(sum + WHOLE));
            }
        }
    }
    for (; at < end; at++) std::memset(pair_grad + std::size_t(lists.pair[at]) * 16, 0, 64);
}

void gather(const Scene& scene, const Lists& lists, int i, const float* pair_grad, float* out) {
    float total[16] = {};
    for (int pair = i ? lists.splat_end[i - 1] : 0; pair < lists.splat_end[i]; pair++)
        for (int k = 0; k < 16; k++) total[k] += pair_grad[std::size_t(pair) * 16 + k];
    const float *row = &scene.rows[std::size_t(i) * COLUMNS], a = row[2], b = row[3], c = row[4];
    out[0] = a * total[1] + b * total[3], out[1] = b * total[1] + c * total[3];
    out[2] = -0.5f * total[2], out[3] = -total[4], out[4] = -0.5f * total[5];
    out[5] = total[0] / std::max(row[5], 1e-12f);
    for (int k = 6; k < 10; k++) out[k] = total[k];
}

// Runs work(i) for all i on some threads, `grain` at a time.
void each(int count, int threads, int grain, const std::function<void(int)>& work) {
    std::atomic<int> next{0};
    auto run = [&] {
        for (int begin; (begin = next.fetch_add(grain)) < count;)
            for (int i = begin; i < std::min(begin + grain, count); i++) work(i);
    };
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back(run);
    run();
    for (auto& thread : others) thread.join();
}

// Of one thread: its CPU time, which what else runs on the machine changes less. Of several: time that passes.
template <class Work>
double milliseconds(int threads, Work work) {
    auto now = [&] {
        if (threads == 1) return 1e3 * double(std::clock()) / CLOCKS_PER_SEC;
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
    const double began = now();
    work();
    return now() - began;
}

// The lists of larger tiles: the splats of all tiles that one covers, once each, in depth order.
Lists lists_of(const Scene& scene, const Lists& small, int tile, int w, int h) {
    Lists lists{(scene.width + w - 1) / w, (scene.height + h - 1) / h, {}, {}, {}, {}};
    std::vector<int> here;
    for (int ty = 0; ty < lists.tiles_y; ty++) {
        for (int tx = 0; tx < lists.tiles_x; tx++) {
            here.clear();
            for (int y = ty * h / tile; y < std::min((ty + 1) * h / tile, small.tiles_y); y++)
                for (int x = tx * w / tile; x < std::min((tx + 1) * w / tile, small.tiles_x); x++) {
                    const int t = y * small.tiles_x + x;
                    const auto first = small.splat.begin();
                    here.insert(here.end(), first + (t ? small.tile_end[t - 1] : 0), first + small.tile_end[t]);
                }
            std::sort(here.begin(), here.end());
            here.erase(std::unique(here.begin(), here.end()), here.end());
            lists.splat.insert(lists.splat.end(), here.begin(), here.end());
            lists.tile_end.push_back(int(lists.splat.size()));
        }
    }
    lists.splat_end.assign(scene.splats.size(), 0);
    for (int s : lists.splat) lists.splat_end[s]++;
    std::vector<int> next(scene.splats.size());
    int sum = 0;
    for (std::size_t i = 0; i < next.size(); i++) next[i] = sum, sum += lists.splat_end[i], lists.splat_end[i] = sum;
    for (int s : lists.splat) lists.pair.push_back(next[s]++);
    lists.hit.assign(lists.splat.size(), uint16_t(~0));
    lists.splat.resize(lists.splat.size() + AHEAD), lists.pair.resize(lists.splat.size());  // fetched ahead, never used
    return lists;
}

// Which vectors of a tile each splat of its list reaches, exactly: all of its pixels are tried.
template <class S>
void find_hits(const Scene& scene, Lists& lists) {
    for (int tile = 0, at = 0; tile < lists.tiles_x * lists.tiles_y; tile++) {
        const S shape(tile % lists.tiles_x * S::W, tile / lists.tiles_x * S::H);
        for (; at < lists.tile_end[tile]; at++) {
            const auto exponent = Exponent<S>::of(shape, scene.splats[lists.splat[at]]);
            lists.hit[at] = 0;
            for (int k = 0; k < S::VECTORS; k++)
                lists.hit[at] |= any(at_least(exponent.at(k, exponent.dy(k)), all(LOWEST))) << k;
        }
    }
}

void print(const char* name, const std::vector<double>& runs, const char* after) {
    std::printf("\"%s\": [", name);
    for (std::size_t i = 0; i < runs.size(); i++) std::printf("%s%.3f", i ? ", " : "", runs[i]);
    std::printf("]%s", after);
}

template <class S>
void measure(const Scene& scene, const Lists& given, int tile, int threads, int repeats, std::FILE* out, const char* name) {
    constexpr int W = S::W, H = S::H;
    Lists lists = lists_of(scene, given, tile, W, H);
    if (S::SKIP) find_hits<S>(scene, lists);
    const int tiles = lists.tiles_x * lists.tiles_y, count = int(scene.splats.size());
    const std::size_t pixels = std::size_t(tiles) * W * H;
    Aligned<float> state(pixels * CHANNELS), grad(pixels * CHANNELS), pair_grad(lists.splat.size() * 16);
    std::vector<float> gradients(std::size_t(count) * SUMS);
    auto pixel = [&](std::size_t p, auto&& at) {  // the place of pixel p of the tiles in the picture, where it lies in it
        const int t = int(p / (W * H)), i = int(p % (W * H)), place = S::place(i % W, i / W);
        const int x = t % lists.tiles_x * W + i % W, y = t / lists.tiles_x * H + i / W;
        for (int c = 0; c < CHANNELS; c++) {
            const std::size_t vector = std::size_t(t) * W * H / LANES + place / LANES;
            const std::size_t there = (vector * CHANNELS + c) * LANES + place % LANES;
            at(there, x < scene.width && y < scene.height, (std::size_t(c) * scene.height + y) * scene.width + x);
        }
    };
    for (std::size_t p = 0; p < pixels; p++)
        pixel(p, [&](std::size_t there, bool inside, std::size_t here) {
            grad.data[there] = inside ? scene.gradient[here] : 0.0f;
        });

    const std::size_t pairs = (lists.splat.size() - AHEAD) * W * H;
    std::printf("%s  {\"tile\": \"%s\", \"pairs\": %zu", std::ftell(out) ? ",\n" : "", name, pairs);
    for (int used : {1, threads}) {
        std::vector<double> forward, backward, gathering;
        for (int run = 0; run < repeats + 1; run++) {
            const double f = milliseconds(used, [&] {
                each(tiles, used, 16, [&](int t) { composite<S>(scene, lists, t, state.data); });
            });
            const double b = milliseconds(used, [&] {
                each(tiles, used, 16, [&](int t) {
                    composite_adjoint<S>(scene, lists, t, state.data, grad.data, pair_grad.data);
                });
            });
            const double g = milliseconds(used, [&] {
                each(count, used, 512, [&](int i) {
                    gather(scene, lists, i, pair_grad.data, &gradients[std::size_t(i) * SUMS]);
                });
            });
            if (run) forward.push_back(f), backward.push_back(b), gathering.push_back(g);  // the first one touches the memory
        }
        std::printf(",\n   \"%s\": {", used == 1 ? "one_thread" : "all_threads");
        print("forward", forward, ", "), print("backward", backward, ", "), print("gather", gathering, "}");
        if (threads == 1) break;
    }
    std::printf("}");

    std::vector<float> image(scene.gradient.size());
    for (std::size_t p = 0; p < pixels; p++)
        pixel(p, [&](std::size_t there, bool inside, std::size_t here) {
            if (inside) image[here] = state.data[there];
        });
    std::fwrite(image.data(), sizeof(float), image.size(), out);
    std::fwrite(gradients.data(), sizeof(float), gradients.size(), out);
}

template <class T>
std::vector<T> take(std::FILE* in, std::size_t count) {
    std::vector<T> values(count);
    if (std::fread(values.data(), sizeof(T), count, in) != count) {
        std::fprintf(stderr, "limit: the input is too short\n");
        std::exit(1);
    }
    return values;
}

int main(int argc, char** argv) {
    std::FILE* in = argc == 5 ? std::fopen(argv[1], "rb") : nullptr;
    std::FILE* out = in ? std::fopen(argv[2], "wb") : nullptr;
    if (!out) return std::fprintf(stderr, "limit: IN OUT THREADS REPEATS\n"), 1;
    const auto header = take<int32_t>(in, 5);
    const int tile = header[2], count = header[3];
    Scene scene{header[0], header[1], {}, {}, {}};
    Lists lists{(scene.width + tile - 1) / tile, (scene.height + tile - 1) / tile, {}, {}, {}, {}};
    lists.tile_end = take<int>(in, std::size_t(lists.tiles_x) * lists.tiles_y);
    lists.splat = take<int>(in, header[4]);
    scene.rows = take<float>(in, std::size_t(count) * COLUMNS);
    scene.gradient = take<float>(in, std::size_t(CHANNELS) * scene.width * scene.height);
    for (int i = 0; i < count; i++) {
        const float* r = &scene.rows[std::size_t(i) * COLUMNS];
        const float drawn = r[5] >= 1.0f / 255.0f ? r[11] : -1e9f;
        const float log_opacity = std::log(std::max(r[5], 1e-12f)) / 8.0f;
        scene.splats.push_back({r[0], r[1], -0.0625f * r[2], -0.125f * r[3], -0.0625f * r[4], log_opacity, r[6], r[7],
                                r[8], r[9], std::floor(r[1] - drawn - 0.5f), std::ceil(r[1] + drawn - 0.5f)});
    }
    const int threads = std::atoi(argv[3]), repeats = std::atoi(argv[4]);
    std::printf("{\"lanes\": %d, \"shapes\": [\n", LANES);
    constexpr int ROW = LANES < 8 ? LANES : 8, WIDE = LANES;  // 8 pixels and more in a row
    measure<Shape<8, 8, ROW, false>>(scene, lists, tile, threads, repeats, out, "8x8");
    measure<Shape<8, 8, 4, true>>(scene, lists, tile, threads, repeats, out, "8x8 skipping");
    measure<Shape<16, 8, WIDE, false>>(scene, lists, tile, threads, repeats, out, "16x8");
    measure<Shape<16, 16, WIDE, false>>(scene, lists, tile, threads, repeats, out, "16x16");
    std::printf("]}\n");
    std::fclose(out);
}
