"""Depth order and tile lists: which splats each tile composites, front to back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.errors import UserError

SHORTEST_TASK = 64  # splats
MOST_PAIRS = 2**31 - 1


class TileLists(NamedTuple):
    """Lists of splats per tile, front to back. M splats in depth order, P pairs of a splat and a tile it touches.

    order: (M,) int32 splat at each rank of the depth order.
    packed: (M,12) as `kernels.tiles` lists it.  place: (M,) int32 each splat's row in it.
    tile_end: (tiles,) int32 one past each tile's last entry.
    entries: (P,3) int32 the lists: the splat's place, number of the pair, counted splat by splat, and the quads of the
        tile that it touches, a bit each (`kernels.tiles.touched`).
    splat_end: (M,) int32 one past each splat's last pair.
    """

    order: Tensor
    packed: Tensor
    place: Tensor
    tile_end: Tensor
    entries: Tensor
    splat_end: Tensor
    tiles_x: int
    tiles_y: int


def _chunks(count: int) -> tuple[int, int]:
    """Into how many tasks to cut `count` splats, and how long each is. What comes out is the same for any number of tasks."""
    chunks = max(1, min(2 * runtime.threads(), -(-count // SHORTEST_TASK)))
    return chunks, max(1, -(-count // chunks))


def depth_order(depths: Tensor) -> Tensor:
    """(N,) int32 indices that sort depths (N,), none negative, front to back; ties by index."""
    from taichi_avatars.kernels import order as kernel

    count = len(depths)
    chunks, chunk = _chunks(count)
    keys, items = depths.contiguous().view(torch.int32), torch.arange(count, dtype=torch.int32)
    if count == 0:
        return items
    slot = torch.empty(chunks, kernel.BINS, dtype=torch.int32)
    for digit in range(kernel.PASSES):
        sorted_keys, sorted_items = torch.empty_like(keys), torch.empty_like(items)
        kernel.radix_pass(digit * kernel.DIGIT, chunk, keys, items, slot, sorted_keys, sorted_items)
        keys, items = sorted_keys, sorted_items
    return items


def refuse_too_many_pairs(count: int, pairs: int) -> None:
    """Pairs are numbered in 32 bits."""
    if pairs > MOST_PAIRS:
        raise UserError(f"{count} Gaussians cover {pairs} tiles, more than 2^31; are the scales in metres?")


def sort_into_tiles(rows: Tensor, width: int, height: int) -> TileLists:
    """Depth order, then a stable counting sort into tiles.

    Args:
        rows: (N,12) splats, see `kernels.projection`.
        width, height: image size, pixels.
    """
    from taichi_avatars.kernels import tiles as kernel

    if runtime.on_gpu():
        from taichi_avatars.ops import tiles_gpu

        return tiles_gpu.sort_into_tiles(rows, width, height)
    tiles_x, tiles_y = -(-width // kernel.TILE), -(-height // kernel.TILE)
    n, tiles = len(rows), tiles_x * tiles_y
    chunks, chunk = _chunks(n)
    order = depth_order(rows[:, 9])
    packed, bounds = rows.new_empty(n, kernel.PACKED), rows.new_empty(n, kernel.BOUNDS)
    place, resident = torch.empty(2, n, dtype=torch.int32)
    count = torch.empty(chunks, tiles, dtype=torch.int32)
    pairs = torch.empty(n, dtype=torch.int32)
    if n:
        kernel.settle(tiles_x, tiles_y, rows, torch.empty(tiles, dtype=torch.int32), place, resident)
        kernel.pack(order, resident, rows, packed, bounds)
    kernel.count(tiles_x, tiles_y, chunk, bounds, count, pairs)
    refuse_too_many_pairs(n, int(pairs.sum()))  # a sum in 64 bits
    splat_end = torch.cumsum(pairs, 0, dtype=torch.int32)
    by_tile = count.T.reshape(-1)  # tile by tile, chunk by chunk: the order of the lists
    ends = torch.cumsum(by_tile, 0, dtype=torch.int32)
    slot = (ends - by_tile).view(tiles, chunks).T.contiguous()
    entries = torch.empty(max(int(ends[-1]), 1), 3, dtype=torch.int32)
    kernel.scatter(tiles_x, tiles_y, chunk, bounds, order, place, splat_end, slot, entries)
    tile_end = ends.view(tiles, chunks)[:, -1].contiguous()
    return TileLists(order, packed, place, tile_end, entries, splat_end, tiles_x, tiles_y)
