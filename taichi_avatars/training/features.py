"""Mouth and eyes: a few percent of an image, and where people look first. What a run does so that they are sharp."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel

# How many times as many Gaussians a region starts with, by the names of the built-in head and of FLAME's masks.
DENSER = {
    "lips": 6.0, "eyelids": 6.0, "teeth_upper": 2.0, "teeth_lower": 2.0,
    "eye_left": 2.0, "eye_right": 2.0, "left_eyeball": 2.0, "right_eyeball": 2.0,
}  # fmt: skip
WORTH = 3.0  # of what a Gaussian there gives, against one elsewhere, when it is decided which to prune


def densities(head: FlameModel) -> Tensor:
    """(F,) Gaussians per area that a run starts with, against those elsewhere."""
    found = torch.ones(head.num_faces)
    for name, times in DENSER.items():
        found[head.region_mask(name)[head.faces].all(1)] = times
    return found


def worths(head: FlameModel) -> Tensor:
    """(F,) what contributions of the Gaussians of each triangle count."""
    return 1.0 + (WORTH - 1.0) * (densities(head) > 1.0)
