"""Which splats touch which tile, in depth order: group_records, pack, list_pairs, scatter (a stable counting sort).

Tiles are TILE x TILE pixels. A splat is listed exactly in the tiles that hold a pixel centre where its alpha can reach 1/255,
with the quads of the tile that do.
A "pair" is one splat in one tile. Pairs are numbered splat by splat in depth order, so that the gradients of a splat are
contiguous and are summed in a fixed order, without atomics.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import LANES, Vec, lane_sum
from taichi_avatars.kernels.tasks import TASK
from taichi_avatars.kernels.types import Bounds, F32x2, I32x1, I32x2, Packed, Splat

TILE = 8  # pixels along each side
TILE_SHIFT = TILE.bit_length() - 1  # a shift instead of a division, which Taichi rounds down with branches
QUAD = TILE // 2  # the compositing kernel works on a tile's four quads of 4x4 pixels, and skips those that a splat misses
MIN_ALPHA = 1.0 / 255.0  # below it a splat is not drawn at a pixel
MAX_ALPHA = 0.99
MIN_TRANSMITTANCE = 1e-4  # a pixel stops before the splat that would take its T below this

EXP_STEP = 1.0 / 8.0  # the compositing kernel computes exp(x) as (polynomial of x/8)^8
PIXEL_MARGIN = 1e-3  # pixels; margin for rounding at the edge of a splat, where the kernel decides exactly
EXPONENT_MARGIN = 2e-6  # of ln alpha; the same for a splat that is barely opaque enough
FORM_MARGIN = 1e-6  # fraction of A dx^2 + C dy^2; a needle's form is their small difference to B dx dy

SPILL = 4  # entries that a chunk may write past its last one while it lists its pairs

# An entry of a tile's list: the index of the splat's record, and in the lowest bits the quads of the tile that it touches:
# 1 upper left, 2 upper right, 4 lower left, 8 lower right.
QUAD_BITS = 4


# The region that a splat reaches: `Bounds` as numbers.
Reach = ti.types.struct(
    x=ti.f32, y=ti.f32, half_width=ti.f32, half_height=ti.f32, A=ti.f32, B=ti.f32, C=ti.f32,
    of_column=ti.f32, of_row=ti.f32, waist=ti.f32,
)  # fmt: skip


@ti.func
def first_tile(low, tiles):
    """First tile whose pixel centres may lie at or above `low` pixels, clamped to [0, tiles]."""
    return ti.cast(ti.min(ti.max(ti.ceil(low - 0.5 - PIXEL_MARGIN), 0.0), ti.cast(tiles * TILE, ti.f32)), ti.i32) >> TILE_SHIFT


@ti.func
def past_tile(high, tiles):
    """One past the last tile whose pixel centres may lie at or below `high` pixels, clamped to [0, tiles]."""
    last = ti.min(ti.max(ti.floor(high - 0.5 + PIXEL_MARGIN), -1.0), ti.cast(tiles * TILE - 1, ti.f32))
    return (ti.cast(last, ti.i32) + TILE) >> TILE_SHIFT


@ti.func
def read_reach(bounds: ti.template(), i):
    return Reach(
        x=bounds[i, Bounds.X], y=bounds[i, Bounds.Y],
        half_width=bounds[i, Bounds.HALF_WIDTH], half_height=bounds[i, Bounds.HALF_HEIGHT],
        A=bounds[i, Bounds.A], B=bounds[i, Bounds.B], C=bounds[i, Bounds.C],
        of_column=bounds[i, Bounds.OF_COLUMN], of_row=bounds[i, Bounds.OF_ROW], waist=bounds[i, Bounds.WAIST],
    )  # fmt: skip


@ti.func
def tile_rows(r, tiles_y):
    """First and one past the last row of tiles that a splat touches."""
    return first_tile(r.y - r.half_height, tiles_y), past_tile(r.y + r.half_height, tiles_y)


@ti.func
def tile_columns(r, row, rows: ti.template(), tiles_x):
    """First and one past the last tile that a splat may touch in a band of `rows` rows of tiles."""
    above = ti.cast(row * TILE, ti.f32) + 0.5 - r.y
    at_top = r.of_row * ti.min(ti.max(above, -r.half_height), r.half_height)  # the middle of a row of the ellipse
    at_bottom = r.of_row * ti.min(ti.max(above + (rows * TILE - 1.0), -r.half_height), r.half_height)
    left = ti.max(ti.min(at_top, at_bottom) - r.waist, -r.half_width)
    right = ti.min(ti.max(at_top, at_bottom) + r.waist, r.half_width)
    return first_tile(r.x + left, tiles_x), past_tile(r.x + right, tiles_x)


@ti.func
def least_form(r, left, top):
    """The minimum of a splat's form over the rectangle of a quad's pixel centres; it touches the quad if that is <= 1.

    left, top: from the splat's centre to the quad's first pixel centre; scalars, or vectors for many quads at once.
    """
    right, bottom = left + (QUAD - 1.0), top + (QUAD - 1.0)
    near_x, near_y = ti.min(ti.max(left, 0.0), right), ti.min(ti.max(top, 0.0), bottom)
    # The form is convex, so its minimum lies at the centre or on one of the two sides that face it.
    y = ti.min(ti.max(near_x * r.of_column, top), bottom)
    x = ti.min(ti.max(near_y * r.of_row, left), right)
    A, C = r.A * (1.0 - FORM_MARGIN), r.C * (1.0 - FORM_MARGIN)
    on_column = near_x * (near_x * A + y * r.B) + y * y * C
    on_row = near_y * (near_y * C + x * r.B) + x * x * A
    return ti.min(on_column, on_row)


@ti.func
def center_tile(splats: ti.template(), g, tiles_x, tiles_y):
    """The tile of a splat's centre, or the one nearest to it."""
    x = ti.min(ti.max(splats[g, Splat.X], 0.0), ti.cast(tiles_x * TILE - 1, ti.f32))
    y = ti.min(ti.max(splats[g, Splat.Y], 0.0), ti.cast(tiles_y * TILE - 1, ti.f32))
    return (ti.cast(y, ti.i32) >> TILE_SHIFT) * tiles_x + (ti.cast(x, ti.i32) >> TILE_SHIFT)


