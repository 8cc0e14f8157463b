"""What a segmentation says of the head in some pictures of a video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from taichi_avatars.faces.networks import one_thread
from taichi_avatars.faces.regions import Picture, Region
from taichi_avatars.faces.segmentation import segment
from taichi_avatars.tracking.matte import head_region, opacity
from taichi_avatars.tracking.source import Source, video_frames
from taichi_avatars.tracking.views import whole_picture


@dataclass(frozen=True, eq=False)
class Silhouette:
    """Of one picture.

    Attributes:
        region: the square round the head that was segmented, pixels.
        values: (N,N) uint8 alpha of that square, other people and shoulders included.
    """

    region: Region
    values: np.ndarray

    @staticmethod
    def of(picture: Picture, region: Region) -> Silhouette:
        return Silhouette(region, (255 * opacity(segment(picture, region)) + 0.5).astype(np.uint8))

    @property
    def alpha(self) -> np.ndarray:
        """(N,N) float32 in [0, 1]."""
        return self.values.astype(np.float32) / 255

    def at(self, pixels: np.ndarray) -> np.ndarray:
        """Alpha (...) at places (...,2), 0 outside the square."""
        left, top, _, _ = self.region.bounds()
        share = len(self.values) / self.region.size
        x, y = (pixels[..., 0] - left) * share - 0.5, (pixels[..., 1] - top) * share - 0.5
        return ndimage.map_coordinates(self.values, [y, x], np.float32, order=1) / 255


def look_at_silhouettes(
    source: Source,
    rate: float,
    looked: tuple[int, int],
    focal: float,
    vertices: Callable[[int], Tensor],
    rows: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Silhouette]:
    """Segments the head in the pictures of `rows`.

    Args:
        looked: (width, height) of the pictures that are segmented; focal: length in pixels of those.
        vertices: the fitted head (V,3) of a row, in a world whose origin is the camera.
        progress: called with pictures done and all.
    """
    camera = whole_picture(looked, looked, focal, max(looked)).camera(torch.zeros(3))
    wanted, found = set(rows.tolist()), dict[int, Silhouette]()
    with one_thread():
        for frame in video_frames(source, rate):
            if len(found) == len(wanted):
                break
            if frame.number not in wanted:
                continue
            region = head_region(vertices(frame.number), camera)
            found[frame.number] = Silhouette.of(frame.picture(looked), region)
            if progress is not None:
                progress(len(found), len(wanted))
    return found
