"""A recording of the 52 ARKit weights from any file, resampled to even time steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.motion import timecode

LARGEST_WEIGHT = 2.0  # largest weight, noise included; larger ones are percent


@dataclass(frozen=True, eq=False)
class Take:
    """A recorded face.

    Attributes:
        names: of the weights, as ARKit spells them.
        weights: (T,W) in [0,1].
        fps: frames per second.
        poses: (T,3) axis-angles of the head, x to the person's left, y up, z forward.
        filled: how many of the T frames the recorder dropped; they are interpolated.
    """

    names: list[str]
    weights: Tensor
    fps: float
    poses: Tensor
    filled: int = 0

    def weight(self, name: str) -> Tensor:
        """(T,), zero where it was not recorded."""
        return (
            self.weights[:, self.names.index(name)]
            if name in self.names
            else torch.zeros(len(self.weights), dtype=torch.float32)
        )


def arkit_name(name: str) -> str:
    """A weight's name as Apple's documentation spells it: apps write EyeBlinkLeft, Apple's own constants hold eyeBlink_L."""
    name = name.strip()
    for ending, side in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(ending):
            name = name.removesuffix(ending) + side
    return name[:1].lower() + name[1:]


def even_take(
    path: Path, names: list[str], recorded: np.ndarray, times: Sequence[float], default: float, pose: Callable[[Tensor], Tensor]
) -> Take:
    """A take from rows (N,W+3) of weights and angles that `pose` converts to axis-angles, at times in seconds, if known."""
    names = [arkit_name(name) for name in names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UserError(f"{path}: two weights are named {twice}, and which one counts cannot be told; take one out")
    try:
        even = timecode.evenly(times, recorded, default)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    values = torch.from_numpy(even.values).float()
    weights = values[:, :-3]
    if len(names) and float(weights.max()) > LARGEST_WEIGHT:
        weights = weights / 100.0
    return Take(names, weights.clamp(0.0, 1.0).contiguous(), even.fps, pose(values[:, -3:]), even.filled)
