"""One live picture, and what takes them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from torch import Tensor

from taichi_avatars.files.png import as_uint8
from taichi_avatars.ops import Rendering

SMALLEST_ALPHA = 1.0 / 255.0  # below it a pixel has no colour worth dividing by it


@dataclass(eq=False)
class LiveFrame:
    """A picture with its pose.

    Attributes:
        image: (H,W,3) uint8.
        rendering: it was made from, of the avatar on `background`, on the CPU.
        row: the pose, see `motion.live.rig.FaceRig`.
        moving: whether a sender has shown a face yet.
        age: seconds from the arrival of what it shows to the moment it was drawn for.
    """

    image: np.ndarray
    rendering: Rendering
    background: Tensor
    row: np.ndarray
    moving: bool
    age: float = 0.0

    @cached_property
    def cutout(self) -> np.ndarray:
        """(H,W,4) uint8, the avatar without its background; colours are not multiplied by alpha."""
        alpha = self.rendering.alpha.clamp(0.0, 1.0)
        own = self.rendering.image - (1.0 - alpha) * self.background[:, None, None]
        color = as_uint8(own / alpha.clamp(min=SMALLEST_ALPHA))
        return np.concatenate([color, as_uint8(alpha.expand(3, -1, -1))[..., :1]], 2)


class Output(Protocol):
    """Where pictures go.

    Attributes:
        name: for people: a file, an address.
    """

    name: str

    def show(self, frame: LiveFrame, now: float) -> None:
        """Takes a picture that was drawn for a moment (time.monotonic)."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """Ends; what was not finished is left out where it failed."""
        ...
