"""The FLAME head in plain torch, any float dtype, written to be read: the reference of the tests."""

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
    """(...,3,3), as the exponential of the cross product matrix: correct at every angle, 0 included, and so is its gradient."""
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


@dataclass(frozen=True)
class JointedHead:
    """A head like GNM's, whose joints follow from identity alone.

    template (V,3), joints (J,3), identity (I,V,3), joint_identity (I,J,3), expression (E,V,3), correctives (9J,3V),
    weights (J,V), parents: of the J joints, the root's is itself and every other's precedes it.
    """

    template: Tensor
    joints: Tensor
    identity: Tensor
    joint_identity: Tensor
    expression: Tensor
    correctives: Tensor
    weights: Tensor
    parents: tuple[int, ...]


def jointed(head: JointedHead, shape: Tensor, expr: Tensor, pose: Tensor, translation: Tensor, offset: Tensor):
    """Vertices, canonical (V,3), joints (J,3) from shape (I,), expr (E,), pose (J,3), translation (3,), offset (V,3)."""
    identity = torch.einsum("i,ivc->vc", shape, head.identity)
    canonical = head.template + identity + torch.einsum("e,evc->vc", expr, head.expression) + offset
    joints = head.joints + torch.einsum("i,ijc->jc", shape, head.joint_identity)
    local = rotation(pose)
    features = (local - torch.eye(3, dtype=local.dtype)).flatten()
    corrected = canonical + (features @ head.correctives).view_as(canonical)
    turns, posed = [local[0]], [joints[0] + translation]
    for j in range(1, len(joints)):
        parent = head.parents[j]
        turns.append(turns[parent] @ local[j])
        posed.append(posed[parent] + turns[parent] @ (joints[j] - joints[parent]))
    carried = torch.einsum("jab,jvb->jva", torch.stack(turns), corrected - joints[:, None]) + torch.stack(posed)[:, None]
    return torch.einsum("jv,jva->va", head.weights, carried), canonical, torch.stack(posed)
