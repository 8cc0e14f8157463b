"""How much of each pixel a head covers, by colours: a segmentation is coarse, and takes collars and posters for heads.

Pixels in a band round the silhouette of the fitted mesh are compared with the colours of places nearby that surely are head and
that surely are not (samples as in Wang and Cohen 2007, "Optimized Color Sampling for Robust Matting"). Where those are alike,
segmentation and silhouette decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.faces.regions import Region

SAMPLES, AROUND = 12, 0.05  # of either side, and metres round a place from whose surroundings they are the nearest
GOLDEN = np.pi * (3 - 5**0.5)
NOISE = 8.0  # of colours from 0 to 255: what noise and texture make of one
POWER = 2.0  # of a colour's odds against those of place and segmentation, of which neighbours share much
MOST = 0.7  # that a segmentation is believed
FADE = 0.001  # metres of distance from the silhouette that change the odds by a factor of e
INSIDE, OUTSIDE = 6.0, -9.0  # the most that the place says
NECK = 1.0  # and at the neck, where a collar may cover what is inside
SHADED = 0.2  # what lightness counts at the neck
NOTHING, ALL = 0.05, 0.95  # opacities below and above which they are taken for nothing and for all


@dataclass(frozen=True, eq=False)
class Zones:
    """A coarse grid (h,w) over a picture, one cell for each few pixels.

    Attributes:
        front, behind: cells that surely belong to the head, and surely do not.
        distance: from the silhouette, metres, negative inside.
        neck: cells that it covers, or is the nearest to; it lies in shade, and a collar may cover it.
        cell: metres.
    """

    front: np.ndarray
    behind: np.ndarray
    distance: np.ndarray
    neck: np.ndarray
    cell: float

    @property
    def band(self) -> np.ndarray:
        """Cells that colours decide."""
        return ~(self.front | self.behind)


def alpha_by_colour(picture: np.ndarray, zones: Zones, segmented: np.ndarray, region: Region) -> np.ndarray:
    """(H,W) float32 in [0, 1].

    Args:
        picture: (H,W,3) uint8.
        segmented: (N,N) opacity of the square `region` as the segmentation has it.
    """
    from taichi_avatars.kernels import matting as kernels

    runtime.start()
    size = zones.front.shape[::-1]
    colours = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), np.float32)
    band = zones.band
    front, back = (_samples(colours, side, band, AROUND / zones.cell) for side in (zones.front, zones.behind))
    lightness = _tensor(np.where(zones.neck[band], SHADED, 1.0))
    numbers = np.where(zones.front, kernels.FRONT, kernels.BEHIND).astype(np.int32)
    numbers[band] = np.arange(len(front))
    cells = torch.from_numpy(numbers)
    place = (-zones.distance / FADE).clip(OUTSIDE, np.where(zones.neck, NECK, INSIDE))
    believed = segmented.clip(1 - MOST, MOST)
    left, top, _, _ = region.bounds()
    logit, alpha = (torch.empty(picture.shape[:2], dtype=torch.float32) for _ in range(2))
    kernels.weigh_colours(
        _tensor(picture),
        cells,
        front,
        back,
        lightness,
        _tensor(place),
        _tensor(np.log(believed / (1 - believed))),
        [left, top, region.size],
        NOISE,
        POWER,
        logit,
    )
    kernels.soften(logit, cells, NOTHING, ALL, alpha)
    return alpha.numpy()


def _samples(colours: np.ndarray, side: np.ndarray, band: np.ndarray, around: float) -> Tensor:
    """(N,K,3) of `colours` (h,w,3): of the cells of a side that are nearest to places round each of N cells of the band."""
    height, width = side.shape
    far, turn = around * np.sqrt((np.arange(SAMPLES) + 0.5) / SAMPLES), np.arange(SAMPLES) * GOLDEN
    y, x = (places[:, None] for places in np.nonzero(band))
    y = (y + np.rint(far * np.sin(turn)).astype(int)).clip(0, height - 1)
    x = (x + np.rint(far * np.cos(turn)).astype(int)).clip(0, width - 1)
    rows, columns = ndimage.distance_transform_edt(~side, return_distances=False, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    nearest = (rows * width + columns).ravel().take(y * width + x)
    return torch.from_numpy(colours.reshape(-1, 3).take(nearest, 0))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
