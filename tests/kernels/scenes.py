"""Small scenes of Gaussians for the rasterizer's tests."""

import math

import torch
from torch import Tensor

from taichi_avatars import Camera

Scene = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def camera(width: int, height: int, *, off_center: bool = True) -> Camera:
    """In front of the origin at 2 m, turned a little, with different focal lengths and a principal point off the centre."""
    pose = torch.eye(4)
    turn = 0.1
    pose[:3, :3] = torch.tensor([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    pose[:3, 3] = torch.tensor([0.02, -0.03, 2.0])
    shift = 3.3 if off_center else 0.0
    return Camera.from_opencv(pose, 1.1 * width, 1.2 * width, width / 2 + shift, height / 2 - shift, width, height)


def cloud(
    count: int, *, seed: int = 0, spread: float = 0.4, size: float = 0.05, opacity: tuple[float, float] = (0.2, 0.9)
) -> Scene:
    """Random Gaussians about the origin: means, quats, scales, opacities, sh of degree 3."""
    g = torch.Generator().manual_seed(seed)
    low, high = opacity
    return (
        torch.randn(count, 3, generator=g) * spread,
        torch.randn(count, 4, generator=g),
        torch.exp(torch.randn(count, 3, generator=g) * 0.4) * size,
        low + (high - low) * torch.rand(count, generator=g),
        torch.randn(count, 16, 3, generator=g) * 0.2,
    )
