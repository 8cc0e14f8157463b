"""Which splats touch which tile, in depth order: pack, count, scatter (a stable counting sort).

Tiles are TILE x TILE pixels. A splat is listed exactly in the tiles that hold a pixel centre where its alpha can reach 1/255,
with the quads of the tile that do.
A "pair" is one splat in one tile. Pairs are numbered splat by splat in depth order, so that the gradients of a splat lie side
by side and are summed in a fixed order, without atomics.
"""

import taichi as ti

from taichi_avatars.kernels.tasks import TASK

TILE = 8  # pixels along each side
QUAD = TILE // 2  # the compositing kernel works on a tile's four quads of 4x4 pixels, and skips those that a splat misses
MIN_ALPHA = 1.0 / 255.0  # below it a splat is not drawn at a pixel
MAX_ALPHA = 0.99
MIN_TRANSMITTANCE = 1e-4  # a pixel stops before the splat that would take it below
PACKED = 12
BOUNDS = 8

# A packed splat, as the compositing kernel wants it: 0 x, 1 y, 2-4 conic and 5 log opacity in its units, 6-8 colour, 9 depth.
# Its bounds, for what is on this page: 0 x, 1 y, 2 half height, 3 b / a, 4 height at which the ellipse reaches furthest right,
# 5 half width at the height of the centre, 6 1 / half height.
EXP_STEP = 1.0 / 8.0  # the compositing kernel computes exp(x) as (polynomial of x/8)^8
FLOAT_MARGIN = 1e-3  # pixels; what rounding may cost at the edge of a splat, the kernel decides exactly

F32x2 = ti.types.ndarray(dtype=ti.f32, ndim=2)
I32x1 = ti.types.ndarray(dtype=ti.i32, ndim=1)
I32x2 = ti.types.ndarray(dtype=ti.i32, ndim=2)


@ti.func
def first_cell(low, size: ti.template(), cells):
    """First cell, of `size` pixels each, whose pixel centres may lie at or above `low` pixels, clamped to [0, cells]."""
    return ti.cast(ti.min(ti.max(ti.ceil(low - 0.5 - FLOAT_MARGIN), 0.0), ti.cast(cells * size, ti.f32)), ti.i32) >> ti.static(
        size.bit_length() - 1
    )


@ti.func
def past_cell(high, size: ti.template(), cells):
    """One past the last cell whose pixel centres may lie at or below `high` pixels, clamped to [0, cells]."""
    last = ti.min(ti.max(ti.floor(high - 0.5 + FLOAT_MARGIN), -1.0), ti.cast(cells * size - 1, ti.f32))
    return (ti.cast(last, ti.i32) + size) >> ti.static(size.bit_length() - 1)


@ti.func
def tile_rows(bounds: ti.template(), i, tiles_y):
    """First and one past the last row of tiles that splat i touches."""
    y, half_height = bounds[i, 1], bounds[i, 2]
    return first_cell(y - half_height, TILE, tiles_y), past_cell(y + half_height, TILE, tiles_y)


@ti.func
def quad_columns(bounds: ti.template(), i, line, quads_x):
    """First and one past the last quad that splat i touches in a row of quads: its ellipse cut by a band of pixel centres."""
    x, y, half_height = bounds[i, 0], bounds[i, 1], bounds[i, 2]
    above = ti.cast(line * QUAD, ti.f32) + 0.5 - y
    below = above + (QUAD - 1.0)
    top, bottom = ti.min(ti.max(above, -half_height), half_height), ti.max(ti.min(below, half_height), -half_height)
    slope, waist = bounds[i, 3], bounds[i, 5]
    right_y = ti.min(ti.max(bounds[i, 4], top), bottom)
    left_y = ti.min(ti.max(-bounds[i, 4], top), bottom)
    right_part, left_part = right_y * bounds[i, 6], left_y * bounds[i, 6]
    right = -slope * right_y + waist * ti.sqrt(ti.max(1.0 - right_part * right_part, 0.0))
    left = -slope * left_y - waist * ti.sqrt(ti.max(1.0 - left_part * left_part, 0.0))
    hit = (above <= half_height + FLOAT_MARGIN) & (below >= -half_height - FLOAT_MARGIN)
    begin = ti.select(hit, first_cell(x + left, QUAD, quads_x), quads_x)
    end = ti.select(hit, past_cell(x + right, QUAD, quads_x), 0)
    return begin, end


@ti.func
def tile_columns(bounds: ti.template(), i, row, tiles_x):
    """First and one past the last tile of a row that splat i may touch; and the spans of its two rows of quads."""
    begin, end = quad_columns(bounds, i, 2 * row, 2 * tiles_x)
    begin_below, end_below = quad_columns(bounds, i, 2 * row + 1, 2 * tiles_x)
    spans = ti.Vector([begin, end, begin_below, end_below])
    return ti.min(begin, begin_below) >> 1, (ti.max(end, end_below) + 1) >> 1, spans


@ti.func
def touched(column, spans):
    """Which quads of a tile lie in its two rows' spans: bit 0 upper left, 1 upper right, 2 lower left, 3 lower right."""
    left, right = 2 * column, 2 * column + 1
    upper_left, upper_right = (spans[0] <= left) & (left < spans[1]), (spans[0] <= right) & (right < spans[1])
    lower_left, lower_right = (spans[2] <= left) & (left < spans[3]), (spans[2] <= right) & (right < spans[3])
    upper = ti.cast(upper_left, ti.i32) + 2 * ti.cast(upper_right, ti.i32)
    return upper + 4 * ti.cast(lower_left, ti.i32) + 8 * ti.cast(lower_right, ti.i32)


