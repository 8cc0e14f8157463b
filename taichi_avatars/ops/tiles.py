"""Depth order and tile lists: which splats each tile composites, front to back."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.ops import tiles_gpu
from taichi_avatars.ops.tile_lists import TileLists, running_sum

SHORTEST_TASK = 64  # splats


def _chunks(count: int) -> tuple[int, int]:
    """Number and length of the tasks for `count` splats. The result is the same for any number of tasks."""
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


def sort_into_tiles(rows: Tensor, width: int, height: int) -> TileLists:
    """Depth order, then a stable counting sort into tiles.

    Args:
        rows: (N,12) splats, see `kernels.types.Splat`.
        width, height: image size, pixels.
    """
    from taichi_avatars.kernels import tiles as kernel
    from taichi_avatars.kernels.types import Bounds, Packed, Splat

    if runtime.on_gpu():
        return tiles_gpu.sort_into_tiles(rows, width, height)
    tiles_x, tiles_y = -(-width // kernel.TILE), -(-height // kernel.TILE)
    n, tiles = len(rows), tiles_x * tiles_y
    chunks, chunk = _chunks(n)
    order = depth_order(rows[:, Splat.DEPTH])
    packed, bounds = rows.new_empty(n, Packed.SIZE), rows.new_empty(n, Bounds.SIZE)
    place, splat_at, most_pairs, pairs_of = torch.empty(4, n, dtype=torch.int32)
    if n:
        kernel.group_records(tiles_x, tiles_y, rows, torch.empty(tiles, dtype=torch.int32), place, splat_at)
        kernel.pack(tiles_x, tiles_y, order, splat_at, rows, packed, bounds, most_pairs)
    most_pairs_end = running_sum(most_pairs)
    pairs = torch.empty(_last(most_pairs_end) + chunks * kernel.SPILL, dtype=torch.int32)
    slot, tile_end = torch.empty(chunks, tiles, dtype=torch.int32), torch.empty(tiles, dtype=torch.int32)
    with runtime.native_vectors():
        kernel.list_pairs(tiles_x, tiles_y, chunk, bounds, most_pairs_end, pairs, slot, pairs_of)
    splat_end = running_sum(pairs_of)
    entries = torch.empty(max(_last(splat_end), 1), 2, dtype=torch.int32)
    kernel.scatter(chunk, order, place, most_pairs_end, pairs, splat_end, slot, tile_end, entries)
    return TileLists(order, packed, place, tile_end, entries, splat_end, tiles_x, tiles_y)


def _last(ends: Tensor) -> int:
    return int(ends[-1]) if len(ends) else 0
