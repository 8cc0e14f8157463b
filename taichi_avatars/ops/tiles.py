"""Depth order and tile lists: which splats each tile composites, front to back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime


class TileLists(NamedTuple):
    """Lists of splats per tile, front to back. M splats in depth order, P pairs of a splat and a tile it touches.

    order: (M,) int64 splat at each place of the depth order.  packed: (M,16) as `kernels.tiles` lists it.
    tile_end: (tiles,) int32 one past each tile's last entry in the lists.
    splat_of, pair_of: (P,) int32 the lists: place in the depth order, and number of the pair, counted splat by splat.
    splat_end: (M,) int32 one past each splat's last pair.
    """

    order: Tensor
    packed: Tensor
    tile_end: Tensor
    splat_of: Tensor
    pair_of: Tensor
    splat_end: Tensor
    tiles_x: int
    tiles_y: int


def sort_into_tiles(rows: Tensor, width: int, height: int) -> TileLists:
    """Depth order (ties by index), then a stable counting sort into tiles.

    Args:
        rows: (N,12) splats, see `kernels.projection`.
        width, height: image size, pixels.
    """
    from taichi_avatars.kernels import tiles as kernel

    tiles_x, tiles_y = -(-width // kernel.TILE), -(-height // kernel.TILE)
    n, tiles = len(rows), tiles_x * tiles_y
    order = torch.sort(rows[:, 9], stable=True).indices
    packed = rows.new_empty(n, kernel.PACKED)
    # Each chunk of splats counts and scatters on its own, so that the lists come out the same for any number of threads.
    chunks = max(1, min(2 * runtime.threads(), -(-n // 64)))
    chunk = max(1, -(-n // chunks))
    count = torch.empty(chunks, tiles, dtype=torch.int32)
    pairs = torch.empty(n, dtype=torch.int32)
    if n:
        kernel.pack(order, rows, packed)
    kernel.count(tiles_x, tiles_y, chunk, packed, count, pairs)
    splat_end = torch.cumsum(pairs, 0, dtype=torch.int32)
    by_tile = count.T.reshape(-1)  # tile by tile, chunk by chunk: the order of the lists
    ends = torch.cumsum(by_tile, 0, dtype=torch.int32)
    slot = (ends - by_tile).view(tiles, chunks).T.contiguous()
    total = int(ends[-1])
    pair_of, splat_of = torch.empty(2, max(total, 1), dtype=torch.int32)
    kernel.scatter(tiles_x, tiles_y, chunk, packed, splat_end, slot, pair_of, splat_of)
    return TileLists(
        order, packed, ends.view(tiles, chunks)[:, -1].contiguous(), splat_of, pair_of, splat_end, tiles_x, tiles_y
    )
