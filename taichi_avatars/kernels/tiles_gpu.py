"""Tile lists on a GPU: one thread per splat counts and lists its pairs; sorting them by tile is left to torch.

What a splat and a pair are, and which tiles a splat touches, is in `tiles.py`; so is `pack`.
"""

import taichi as ti

from taichi_avatars.kernels.tiles import tile_columns, tile_rows, touched

F32x2 = ti.types.ndarray(dtype=ti.f32, ndim=2)
I32x1 = ti.types.ndarray(dtype=ti.i32, ndim=1)


@ti.kernel
def count_pairs(tiles_x: ti.i32, tiles_y: ti.i32, bounds: F32x2, pairs: I32x1):
    """pairs (M,): how many tiles each splat touches."""
    for i in range(bounds.shape[0]):
        total = 0
        first, past = tile_rows(bounds, i, tiles_y)
        for row in range(first, past):
            begin, end, spans = tile_columns(bounds, i, row, tiles_x)
            for column in range(begin, end):
                if touched(column, spans) > 0:
                    total += 1
        pairs[i] = total


@ti.kernel
def list_pairs(
    tiles_x: ti.i32, tiles_y: ti.i32, bounds: F32x2, splat_end: I32x1, tile: I32x1, splat: I32x1, quads: I32x1
):  # fmt: skip
    """tile, splat, quads (P,): of each pair.

    A driver may round differently here than in `count_pairs`. Pairs beyond the count are left out; those that are missing go
    to the tile behind the last, which nobody draws. Either way alpha is below 1/255 there but for that rounding.
    """
    for i in range(bounds.shape[0]):
        pair, stop = 0, splat_end[i]
        if i > 0:
            pair = splat_end[i - 1]
        first, past = tile_rows(bounds, i, tiles_y)
        for row in range(first, past):
            begin, end, spans = tile_columns(bounds, i, row, tiles_x)
            for column in range(begin, end):
                hit = touched(column, spans)
                if pair < stop and hit > 0:
                    tile[pair], splat[pair], quads[pair] = row * tiles_x + column, i, hit
                    pair += 1
        while pair < stop:
            tile[pair], splat[pair], quads[pair] = tiles_x * tiles_y, i, 0
            pair += 1
