"""Lens distortion: the distortion of an image, and the pinhole camera that shows it undistorted.

Models and coefficients are OpenCV's and COLMAP's (Brown 1966 with radial and tangential terms; Kannala and Brandt 2006 for
fisheye lenses), in normalised image coordinates x = X/Z, y = Y/Z, OpenCV axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera

LARGEST_ZOOM = 8.0  # of the pinhole over the lens: beyond this, hardly any of the image is left
SEARCH_STEPS = 40  # halvings of the interval that the zoom lies in
BORDER = 65  # samples along each side of an image, and of a grid over it, that represent all of it


@dataclass(frozen=True)
class Lens:
    """A real camera: intrinsics in pixels, and its distortion.

    Attributes:
        radial: k1, k2, ... of the polynomial 1 + k1 r^2 + k2 r^4 + ...; of a fisheye lens, of theta instead of r.
        denominator: k4, k5, k6 of OpenCV's rational model, whose polynomial divides the radial one.
        tangential: p1, p2.
        fisheye: whether a ray at an angle of theta is seen at a distance of theta * (1 + k1 theta^2 + ...).
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    radial: tuple[float, ...] = ()
    denominator: tuple[float, ...] = ()
    tangential: tuple[float, float] = (0.0, 0.0)
    fisheye: bool = False

    @property
    def bends(self) -> bool:
        """Whether it differs from a pinhole."""
        return self.fisheye or any((*self.radial, *self.denominator, *self.tangential))

    def pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The image position, pixels, of a ray with normalised coordinates x, y."""
        x, y = self.bent(x, y)
        return self.fx * x + self.cx, self.fy * y + self.cy

    def bent(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normalised coordinates after the distortion."""
        square = x * x + y * y
        if self.fisheye:
            radius = np.sqrt(square)
            theta = np.arctan(radius)
            scale = _polynomial(self.radial, theta * theta) * np.where(radius > 1e-9, theta / np.maximum(radius, 1e-9), 1.0)
            return x * scale, y * scale
        scale = _polynomial(self.radial, square) / _polynomial(self.denominator, square)
        p1, p2 = self.tangential
        return (
            x * scale + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x),
            y * scale + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y,
        )

    def zoom(self) -> float:
        """Factor on the lens's focal lengths for a pinhole whose whole image lies inside the original.

        1 where the pinhole needs less of the scene towards its borders than the lens shows (a fisheye, a barrel).

        Raises:
            UserError: if the coefficients fold the image over in its centre.
        """
        return _zoom(self)

    def sampling(self, camera: Camera, size: tuple[int, int], finer: int) -> np.ndarray:
        """Position of each sample of a pinhole's image in the original image: (2, H*finer, W*finer) float32, rows then columns.

        Args:
            camera: with the lens's axes and centre, such as `pinhole` makes, at any size.
            size: width and height of the original image, which may be a smaller copy.
            finer: samples per pixel along each axis.
        """
        x = ((np.arange(camera.width * finer) + 0.5) / finer - camera.cx) / camera.fx
        y = ((np.arange(camera.height * finer) + 0.5) / finer - camera.cy) / camera.fy
        u, v = self.pixels(*np.meshgrid(x, y))
        across, down = size[0] / self.width, size[1] / self.height
        return np.stack([v * down - 0.5, u * across - 0.5]).astype(np.float32)  # pixel centres lie at integer + 0.5


def pinhole(lens: Lens) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of the pinhole, at the same size, whose whole image lies inside the lens's image.

    Raises:
        UserError: as `Lens.zoom`.
    """
    zoom = lens.zoom() if lens.bends else 1.0
    return lens.fx * zoom, lens.fy * zoom, lens.cx, lens.cy


def _polynomial(coefficients: tuple[float, ...], square: np.ndarray) -> np.ndarray:
    """1 + k1 s + k2 s^2 + ..."""
    total = np.zeros_like(square)
    for coefficient in reversed(coefficients):
        total = (total + coefficient) * square
    return 1.0 + total


@lru_cache(maxsize=256)
def _zoom(lens: Lens) -> float:
    across = np.linspace(0.0, lens.width, BORDER)
    down = np.linspace(0.0, lens.height, BORDER)
    grid = np.meshgrid((across - lens.cx) / lens.fx, (down - lens.cy) / lens.fy)

    def shown(zoom: float) -> bool:
        """Whether the whole image of the pinhole lies inside the lens's, with every side the right way round."""
        u, v = lens.pixels(grid[0] / zoom, grid[1] / zoom)
        u_x, v_x = np.diff(u, axis=1)[1:], np.diff(v, axis=1)[1:]
        u_y, v_y = np.diff(u, axis=0)[:, 1:], np.diff(v, axis=0)[:, 1:]
        inside = (u >= -0.5) & (u <= lens.width + 0.5) & (v >= -0.5) & (v <= lens.height + 0.5)
        return bool(np.isfinite(u).all() and np.isfinite(v).all() and inside.all() and (u_x * v_y - u_y * v_x > 0).all())

    low, high = 1.0, LARGEST_ZOOM
    if shown(low):
        return low
    if not shown(high):
        raise UserError("its distortion folds the picture over, or moves the picture out of its frame; calibrate it again")
    for _ in range(SEARCH_STEPS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high
