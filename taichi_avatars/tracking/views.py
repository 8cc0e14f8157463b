"""The part of a video's pictures that a capture keeps, and the camera that saw it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.faces.regions import Region
from taichi_avatars.scene.cameras import Camera

# Of the space that the mesh takes in all pictures: what hair and loose fits add to it.
ABOVE, BELOW, ASIDE = 0.22, 0.06, 0.15
WHOLE = 0.6  # share of the picture from which it is kept whole


@dataclass(frozen=True)
class Framing:
    """Pictures are scaled to (width, height), and of those a part is kept.

    Attributes:
        read_width, read_height: pixels of the scaled picture.
        left, top, width, height: of the part, pixels of that.
        focal_x, focal_y: focal lengths in pixels of that.
    """

    read_width: int
    read_height: int
    left: int
    top: int
    width: int
    height: int
    focal_x: float
    focal_y: float

    def cut(self, picture: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(picture[self.top : self.top + self.height, self.left : self.left + self.width])

    def placed(self, region: Region, looked: tuple[int, int]) -> Region:
        """A square in pictures of the looked-at size (width, height) as one in what is kept."""
        region = region.scaled(self.read_width / looked[0])
        return replace(region, x=region.x - self.left, y=region.y - self.top)

    def camera(self, center: Tensor) -> Camera:
        """The video's camera, at `center` (3,) in a world whose axes are its own: x right, y up, z back."""
        pose = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
        pose[:3, 3] = -pose[:3, :3] @ center
        x, y = 0.5 * self.read_width - self.left, 0.5 * self.read_height - self.top
        return Camera.from_opencv(pose, self.focal_x, self.focal_y, x, y, self.width, self.height, near=0.05)


def whole_picture(native: tuple[int, int], looked: tuple[int, int], focal: float, longest: int) -> Framing:
    """All of the picture, with its longer side at most `longest`.

    Args:
        native: (width, height) of the video; looked: of the pictures in which `focal` is counted.
    """
    return _scaled(native, looked, focal, (0.0, 0.0, 1.0, 1.0), longest)


def frame_head(native: tuple[int, int], looked: tuple[int, int], focal: float, seen: np.ndarray, longest: int) -> Framing:
    """The part of the picture that the head moves in, with its longer side at most `longest` pixels; never enlarged.

    Args:
        seen: (N,2) places of the mesh in all pictures, pixels of the looked-at size.
    """
    low, high = seen.min(0), seen.max(0)
    width, height = high - low
    edges = np.array([low[0] - ASIDE * width, low[1] - ABOVE * height, high[0] + ASIDE * width, high[1] + BELOW * height])
    part = np.clip(edges / np.array([*looked, *looked]), 0, 1)
    if max(native) <= longest or (part[2] - part[0]) * (part[3] - part[1]) > WHOLE:
        part = np.array([0.0, 0.0, 1.0, 1.0])
    return _scaled(native, looked, focal, tuple(part), longest)


def _scaled(native: tuple[int, int], looked: tuple[int, int], focal: float, part: tuple[float, ...], longest: int) -> Framing:
    left, top, right, bottom = part
    share = min(1.0, longest / max((right - left) * native[0], (bottom - top) * native[1]))
    width, height = (max(2, round(share * side)) for side in native)
    x, y = int(left * width), int(top * height)
    # Even sizes: films need them.
    kept_width, kept_height = (max(2, int(length) // 2 * 2) for length in ((right - left) * width, (bottom - top) * height))
    return Framing(width, height, x, y, kept_width, kept_height, focal * width / looked[0], focal * height / looked[1])
