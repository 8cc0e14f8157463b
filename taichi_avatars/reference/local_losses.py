"""Position and scale loss in plain torch (GaussianAvatars, eq. 6 and 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.ops.local_losses import Free


def local_losses(
    means: Tensor, log_scales: Tensor, binding: Tensor, triangle_scale: Tensor, radii: Tensor, free: Free
) -> tuple[Tensor, Tensor]:
    """As `ops.local_losses`, with the same arguments and values."""
    metres, visible = triangle_scale[binding.long()], radii > 0
    distance, size = means.norm(dim=1), log_scales.exp()
    if free.metric_distance:
        distance = distance * metres
    if free.metric_size:
        size = size * metres[:, None]
    position = torch.relu(distance - free.distance)
    scale = torch.relu(size - free.size).norm(dim=1)
    count = visible.sum().clamp_min(1)
    return (position * visible).sum() / count, (scale * visible).sum() / count
