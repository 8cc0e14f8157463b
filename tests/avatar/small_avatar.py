"""An avatar of the built-in head with a few thousand random Gaussians, and a motion for it."""

from __future__ import annotations

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench import example_avatar
from taichi_avatars.head.sequence import FlameSequence

COUNT = 3000


def small_avatar() -> Avatar:
    return example_avatar(COUNT)


def small_motion(n_expr: int, frames: int = 3, n_shape: int = 5) -> FlameSequence:
    """Expressions and poses that differ from frame to frame."""
    random = torch.Generator().manual_seed(4)
    values = {name: 0.1 * torch.randn(frames, 3, generator=random) for name in ("rotation", "neck_pose", "jaw_pose")}
    return FlameSequence(
        timesteps=list(range(frames)),
        shape=torch.ones(n_shape),
        expr=torch.rand(frames, n_expr, generator=random),
        eyes_pose=0.1 * torch.randn(frames, 6, generator=random),
        translation=0.3 * torch.randn(frames, 3, generator=random),
        **values,
    )
