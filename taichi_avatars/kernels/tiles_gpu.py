"""Tile lists on a GPU: one thread per splat counts and lists its pairs; sorting them by tile is left to torch.

`tiles.py` defines splats, pairs, and which tiles a splat touches; `pack` is there, too.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.tiles import QUAD, QUAD_BITS, TILE, least_form, read_reach, tile_columns, tile_rows
from taichi_avatars.kernels.types import F32x2, I32x1


@ti.func
def touched(r, row, column):
    """Which quads of a tile a splat touches, a bit each."""
    quads = 0
    for k in ti.static(range(4)):
        left = ti.cast(column * TILE + k % 2 * QUAD, ti.f32) + 0.5 - r.x
        top = ti.cast(row * TILE + k // 2 * QUAD, ti.f32) + 0.5 - r.y
        quads += ti.select(least_form(r, left, top) <= 1.0, 1 << k, 0)
    return quads


@ti.kernel
def count_pairs(tiles_x: ti.i32, tiles_y: ti.i32, bounds: F32x2, pairs: I32x1):
    """pairs (M,): how many tiles each splat touches."""
    for i in range(bounds.shape[0]):
        total = 0
        r = read_reach(bounds, i)
        first, past = tile_rows(r, tiles_y)
        for row in range(first, past):
            begin, end = tile_columns(r, row, 1, tiles_x)
            for column in range(begin, end):
                if touched(r, row, column) > 0:
                    total += 1
        pairs[i] = total


@ti.kernel
def list_pairs(tiles_x: ti.i32, tiles_y: ti.i32, bounds: F32x2, splat_end: I32x1, tile: I32x1, entry: I32x1):
    """tile, and entry (splat and quads, as `tiles.py` says) (P,): of each pair.

    A driver may round differently here than in `count_pairs`. Pairs beyond the count are dropped; missing ones are assigned
    to a tile after the last, which is never drawn. Either way alpha is below 1/255 there but for that rounding.
    """
    for i in range(bounds.shape[0]):
        pair, stop = 0, splat_end[i]
        if i > 0:
            pair = splat_end[i - 1]
        r = read_reach(bounds, i)
        first, past = tile_rows(r, tiles_y)
        for row in range(first, past):
            begin, end = tile_columns(r, row, 1, tiles_x)
            for column in range(begin, end):
                quads = touched(r, row, column)
                if pair < stop and quads > 0:
                    tile[pair], entry[pair] = row * tiles_x + column, (i << QUAD_BITS) + quads
                    pair += 1
        while pair < stop:
            tile[pair], entry[pair] = tiles_x * tiles_y, i << QUAD_BITS
            pair += 1