@ti.func
def home(splats: ti.template(), g, tiles_x, tiles_y):
    """The tile of a splat's centre, or the one nearest to it."""
    x = ti.min(ti.max(splats[g, 0], 0.0), ti.cast(tiles_x * TILE - 1, ti.f32))
    y = ti.min(ti.max(splats[g, 1], 0.0), ti.cast(tiles_y * TILE - 1, ti.f32))
    return ti.cast(y, ti.i32) // TILE * tiles_x + ti.cast(x, ti.i32) // TILE


@ti.kernel
def settle(tiles_x: ti.i32, tiles_y: ti.i32, splats: F32x2, slot: I32x1, place: I32x1, resident: I32x1):
    """Where each splat's record goes, so that a tile finds its splats side by side. slot (tiles,): scratch.

    place: (N,) of each splat.  resident: (N,) the splat at each place.
    """
    for _ in range(1):
        for tile in range(slot.shape[0]):
            slot[tile] = 0
        for g in range(splats.shape[0]):
            tile = home(splats, g, tiles_x, tiles_y)
            slot[tile] = slot[tile] + 1
        at = 0
        for tile in range(slot.shape[0]):
            here = slot[tile]
            slot[tile] = at
            at += here
        for g in range(splats.shape[0]):
            tile = home(splats, g, tiles_x, tiles_y)
            at = slot[tile]
            slot[tile] = at + 1
            place[g] = at
            resident[at] = g


@ti.kernel
def pack(order: I32x1, resident: I32x1, splats: F32x2, packed: F32x2, bounds: F32x2):
    """packed: tile by tile. bounds: in depth order."""
    for at in range(packed.shape[0]):
        g = resident[at]
        packed[at, 0], packed[at, 1] = splats[g, 0], splats[g, 1]
        packed[at, 2], packed[at, 3] = -0.5 * EXP_STEP * splats[g, 2], -EXP_STEP * splats[g, 3]
        packed[at, 4] = -0.5 * EXP_STEP * splats[g, 4]
        packed[at, 5] = EXP_STEP * ti.log(ti.max(splats[g, 5], 1e-12))
        for k in ti.static(range(6, 10)):
            packed[at, k] = splats[g, k]
    for i in range(bounds.shape[0]):
        g = order[i]
        a, b, c, opacity = splats[g, 2], splats[g, 3], splats[g, 4], splats[g, 5]
        bounds[i, 0], bounds[i, 1] = splats[g, 0], splats[g, 1]
        # An undrawn splat lies outside every tile.
        bounds[i, 2] = ti.select(opacity >= MIN_ALPHA, ti.max(splats[g, 11], 1e-6), -1e9)
        bounds[i, 3], bounds[i, 4] = b / ti.max(a, 1e-20), -b / ti.max(c, 1e-20) * splats[g, 10]
        # q <= r^2 at dy = 0 where |dx| <= r / sqrt(a); r = half width / sqrt(covariance), here from opacity again
        bounds[i, 5] = ti.sqrt(2.0 * ti.log(ti.max(opacity / MIN_ALPHA, 1.0)) / ti.max(a, 1e-20))
        bounds[i, 6] = 1.0 / ti.max(splats[g, 11], 1e-6)


@ti.kernel
def count(tiles_x: ti.i32, tiles_y: ti.i32, chunk: ti.i32, bounds: F32x2, tile_count: I32x2, splat_count: I32x1):
    """tile_count (chunks, tiles): pairs of each chunk of splats in each tile; splat_count: pairs of each splat."""
    ti.loop_config(block_dim=1)
    for step in range(tile_count.shape[0] * TASK):
        if step % TASK != 0:
            continue
        c = step // TASK
        for t in range(tile_count.shape[1]):
            tile_count[c, t] = 0
        for i in range(c * chunk, ti.min((c + 1) * chunk, bounds.shape[0])):
            pairs = 0
            first, past = tile_rows(bounds, i, tiles_y)
            for row in range(first, past):
                begin, end, spans = tile_columns(bounds, i, row, tiles_x)
                for column in range(begin, end):
                    if touched(column, spans) > 0:
                        tile_count[c, row * tiles_x + column] = tile_count[c, row * tiles_x + column] + 1
                        pairs += 1
            splat_count[i] = pairs


@ti.kernel
def scatter(
    tiles_x: ti.i32, tiles_y: ti.i32, chunk: ti.i32, bounds: F32x2, order: I32x1, place: I32x1,
    splat_end: I32x1, slot: I32x2, entries: I32x2,
):  # fmt: skip
    """Fills the tiles' lists: place of the splat, pair, its quads. slot (chunks, tiles): where each chunk writes next."""
    ti.loop_config(block_dim=1)
    for step in range(slot.shape[0] * TASK):
        if step % TASK != 0:
            continue
        c = step // TASK
        for i in range(c * chunk, ti.min((c + 1) * chunk, bounds.shape[0])):
            pair, at_place = 0, place[order[i]]
            if i > 0:
                pair = splat_end[i - 1]
            first, past = tile_rows(bounds, i, tiles_y)
            for row in range(first, past):
                begin, end, spans = tile_columns(bounds, i, row, tiles_x)
                for column in range(begin, end):
                    quads = touched(column, spans)
                    if quads > 0:
                        tile = row * tiles_x + column
                        at = slot[c, tile]
                        slot[c, tile] = at + 1
                        entries[at, 0], entries[at, 1], entries[at, 2] = at_place, pair, quads
                        pair += 1
