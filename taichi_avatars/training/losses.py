"""The loss of one step: image, and what keeps Gaussians near their triangles and small (GaussianAvatars, eq. 5 to 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.ops import l1_and_ssim
from taichi_avatars.ops.laplacian import Neighbours, laplacian


def image_loss(image: Tensor, truth: Tensor, config: TrainConfig) -> Tensor:
    """(1 - lambda) L1 + lambda (1 - SSIM) of two images (3,H,W)."""
    l1, ssim = l1_and_ssim(image, truth)
    return (1.0 - config.lambda_dssim) * l1 + config.lambda_dssim * (1.0 - ssim)


def position_loss(gaussians: Gaussians, triangle_scale: Tensor, visible: Tensor, config: TrainConfig) -> Tensor:
    """How far the visible Gaussians lie beyond the free distance from their triangle's centre.

    Args:
        triangle_scale: (N,) metres per triangle unit, of each Gaussian's triangle.  visible: (N,) bool.
    """
    distance = gaussians.means.norm(dim=1)
    if config.metric_xyz:
        distance = distance * triangle_scale
    return _mean_over(torch.relu(distance - config.threshold_xyz), visible)


def scale_loss(gaussians: Gaussians, triangle_scale: Tensor, visible: Tensor, config: TrainConfig) -> Tensor:
    """How much larger than the free size the visible Gaussians are; arguments as `position_loss`."""
    size = gaussians.log_scales.exp()
    if config.metric_scale:
        size = size * triangle_scale[:, None]
    return _mean_over(torch.relu(size - config.threshold_scale).norm(dim=1), visible)


def offset_loss(offset: Tensor, beside: Tensor, neighbours: Neighbours, config: TrainConfig) -> Tensor:
    """What a dynamic offset costs: its length, its change over time, its roughness over the mesh. 0 where it is 0.

    Args:
        offset: (V,3) of the step's timestep, metres.
        beside: (n,V,3) of the timesteps around it, as they are.
        neighbours: of the head's vertices.
    """
    around = torch.cat([offset[None], beside])
    # norm() has the gradient 0 at 0, where a square root has none
    spread = (around - around.mean(0)).norm(dim=0).mean() / len(around) ** 0.5
    loss = config.lambda_dynamic_offset * offset.norm(dim=1).mean()
    loss = loss + config.lambda_dynamic_offset_std * spread
    return loss + config.lambda_laplacian * laplacian(offset, neighbours).norm(dim=1).mean()


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask holds; 0 where it holds nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
