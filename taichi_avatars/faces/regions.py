"""Square, turned regions of a picture, and cutting them out as a network wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Picture = np.ndarray  # (H,W,3) uint8 RGB


@dataclass(frozen=True)
class Region:
    """A square in a picture. Pixel centres lie at integer + 0.5.

    Attributes:
        x, y: its centre, pixels from the top left corner of the picture.
        size: of a side, pixels.
        angle: by which it is turned clockwise as seen, radians.
    """

    x: float
    y: float
    size: float
    angle: float = 0.0

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Places (...,2) in the square, 0 to 1 from its top left corner, as pixels of the picture."""
        u = (np.asarray(points, np.float64) - 0.5) * self.size
        c, s = math.cos(self.angle), math.sin(self.angle)
        return np.stack([self.x + c * u[..., 0] - s * u[..., 1], self.y + s * u[..., 0] + c * u[..., 1]], -1)

    def scaled(self, by: float) -> Region:
        """The same in a picture that is so many times as large."""
        return Region(by * self.x, by * self.y, by * self.size, self.angle)

    def bounds(self) -> tuple[float, float, float, float]:
        """The upright box round it: left, top, right, bottom."""
        half = 0.5 * self.size * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))
        return self.x - half, self.y - half, self.x + half, self.y + half


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with boxes (N,4): left, top, right, bottom."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    both = (high - low).clip(0).prod(1)
    return both / np.maximum((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - both, 1e-9)


def cut_out(picture: Picture, region: Region, size: int) -> Tensor:
    """The region as (1,3,size,size) in [0, 1], black where it leaves the picture; shrunk without aliasing."""
    height, width = picture.shape[:2]
    left, top, right, bottom = region.bounds()
    x0, y0 = max(int(left) - 1, 0), max(int(top) - 1, 0)
    x1, y1 = min(int(right) + 2, width), min(int(bottom) + 2, height)
    if x1 <= x0 or y1 <= y0:
        return torch.zeros(1, 3, size, size)
    shrink = max(min(int(region.size / size), x1 - x0, y1 - y0), 1)
    x1, y1 = x1 + (x0 - x1) % shrink, y1 + (y0 - y1) % shrink  # whole squares, which may leave the picture
    part = picture[y0:y1, x0:x1]
    if part.shape[:2] != (y1 - y0, x1 - x0):
        part = np.pad(part, ((0, y1 - y0 - part.shape[0]), (0, x1 - x0 - part.shape[1]), (0, 0)), mode="edge")
    small = torch.from_numpy(_shrunk(part, shrink)).permute(2, 0, 1)[None]

    # grid_sample has -1 and 1 at the outer edges of the border pixels.
    c, s = math.cos(region.angle), math.sin(region.angle)
    u = (torch.arange(size) + 0.5) * (region.size / size) - 0.5 * region.size
    x = (region.x - x0 + c * u - s * u[:, None]) * (2 / (shrink * small.shape[3])) - 1
    y = (region.y - y0 + s * u + c * u[:, None]) * (2 / (shrink * small.shape[2])) - 1
    return functional.grid_sample(small, torch.stack([x, y], -1)[None], "bilinear", "zeros", align_corners=False)


def _shrunk(picture: Picture, by: int) -> np.ndarray:
    """Means of squares of so many pixels, of which there is a whole number; float32 in [0, 1]."""
    if by == 1:
        return picture.astype(np.float32) * np.float32(1 / 255)
    rows = np.add.reduce(picture.reshape(len(picture) // by, by, -1, 3), 1, dtype=np.uint16 if by < 256 else np.uint32)
    total = rows[:, ::by].astype(np.float32)
    for k in range(1, by):
        total += rows[:, k::by]
    total *= 1 / (255 * by * by)
    return total
