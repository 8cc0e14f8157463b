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
#include <vector>

#include "vectors.h"

constexpr int CHANNELS = 5, SUMS = 10, COLUMNS = 12;
constexpr int BATCH = 8;     // splats between two looks at whether a tile is opaque
constexpr int TOGETHER = 4;  // vectors whose chains of dependent instructions run side by side
constexpr int AHEAD = 12;    // entries of a list to fetch ahead: a splat lies anywhere in memory, waiting is a third of the time
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
    std::vector<int> splat_end;
};

template <class T>
struct Aligned {  // cache lines of its own
    T* data;
    explicit Aligned(std::size_t count) : data((T*)std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64)) {}
    ~Aligned() { std::free(data); }
    Aligned(const Aligned&) = delete;
};

// exp(8 x) on [-ln(255) / 8, 0] of each of some vectors, relative error 2e-6
INLINE void exp_packed(const F* x, F* p) {
    constexpr float C[] = {0.00586043f, 0.03979405f, 0.16598564f, 0.49988512f, 0.99999273f, 0.99999992f};
    for (int j = 0; j < TOGETHER; j++) p[j] = all(C[0]);
    for (int n = 1; n < 6; n++)
        for (int j = 0; j < TOGETHER; j++) p[j] = C[n] + x[j] * p[j];
    for (int n = 0; n < 3; n++)
        for (int j = 0; j < TOGETHER; j++) p[j] = p[j] * p[j];
}

// A tile of W x H pixels as vectors: vector k holds ROWS rows of it, or a part of one.
template <int W, int H>
struct Shape {
    static constexpr int VECTORS = W * H / LANES;
    static constexpr int PARTS = W > LANES ? W / LANES : 1;
    static constexpr int ROWS = W > LANES ? 1 : LANES / W;

    F x[PARTS], y;

    Shape(int left, int top) {
        for (int i = 0; i < LANES; i++) {
            for (int part = 0; part < PARTS; part++) x[part][i] = left + 0.5f + (part * LANES + i) % W;
            y[i] = top + 0.5f + i / W;
        }
    }

    static constexpr float row(int k) { return float(k / PARTS * ROWS); }

    // The pixels of vector k that lie in the picture.
    Mask inside(int k, int width, int height) const {
        return both(below(x[k % PARTS], all(width)), below(y + row(k), all(height)));
    }
};

// The exponent of one splat, vector by vector.
template <int W, int H>
struct Exponent {
    F dx[Shape<W, H>::PARTS], flat[Shape<W, H>::PARTS], cross[Shape<W, H>::PARTS], dy0, c;

    INLINE Exponent of(const Shape<W, H>& shape, const Splat& s) {
        Exponent e;
        for (int part = 0; part < Shape<W, H>::PARTS; part++) {
            e.dx[part] = shape.x[part] - s.x;
            e.flat[part] = s.log_opacity + e.dx[part] * e.dx[part] * s.a;
            e.cross[part] = e.dx[part] * s.b;
        }
        e.dy0 = shape.y - s.y;
        e.c = all(s.c);
        return e;
    }
    F dy(int k) const { return dy0 + Shape<W, H>::row(k); }
    F at(int k, F dy) const {
        constexpr int PARTS = Shape<W, H>::PARTS;
        return flat[k % PARTS] + dy * (cross[k % PARTS] + dy * c);
    }
};

INLINE bool any_of(const Mask* masks, int count) {
    Mask found = masks[0];
    for (int k = 1; k < count; k++) found |= masks[k];
    return any(found);
}

// Vectors that a splat's rows lie in: all of a small tile, whose state then stays in registers.
template <int W, int H>
INLINE void reach(const Splat& s, int top, int& first, int& past) {
    using S = Shape<W, H>;
    first = 0, past = S::VECTORS;
    if constexpr (S::VECTORS > 4) {
        int low = std::max(int(s.top) - top, 0), high = std::min(int(s.bottom) - top, H - 1);
        first = low / S::ROWS * S::PARTS / TOGETHER * TOGETHER;
        past = ((high / S::ROWS + 1) * S::PARTS + TOGETHER - 1) / TOGETHER * TOGETHER;
    }
}

