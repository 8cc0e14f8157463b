"""A live picture, and the interface of outputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from torch import Tensor

from taichi_avatars.files.png import as_uint8
from taichi_avatars.ops import Rendering

SMALLEST_ALPHA = 1.0 / 255.0  # below this alpha a pixel has no meaningful colour to divide by it


@dataclass(eq=False)
class LiveFrame:
    """A picture with its pose.

    Attributes:
        image: (H,W,3) uint8.
        rendering: it was made from, composited over `background`, on the CPU.
        row: the pose, see `motion.live.rig.FaceRig`.
        moving: whether a sender has shown a face yet.
        age: seconds from the arrival of its packet to the moment it was drawn for.
    """

    image: np.ndarray
    rendering: Rendering
    background: Tensor
    row: np.ndarray
    moving: bool
    age: float = 0.0

    @cached_property
    def cutout(self) -> np.ndarray:
        """(H,W,4) uint8, the avatar without its background; colours are not premultiplied."""
        alpha = self.rendering.alpha.clamp(0.0, 1.0)
        own = self.rendering.image - (1.0 - alpha) * self.background[:, None, None]
        color = as_uint8(own / alpha.clamp(min=SMALLEST_ALPHA))
        return np.concatenate([color, as_uint8(alpha.expand(3, -1, -1))[..., :1]], 2)


class Output(Protocol):
    """An output for pictures.

    Attributes:
        name: for display: a file, an address.
    """

    name: str

    def show(self, frame: LiveFrame, now: float) -> None:
        """Takes a picture drawn for a moment (time.monotonic)."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Closes the output; after a failure, discards unfinished files."""
        ...
