"""The FLAME head in plain torch, any float dtype, written for reading: the oracle of the tests."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PARENTS = (-1, 0, 1, 1, 1)


@dataclass(frozen=True)
class Head:
    """v_template (V,3), shapedirs (V,3,S), exprdirs (V,3,E), posedirs (V,3,36), regressor (5,V), weights (V,5)."""

    v_template: Tensor
    shapedirs: Tensor
    exprdirs: Tensor
    posedirs: Tensor
    regressor: Tensor
    weights: Tensor


def rotation(axis_angle: Tensor) -> Tensor:
    """(...,3,3), as the exponential of the cross product matrix: true at every angle, 0 included, and so is its gradient."""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3)))


def flame(head: Head, shape: Tensor, expr: Tensor, pose: Tensor, translation: Tensor, offset: Tensor):
    """Vertices, canonical (V,3), joints (5,3) from shape (S,), expr (E,), pose (5,3), translation (3,), offset (V,3)."""
    canonical = head.v_template + head.shapedirs @ shape + head.exprdirs @ expr + offset
    joints = head.regressor @ canonical
    local = rotation(pose)
    corrected = canonical + head.posedirs @ (local[1:] - torch.eye(3, dtype=local.dtype)).flatten()
    turns, posed = [local[0]], [joints[0]]
    for j in range(1, 5):
        parent = PARENTS[j]
        turns.append(turns[parent] @ local[j])
        posed.append(turns[parent] @ (joints[j] - joints[parent]) + posed[parent])
    turn, posed = torch.stack(turns), torch.stack(posed)
    carried = torch.einsum("jab,jvb->vja", turn, corrected - joints[:, None]) + posed
    return (head.weights[..., None] * carried).sum(1) + translation, canonical, posed + translation
