"""Binding in plain torch, any float dtype, written to be read: the reference of the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.ops.binding import World
from taichi_avatars.ops.frames import Frames
from taichi_avatars.reference.frames import normalise


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Product of quaternions (...,4) w,x,y,z."""
    (aw, av), (bw, bv) = (a[..., :1], a[..., 1:]), (b[..., :1], b[..., 1:])
    w = aw * bw - (av * bv).sum(-1, keepdim=True)
    return torch.cat([w, aw * bv + bw * av + torch.linalg.cross(av, bv)], -1)


def bind(local_means: Tensor, local_quats: Tensor, local_log_scales: Tensor, binding: Tensor, frames: Frames) -> World:
    rotation, scale, center, quat = (field[binding.long()] for field in frames)
    means = scale[:, None] * (rotation @ local_means[..., None]).squeeze(-1) + center
    return World(means, multiply(quat, normalise(local_quats)), scale[:, None] * local_log_scales.exp())
