"""Common to the tile lists of CPU and GPU: the result, and the numbering of pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars.errors import UserError

MOST_PAIRS = 2**31 - 1


class TileLists(NamedTuple):
    """Lists of splats per tile, front to back. M splats in depth order, P pairs of a splat and a tile it touches.

    order: (M,) int32 splat at each rank of the depth order.
    packed: (M,12) rows of `kernels.types.Packed`.  place: (M,) int32 each splat's row in it.
    tile_end: (tiles,) int32 one past each tile's last entry.
    entries: (P,2) int32 the lists: the splat's place and the quads of the tile that it touches, as `kernels.tiles` packs
        them; and the index of the pair, counted splat by splat.
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


def running_sum(counts: Tensor) -> Tensor:
    """One past the last of each splat's pairs, (N,) int32, from their counts.

    Raises:
        UserError: if 32 bits cannot count them.
    """
    total = int(counts.sum())  # in 64 bits
    if total > MOST_PAIRS:
        raise UserError(f"{len(counts)} Gaussians cover {total} tiles, more than 2^31; are the scales in metres?")
    return torch.cumsum(counts, 0, dtype=torch.int32)