// state[tile][vector][CHANNELS][LANES]
template <int W, int H>
void composite(const Scene& scene, const Lists& lists, int tile, float* state) {
    using S = Shape<W, H>;
    const int left = tile % lists.tiles_x * W, top = tile / lists.tiles_x * H;
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
        for (const int batch_end = std::min(at + BATCH, end); at < batch_end; at++) {
            __builtin_prefetch(&scene.splats[lists.splat[at + AHEAD]]);
            const Splat& s = scene.splats[lists.splat[at]];
            const auto exponent = Exponent<W, H>::of(shape, s);
            int first, past;
            reach<W, H>(s, top, first, past);
            for (int k0 = first; k0 < past; k0 += TOGETHER) {
                F e[TOGETHER], p[TOGETHER];
                for (int j = 0; j < TOGETHER; j++) e[j] = exponent.at(k0 + j, exponent.dy(k0 + j));
                exp_packed(e, p);
                for (int j = 0; j < TOGETHER; j++) p[j] = only(at_least(e[j], all(LOWEST)), least(p[j], all(MAX_ALPHA)));
                for (int j = 0, k = k0; j < TOGETHER; j++, k++) {
                    const F weight = p[j] * T[k];
                    alive[k] = both(alive[k], at_least(T[k] - weight, all(MIN_TRANSMITTANCE)));
                    p[j] = only(alive[k], weight);
                    T[k] -= p[j];
                }
                for (int j = 0; j < TOGETHER; j++) red[k0 + j] += p[j] * s.red;
                for (int j = 0; j < TOGETHER; j++) green[k0 + j] += p[j] * s.green;
                for (int j = 0; j < TOGETHER; j++) blue[k0 + j] += p[j] * s.blue;
                for (int j = 0; j < TOGETHER; j++) depth[k0 + j] += p[j] * s.depth;
            }
        }
        if (!any_of(alive, S::VECTORS)) break;
    }
    float* out = state + std::size_t(tile) * W * H * CHANNELS;
    for (int k = 0; k < S::VECTORS; k++, out += CHANNELS * LANES) {
        store(out, red[k]), store(out + LANES, green[k]), store(out + 2 * LANES, blue[k]);
        store(out + 3 * LANES, depth[k]), store(out + 4 * LANES, 1.0f - T[k]);
    }
}

