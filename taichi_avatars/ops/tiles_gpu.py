"""Depth order and tile lists on a GPU: pairs are listed splat by splat, then sorted by tile."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.ops.tile_lists import TileLists, running_sum


def sort_into_tiles(rows: Tensor, width: int, height: int) -> TileLists:
    """The lists of `ops.tiles.sort_into_tiles`, from thousands of short threads and torch's sort."""
    from taichi_avatars.kernels import tiles, tiles_gpu
    from taichi_avatars.kernels.types import Bounds, Packed, Splat

    tiles_x, tiles_y = -(-width // tiles.TILE), -(-height // tiles.TILE)
    n, count = len(rows), tiles_x * tiles_y
    order = torch.argsort(rows[:, Splat.DEPTH], stable=True).int()
    packed, bounds = rows.new_empty(n, Packed.SIZE), rows.new_empty(n, Bounds.SIZE)
    place = torch.empty_like(order)
    place[order.long()] = torch.arange(n, dtype=torch.int32, device=rows.device)
    most_pairs, pairs_of = torch.zeros(2, n, dtype=torch.int32, device=rows.device)
    if n:
        tiles.pack(tiles_x, tiles_y, order, order, rows, packed, bounds, most_pairs)
        tiles_gpu.count_pairs(tiles_x, tiles_y, bounds, pairs_of)
    splat_end = running_sum(pairs_of)
    total = int(splat_end[-1]) if n else 0
    if not total:
        nothing = torch.zeros(1, 2, dtype=torch.int32, device=rows.device)
        return TileLists(order, packed, place, nothing[0, :1].repeat(count), nothing, splat_end, tiles_x, tiles_y)
    tile, entry = torch.empty(2, total, dtype=torch.int32, device=rows.device)
    tiles_gpu.list_pairs(tiles_x, tiles_y, bounds, splat_end, tile, entry)
    tile, number = torch.sort(tile, stable=True)
    entries = torch.stack([entry[number], number.int()], 1)
    tile_end = torch.searchsorted(tile, torch.arange(count, dtype=torch.int32, device=rows.device), right=True)
    return TileLists(order, packed, place, tile_end.int(), entries, splat_end, tiles_x, tiles_y)
