"""Noise in three dimensions, for the textures of the built-in subject."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars import runtime


def fractal_noise(points: Tensor, wavelength: float, seed: int, octaves: int = 1, gain: float = 0.5) -> tuple[Tensor, Tensor]:
    """Gradient noise with about unit range per octave: value (P,) and its gradient (P,3), at points (P,3).

    Args:
        wavelength: of the coarsest octave, in the units of the points. Every further octave has half of it and `gain` times
            the amplitude.
    """
    from taichi_avatars.kernels.subject import noise as kernels

    runtime.start()
    out = torch.empty(len(points), 4, dtype=torch.float32)
    kernels.fractal_noise(points.float().contiguous(), 1.0 / wavelength, octaves, gain, seed, out)
    return out[:, 0], out[:, 1:]


def scattered_points(points: Tensor, spacing: float, seed: int) -> tuple[Tensor, Tensor]:
    """Distance (P,) to the nearest of random points, one per cube of side `spacing`, and that point's number in [0,1) (P,)."""
    from taichi_avatars.kernels.subject import noise as kernels

    runtime.start()
    out = torch.empty(len(points), 2, dtype=torch.float32)
    kernels.scattered_points(points.float().contiguous(), 1.0 / spacing, seed, out)
    return out[:, 0] * spacing, out[:, 1]
