"""Inverted indices, so that gradients are gathered in a fixed order instead of scattered."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from taichi_avatars import runtime
from taichi_avatars.errors import UserError
from taichi_avatars.ops.checks import INDEX, Shape, check


class Adjacency:
    """Indices into `count` targets (vertices, triangles), and for each target the positions that hold its index.

    Attributes:
        index: the indices, int32, contiguous, in their original shape, on the kernels' device.
        count: number of targets.
    """

    def __init__(self, index: Tensor, count: int) -> None:
        self.index = index.detach().to(runtime.device(), torch.int32).contiguous()
        self.count = count
        self._users: Tensor | None = None

    @property
    def users(self) -> Tensor:
        """(count + 1 + n,) int32: starts, then positions; target t is used at positions users[users[t] : users[t+1]]."""
        if self._users is None:
            flat = self.index.reshape(-1).long()
            targets = torch.arange(self.count + 1, device=flat.device)
            in_order, places = torch.sort(flat, stable=True)
            starts = torch.searchsorted(in_order, targets)
            self._users = torch.cat([starts + self.count + 1, places]).to(torch.int32)
        return self._users


# Keyed by the tensor itself: faces never change and bindings only at a densification, so a training step finds both here.
_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def adjacency(name: str, index: Tensor, shape: Shape, count: int, sizes: dict[str, int] | None = None) -> Adjacency:
    """The adjacency of an int32 or int64 tensor, built once per tensor and rebuilt when its values were changed in place.

    Raises:
        UserError: for another dtype or shape, or an index outside 0 .. count-1.
    """
    check(name, index, shape, sizes, INDEX)
    version = 0 if index.is_inference() else index._version
    entry = _known.get(index)
    if entry is not None and entry[0] == version and entry[1].count == count:
        return entry[1]
    if index.numel():
        low, high = (int(v) for v in torch.aminmax(index))
        if low < 0 or high >= count:
            raise UserError(f"{name}: holds the index {low if low < 0 else high}, want 0 to {count - 1}")
    made = Adjacency(index, count)
    _known[index] = (version, made)
    return made
