"""Triangle frames in plain torch, any float dtype, written to be read: the reference of the tests."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.ops.frames import Frames

TINY = 1e-20


def normalise(x: Tensor) -> Tensor:
    """x / sqrt(max(x.x, 1e-20)) along the last axis; the gradient is cut where the maximum takes over."""
    squared = (x * x).sum(-1, keepdim=True)
    short = squared <= TINY
    return torch.where(short, x.detach() / TINY**0.5, x / torch.where(short, 1.0, squared).sqrt())


def length(x: Tensor) -> Tensor:
    """|x| along the last axis; the gradient is 0 where x is too short to have a direction."""
    squared = (x * x).sum(-1)
    short = squared <= TINY
    return torch.where(short, squared.detach().sqrt(), torch.where(short, 1.0, squared).sqrt())


def quat_from_matrix(m: Tensor) -> Tensor:
    """(...,4) w,x,y,z of (...,3,3), from the row with the largest diagonal entry of the matrix 4 q q^T."""
    (m00, m01, m02), (m10, m11, m12), (m20, m21, m22) = (r.unbind(-1) for r in m.unbind(-2))
    w, x, y, z = 1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22
    wx, wy, wz = m21 - m12, m02 - m20, m10 - m01
    xy, xz, yz = m10 + m01, m02 + m20, m21 + m12
    outer = torch.stack([w, wx, wy, wz, wx, x, xy, xz, wy, xy, y, yz, wz, xz, yz, z], -1).unflatten(-1, (4, 4))
    largest = torch.stack([w, x, y, z], -1).argmax(-1)
    row = torch.take_along_dim(outer, largest[..., None, None], -2).squeeze(-2)
    return row / (2 * torch.take_along_dim(row, largest[..., None], -1).sqrt())


def triangle_frames(vertices: Tensor, faces: Tensor) -> Frames:
    v0, v1, v2 = vertices[faces.long()].unbind(1)
    a0 = normalise(v1 - v0)
    a1 = normalise(torch.linalg.cross(a0, v2 - v0))
    a2 = torch.linalg.cross(a0, a1)
    rotation = torch.stack([a0, a1, a2], -1)
    scale = (length(v1 - v0) + (a2 * (v2 - v0)).sum(-1).abs()) / 2
    return Frames(rotation, scale, (v0 + v1 + v2) / 3, quat_from_matrix(rotation))