@ti.kernel
def group_records(tiles_x: ti.i32, tiles_y: ti.i32, splats: F32x2, slot: I32x1, place: I32x1, splat_at: I32x1):
    """Where each splat's record goes, so that the splats of a tile are contiguous. slot (tiles,): scratch.

    place: (N,) of each splat.  splat_at: (N,) the splat at each place.
    """
    for _ in range(1):
        for tile in range(slot.shape[0]):
            slot[tile] = 0
        for g in range(splats.shape[0]):
            tile = center_tile(splats, g, tiles_x, tiles_y)
            slot[tile] = slot[tile] + 1
        at = 0
        for tile in range(slot.shape[0]):
            here = slot[tile]
            slot[tile] = at
            at += here
        for g in range(splats.shape[0]):
            tile = center_tile(splats, g, tiles_x, tiles_y)
            at = slot[tile]
            slot[tile] = at + 1
            place[g] = at
            splat_at[at] = g


@ti.kernel
def pack(
    tiles_x: ti.i32,
    tiles_y: ti.i32,
    order: I32x1,
    splat_at: I32x1,
    splats: F32x2,
    packed: F32x2,
    bounds: F32x2,
    most_pairs: I32x1,
):
    """packed: tile by tile. bounds, and most_pairs, a bound on the pairs of each splat: in depth order."""
    for at in range(packed.shape[0]):
        g = splat_at[at]
        packed[at, Packed.X], packed[at, Packed.Y] = splats[g, Splat.X], splats[g, Splat.Y]
        packed[at, Packed.A] = -0.5 * EXP_STEP * splats[g, Splat.A]
        packed[at, Packed.B] = -EXP_STEP * splats[g, Splat.B]
        packed[at, Packed.C] = -0.5 * EXP_STEP * splats[g, Splat.C]
        packed[at, Packed.LOG_OPACITY] = EXP_STEP * ti.log(ti.max(splats[g, Splat.OPACITY], 1e-12))
        for k in ti.static(range(4)):
            packed[at, Packed.RED + k] = splats[g, Splat.RED + k]
    for i in range(bounds.shape[0]):
        g = order[i]
        a, b, c, opacity = splats[g, Splat.A], splats[g, Splat.B], splats[g, Splat.C], splats[g, Splat.OPACITY]
        x, half_width = splats[g, Splat.X], splats[g, Splat.HALF_WIDTH]
        # alpha >= 1/255 where q <= 2 ln(255 opacity)
        reach = 1.0 / (2.0 * ti.log(ti.max(opacity / MIN_ALPHA, 1.0)) + EXPONENT_MARGIN)
        bounds[i, Bounds.X], bounds[i, Bounds.Y], bounds[i, Bounds.HALF_WIDTH] = x, splats[g, Splat.Y], half_width
        # A splat that is not drawn lies outside every tile.
        bounds[i, Bounds.HALF_HEIGHT] = ti.select(opacity >= MIN_ALPHA, splats[g, Splat.HALF_HEIGHT], -1e9)
        bounds[i, Bounds.A], bounds[i, Bounds.B], bounds[i, Bounds.C] = a * reach, 2.0 * b * reach, c * reach
        bounds[i, Bounds.OF_COLUMN], bounds[i, Bounds.OF_ROW] = -b / ti.max(c, 1e-20), -b / ti.max(a, 1e-20)
        bounds[i, Bounds.WAIST] = 1.0 / ti.sqrt(ti.max(a * reach, 1e-20))
        first, past = tile_rows(read_reach(bounds, i), tiles_y)
        left, right = first_tile(x - half_width, tiles_x), past_tile(x + half_width, tiles_x)
        most_pairs[i] = ti.max(past - first, 0) * ti.max(right - left, 0)