// pair_grad[pair][16]: the sums of each pair, as `gather` wants them
template <int W, int H>
void composite_adjoint(
    const Scene& scene, const Lists& lists, int tile, const float* state, const float* grad, float* pair_grad) {
    using S = Shape<W, H>;
    const int left = tile % lists.tiles_x * W, top = tile / lists.tiles_x * H;
    const S shape(left, top);
    const std::size_t begin = std::size_t(tile) * W * H * CHANNELS;
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
        for (const int batch_end = std::min(at + BATCH, end); at < batch_end; at++) {
            __builtin_prefetch(&scene.splats[lists.splat[at + AHEAD]]);
            __builtin_prefetch(pair_grad + std::size_t(lists.pair[at + AHEAD]) * 16, 1);
            const Splat& s = scene.splats[lists.splat[at]];
            const auto exponent = Exponent<W, H>::of(shape, s);
            F sum[SUMS] = {};
            int first, past;
            reach<W, H>(s, top, first, past);
            for (int k0 = first; k0 < past; k0 += TOGETHER) {
                F e[TOGETHER], p[TOGETHER], dy[TOGETHER], weight[TOGETHER], d[TOGETHER];
                Mask unclamped[TOGETHER];
                for (int j = 0; j < TOGETHER; j++) dy[j] = exponent.dy(k0 + j), e[j] = exponent.at(k0 + j, dy[j]);
                exp_packed(e, p);
                for (int j = 0; j < TOGETHER; j++) unclamped[j] = below(p[j], all(MAX_ALPHA));
                for (int j = 0; j < TOGETHER; j++) p[j] = only(at_least(e[j], all(LOWEST)), least(p[j], all(MAX_ALPHA)));
                for (int j = 0, k = k0; j < TOGETHER; j++, k++) {
                    const F here = p[j] * T[k];
                    alive[k] = both(alive[k], at_least(T[k] - here, all(MIN_TRANSMITTANCE)));
                    weight[j] = only(alive[k], here);
                    T[k] -= weight[j];
                }
                for (int j = 0, k = k0; j < TOGETHER; j++, k++) {
                    const F color = g[k][0] * s.red + g[k][1] * s.green + g[k][2] * s.blue + g[k][3] * s.depth + g[k][4];
                    const F value = weight[j] * color;
                    behind[k] -= value;
                    d[j] = only(both(alive[k], unclamped[j]), value - behind[k] * (p[j] * inverse(1.0f - p[j])));
                }
                for (int j = 0, k = k0; j < TOGETHER; j++, k++) {
                    const F d_dy = d[j] * dy[j];
                    sum[0] += d[j], sum[3] += d_dy, sum[5] += d_dy * dy[j];
                    if constexpr (S::PARTS > 1) {
                        const F dx = exponent.dx[k % S::PARTS], d_dx = d[j] * dx;
                        sum[1] += d_dx, sum[2] += d_dx * dx, sum[4] += d_dy * dx;
                    }
                }
                for (int c = 0; c < 4; c++)
                    for (int j = 0; j < TOGETHER; j++) sum[6 + c] += weight[j] * g[k0 + j][c];
            }
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
        if (!any_of(alive, S::VECTORS)) break;
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
    lists.splat.resize(lists.splat.size() + AHEAD), lists.pair.resize(lists.splat.size());  // fetched ahead, never used
    return lists;
}

void print(const char* name, const std::vector<double>& runs, const char* after) {
    std::printf("\"%s\": [", name);
    for (std::size_t i = 0; i < runs.size(); i++) std::printf("%s%.3f", i ? ", " : "", runs[i]);
    std::printf("]%s", after);
}

template <int W, int H>
void measure(const Scene& scene, const Lists& given, int tile, int threads, int repeats, std::FILE* out, bool last) {
    const Lists lists = lists_of(scene, given, tile, W, H);
    const int tiles = lists.tiles_x * lists.tiles_y, count = int(scene.splats.size());
    const std::size_t pixels = std::size_t(tiles) * W * H;
    Aligned<float> state(pixels * CHANNELS), grad(pixels * CHANNELS), pair_grad(lists.splat.size() * 16);
    std::vector<float> gradients(std::size_t(count) * SUMS);
    auto pixel = [&](std::size_t p, auto&& at) {  // the place of pixel p of the tiles in the picture, where it lies in it
        const int t = int(p / (W * H)), i = int(p % (W * H)), k = i / LANES;
        const int x = t % lists.tiles_x * W + i % W, y = t / lists.tiles_x * H + i / W;
        for (int c = 0; c < CHANNELS; c++) {
            const std::size_t there = std::size_t(t) * W * H * CHANNELS + (k * CHANNELS + c) * LANES + i % LANES;
            at(there, x < scene.width && y < scene.height, (std::size_t(c) * scene.height + y) * scene.width + x);
        }
    };
    for (std::size_t p = 0; p < pixels; p++)
        pixel(p, [&](std::size_t there, bool inside, std::size_t here) {
            grad.data[there] = inside ? scene.gradient[here] : 0.0f;
        });

    std::printf("  {\"tile\": \"%dx%d\", \"pairs\": %zu", W, H, (lists.splat.size() - AHEAD) * W * H);
    for (int used : {1, threads}) {
        std::vector<double> forward, backward, gathering;
        for (int run = 0; run < repeats + 1; run++) {
            const double f = milliseconds(used, [&] {
                each(tiles, used, 16, [&](int t) { composite<W, H>(scene, lists, t, state.data); });
            });
            const double b = milliseconds(used, [&] {
                each(tiles, used, 16, [&](int t) {
                    composite_adjoint<W, H>(scene, lists, t, state.data, grad.data, pair_grad.data);
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
    std::printf("}%s\n", last ? "" : ",");

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
        scene.splats.push_back({r[0], r[1], -0.0625f * r[2], -0.125f * r[3], -0.0625f * r[4], log_opacity, r[6], r[7], r[8], r[9], std::floor(r[1] - drawn - 0.5f), std::ceil(r[1] + drawn - 0.5f)});
    }
    const int threads = std::atoi(argv[3]), repeats = std::atoi(argv[4]);
    std::printf("{\"lanes\": %d, \"shapes\": [\n", LANES);
    measure<8, 8>(scene, lists, tile, threads, repeats, out, false);
    measure<16, 8>(scene, lists, tile, threads, repeats, out, false);
    measure<16, 16>(scene, lists, tile, threads, repeats, out, true);
    std::printf("]}\n");
    std::fclose(out);
}
