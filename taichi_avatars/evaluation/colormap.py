"""A perceptually uniform colour map: a path through OKLab (Ottosson 2020), dark blue to light yellow."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

LIGHTNESS = (0.32, 0.93)
HUE = (math.radians(285.0), math.radians(105.0))  # blue, over green, to yellow
CHROMA = 0.14  # reduced where sRGB has no such colour
STEPS = 512

# OKLab to the cube roots of cone responses, and these cubed to linear sRGB.
LMS_FROM_LAB = torch.tensor(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]],
    dtype=torch.float64,
)
RGB_FROM_LMS = torch.tensor(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ],
    dtype=torch.float64,
)


def scale_colors(values: Tensor) -> Tensor:
    """sRGB colours (N,3) in [0,1] of values (N,) in [0,1]; values outside are clamped."""
    table = _table()
    at = values.double().clamp(0.0, 1.0) * (len(table) - 1)
    low = at.floor().long().clamp(max=len(table) - 2)
    share = (at - low)[:, None]
    return ((1.0 - share) * table[low] + share * table[low + 1]).float()


@cache
def _table() -> Tensor:
    """(STEPS,3) sRGB at equal distances in OKLab."""
    t = torch.linspace(0.0, 1.0, 8 * STEPS, dtype=torch.float64)
    lightness = LIGHTNESS[0] + (LIGHTNESS[1] - LIGHTNESS[0]) * t
    hue = HUE[0] + (HUE[1] - HUE[0]) * t
    low, high = torch.zeros_like(t), torch.full_like(t, CHROMA)
    for _ in range(30):
        middle = 0.5 * (low + high)
        rgb = _linear(_lab(lightness, middle, hue))
        inside = ((rgb >= 0.0) & (rgb <= 1.0)).all(1)
        low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    lab = _lab(lightness, low, hue)
    length = torch.cat([lab.new_zeros(1), (lab[1:] - lab[:-1]).norm(dim=1).cumsum(0)])
    even = torch.linspace(0.0, float(length[-1]), STEPS, dtype=torch.float64)
    right = torch.searchsorted(length, even).clamp(1, len(t) - 1)
    share = ((even - length[right - 1]) / (length[right] - length[right - 1]))[:, None]
    linear = _linear((1.0 - share) * lab[right - 1] + share * lab[right]).clamp(0.0, 1.0)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.pow(1 / 2.4) - 0.055)


def _lab(lightness: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    return torch.stack([lightness, chroma * hue.cos(), chroma * hue.sin()], 1)


def _linear(lab: Tensor) -> Tensor:
    return (lab @ LMS_FROM_LAB.T) ** 3 @ RGB_FROM_LMS.T