@ti.func
def block_x():
    """Pixel centres of the 16 quads of 2x2 tiles, tile by tile: each lane's first column."""
    return Vec([(lane // 4 % 2) * TILE + lane % 2 * QUAD + 0.5 for lane in range(LANES)])


@ti.func
def block_y():
    """Each lane's first row."""
    return Vec([lane // 8 * TILE + lane // 2 % 2 * QUAD + 0.5 for lane in range(LANES)])


@ti.kernel
def list_pairs(
    tiles_x: ti.i32, tiles_y: ti.i32, chunk: ti.i32, bounds: F32x2, most_pairs_end: I32x1,
    pairs: I32x1, tile_count: I32x2, splat_count: I32x1,
):  # fmt: skip
    """pairs (the sum of most_pairs, and SPILL per chunk): tile and quads of every pair, each chunk's after those before it.

    tile_count (chunks, tiles): pairs of each chunk of splats in each tile.  splat_count: pairs of each splat.
    """
    ti.loop_config(block_dim=1)
    for step in range(tile_count.shape[0] * TASK):
        if step % TASK != 0:
            continue
        c = step // TASK
        for t in range(tile_count.shape[1]):
            tile_count[c, t] = 0
        bit = Vec([float(1 << lane) for lane in range(LANES)])
        at = c * SPILL
        if c > 0:
            at += most_pairs_end[ti.min(c * chunk, bounds.shape[0]) - 1]
        for i in range(c * chunk, ti.min((c + 1) * chunk, bounds.shape[0])):
            begun, r = at, read_reach(bounds, i)
            row, past = tile_rows(r, tiles_y)
            while row < past:
                column, end = tile_columns(r, row, 2, tiles_x)
                top = block_y() + (ti.cast(row * TILE, ti.f32) - r.y)
                whole = 0xFFFF if row + 1 < past else 0x00FF
                while column < end:
                    left = block_x() + (ti.cast(column * TILE, ti.f32) - r.x)
                    hit = ti.cast(lane_sum(ti.select(least_form(r, left, top) <= 1.0, bit, 0.0)), ti.i32) & whole
                    if column + 1 == end:
                        hit = hit & 0x0F0F
                    for t in ti.static(range(4)):  # always written, and overwritten if it is no pair: no branch to mispredict
                        quads = hit >> (4 * t) & 15
                        one = ti.select(quads > 0, 1, 0)
                        tile = ((row + t // 2) * tiles_x + column + t % 2) * one
                        pairs[at] = (tile << QUAD_BITS) + quads
                        tile_count[c, tile] = tile_count[c, tile] + one
                        at += one
                    column += 2
                row += 2
            splat_count[i] = at - begun


@ti.kernel
def scatter(
    chunk: ti.i32, order: I32x1, place: I32x1, most_pairs_end: I32x1, pairs: I32x1, splat_end: I32x1,
    slot: I32x2, tile_end: I32x1, entries: I32x2,
):  # fmt: skip
    """Fills the tiles' lists: index of the splat's record with its quads, number of the pair.

    slot (chunks, tiles): `tile_count` of `list_pairs`; then where each chunk writes next.
    """
    for _ in range(1):
        at = 0
        for tile in range(slot.shape[1]):
            for c in range(slot.shape[0]):
                here = slot[c, tile]
                slot[c, tile] = at
                at += here
            tile_end[tile] = at
    ti.loop_config(block_dim=1)
    for step in range(slot.shape[0] * TASK):
        if step % TASK != 0:
            continue
        c = step // TASK
        ahead, pair = c * SPILL, 0
        if c > 0:
            pair = splat_end[ti.min(c * chunk, order.shape[0]) - 1]
            ahead += most_pairs_end[ti.min(c * chunk, order.shape[0]) - 1] - pair
        for i in range(c * chunk, ti.min((c + 1) * chunk, order.shape[0])):
            record = place[order[i]] << QUAD_BITS
            while pair < splat_end[i]:
                tile_and_quads = pairs[ahead + pair]
                tile = tile_and_quads >> QUAD_BITS
                at = slot[c, tile]
                slot[c, tile] = at + 1
                entries[at, 0], entries[at, 1] = record + (tile_and_quads & 15), pair
                pair += 1
