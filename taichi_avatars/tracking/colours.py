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

SAMPLES, AROUND = 16, 0.015  # of either side, and metres round a place from whose surroundings they are the nearest
GOLDEN = np.pi * (3 - 5**0.5)
# Of colours from 0 to 255: what noise and texture make of one; mean distances up to which, and from which, sides are told apart.
NOISE, ALIKE, DISTINCT = 8.0, 4.0, 16.0
POWER = 4.0  # of a colour's odds against those of place and segmentation, of which neighbours share much
MOST = 0.9  # that a segmentation is believed
FADE = 0.003  # metres of distance from the silhouette that change the odds by e
INSIDE, OUTSIDE = 3.0, -6.0  # the most that the place says
SHADED = 0.4  # what lightness counts at the neck, which lies in the head's shade
NOTHING, ALL = 0.05, 0.95  # opacities below and above which they are taken for nothing and for all


@dataclass(frozen=True, eq=False)
class Zones:
    """A coarse grid (h,w) over a picture, one cell for each few pixels.

    Attributes:
        front, behind: cells that surely belong to the head, and surely do not.
        distance: from the silhouette, metres, negative inside.
        shaded: cells whose place says nothing for the head and whose lightness little: the neck's, with its collar.
        cell: metres.
    """

    front: np.ndarray
    behind: np.ndarray
    distance: np.ndarray
    shaded: np.ndarray
    cell: float


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
    band = ~(zones.front | zones.behind)
    front, back = (_samples(colours, side, band, AROUND / zones.cell) for side in (zones.front, zones.behind))
    lightness = _tensor(np.where(zones.shaded[band], SHADED, 1.0))
    apart = torch.empty(len(front))
    kernels.tell_apart(front, back, lightness, ALIKE, DISTINCT, apart)
    cells = np.where(zones.front, kernels.FRONT, kernels.BEHIND).astype(np.int32)
    cells[band] = np.arange(len(front))
    place = (-zones.distance / FADE).clip(OUTSIDE, np.where(zones.shaded, 0.0, INSIDE))
    believed = segmented.clip(1 - MOST, MOST)
    left, top, _, _ = region.bounds()
    logit, alpha = (torch.empty(picture.shape[:2]) for _ in range(2))
    kernels.weigh_colours(
        _tensor(picture),
        torch.from_numpy(cells),
        front,
        back,
        lightness,
        apart,
        _tensor(place),
        _tensor(np.log(believed / (1 - believed))),
        [left, top, region.size],
        NOISE,
        POWER,
        logit,
    )
    kernels.soften(logit, NOTHING, ALL, alpha)
    return alpha.numpy()


def _samples(colours: np.ndarray, side: np.ndarray, band: np.ndarray, around: float) -> Tensor:
    """(N,K,3) of `colours` (h,w,3): of the cells of a side that are nearest to places round each of N cells of the band."""
    height, width = side.shape
    at = (np.arange(SAMPLES) + 0.5) / SAMPLES
    turn = np.arange(SAMPLES) * GOLDEN
    y, x = (places[:, None] for places in np.nonzero(band))
    y = np.rint(y + around * np.sqrt(at) * np.sin(turn)).astype(int).clip(0, height - 1)
    x = np.rint(x + around * np.sqrt(at) * np.cos(turn)).astype(int).clip(0, width - 1)
    rows, columns = ndimage.distance_transform_edt(~side, return_distances=False, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]
    return torch.from_numpy(colours[rows[y, x], columns[y, x]])


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
