"""The loss of one step: image, and what keeps Gaussians near their triangles and small (GaussianAvatars, eq. 5 to 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.ops import l1_and_ssim


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


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask holds; 0 where it holds nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)
