"""Compositing in plain torch float64: every Gaussian at every pixel, one after the other (Kerbl et al. 2023, eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.ops.projection import SplatCamera
from taichi_avatars.reference.projection import project


def composite(
    mean2d: Tensor,
    conic: Tensor,
    opacities: Tensor,
    colors: Tensor,
    depths: Tensor,
    background: Tensor,
    width: int,
    height: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Image (3,H,W), alpha (H,W) and depth (H,W) of splats (N,...)."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=mean2d.dtype) + 0.5, torch.arange(width, dtype=mean2d.dtype) + 0.5, indexing="ij"
    )
    transmittance = torch.ones_like(x)
    stopped = torch.zeros_like(x, dtype=torch.bool)
    image, alpha, depth = torch.zeros(3, height, width, dtype=x.dtype), torch.zeros_like(x), torch.zeros_like(x)
    for i in torch.sort(depths, stable=True).indices.tolist():
        dx, dy = x - mean2d[i, 0], y - mean2d[i, 1]
        q = conic[i, 0] * dx * dx + 2 * conic[i, 1] * dx * dy + conic[i, 2] * dy * dy
        a = (opacities[i] * torch.exp(-0.5 * q)).clamp(max=0.99)
        drawn = (a >= 1 / 255) & ~stopped
        stopped = stopped | (drawn & (transmittance * (1 - a) < 1e-4))
        a = torch.where(drawn & ~stopped, a, torch.zeros_like(a))
        weight = a * transmittance
        image = image + weight * colors[i, :, None, None]
        alpha, depth = alpha + weight, depth + weight * depths[i]
        transmittance = transmittance * (1 - a)
    return image + (1 - alpha) * background[:, None, None], alpha, depth


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    *,
    camera: SplatCamera,
    pose: Tensor | None = None,
    background: Tensor,
    degree: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, alpha, depth and radii as `ops.rasterize`, in float64. pose: (4,4) float64 in place of the camera's."""
    pose = camera.world_to_camera.double() if pose is None else pose
    mean2d, conic, opacity, colors, depths, radii = project(means, quats, scales, opacities, sh, camera, pose, degree)
    return *composite(mean2d, conic, opacity, colors, depths, background, camera.width, camera.height), radii
