"""Where the landmarks sit on the built-in head, and where pose, expression and identity move them, with derivatives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import vertex_normals

FILE = Path(__file__).resolve().parent.parent / "assets" / "landmark_places.npz"
JAW, LEFT_EYE, RIGHT_EYE = 2, 3, 4  # joints; the root and the neck come before
ROTATION, TRANSLATION, JAW_POSE, GAZE, POSE = slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12), 12
# Axis-angles (left x, y, right x, y) of the eyes by gaze: yaw to the person's left, pitch downwards, vergence inwards.
EYES_BY_GAZE = torch.tensor([[0.0, 1, 0], [1, 0, -1], [0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 0]])


def cross_matrix(v: Tensor) -> Tensor:
    """(...,3,3) that multiplies as the cross product with v (...,3)."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def rotation_matrix(r: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (...,3,3) of axis-angles (...,3), and their left Jacobians: exp(r + dr) = exp(J dr) exp(r)."""
    angle2 = (r * r).sum(-1)[..., None, None]
    small = angle2 < 1e-6
    safe = torch.where(small, torch.ones_like(angle2), angle2)
    angle = safe.sqrt()
    a = torch.where(small, 1 - angle2 / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - angle2 / 24, (1 - angle.cos()) / safe)
    c = torch.where(small, 1 / 6 - angle2 / 120, (angle - angle.sin()) / (safe * angle))
    k = cross_matrix(r)
    k2 = k @ k
    one = torch.eye(3, dtype=r.dtype)
    return one + a * k + b * k2, one + b * k + c * k2


@dataclass(frozen=True, eq=False)
class HeadPoints:
    """K points on the head's surface, the same in all frames or, with a leading axis T, others in each.

    A frame's parameters are P = 12 + E numbers: rotation 3, translation 3, jaw 3, gaze (yaw to the person's left, pitch
    downwards, vergence) 3, expressions E; the neck is straight. A person's are S: identity, then offsets of the scalp where
    `tracking.offsets` is used.

    Attributes:
        template: (K,3) of the mean head, metres.
        directions: (K,3,E+S) by expression, then by identity and offsets.
        normals: (K,3) of the mean head.
        weights: (K,5) skinning.
        joints: (5,3) of the mean head; joint_directions (5,3,E+S).
    """

    template: Tensor
    directions: Tensor
    normals: Tensor
    weights: Tensor
    joints: Tensor
    joint_directions: Tensor

    @staticmethod
    def of_vertices(head: FlameModel, offsets: Tensor | None = None) -> HeadPoints:
        """All vertices of the built-in head. offsets: (V,3,O), metres per unit of what is added to identity."""
        assert head.rig.regressor is not None  # the built-in head's joints follow its vertices
        basis = torch.cat([head.exprdirs().permute(1, 2, 0), head.shapedirs, *([] if offsets is None else [offsets])], 2)
        return HeadPoints(
            head.v_template,
            basis,
            vertex_normals(head.v_template, head.faces),
            head.rig.weights,
            head.rig.regressor.T @ head.v_template,
            torch.einsum("vj,vck->jck", head.rig.regressor, basis),
        )

    def between(self, corners: Tensor, shares: Tensor) -> HeadPoints:
        """Points between some of these: corners (K,C) or (T,K,C) by their numbers, with shares (...,C) that add up to 1."""
        at = shares[..., None]
        return replace(
            self,
            template=(self.template[corners] * at).sum(-2),
            directions=(self.directions[corners] * at[..., None]).sum(-3),
            normals=torch.nn.functional.normalize((self.normals[corners] * at).sum(-2), dim=-1),
            weights=(self.weights[corners] * at).sum(-2),
        )

    def some(self, chosen: Tensor | slice) -> HeadPoints:
        """Those with some numbers; or all of some frames."""
        each = ("template", "directions", "normals", "weights")
        return replace(self, **{name: getattr(self, name)[chosen] for name in each})

    @property
    def count(self) -> int:
        return self.template.shape[-2]

    def place(self, frames: Tensor, shape: Tensor) -> Placed:
        """Points in the world for T frames (T,P) of a person with identity `shape` (S,)."""
        coefficients = torch.cat([frames[:, POSE:], shape.expand(len(frames), -1)], 1)
        joints = self.joints + torch.einsum("jck,tk->tjc", self.joint_directions, coefficients)
        if self.directions.ndim == 3:
            moved = (coefficients @ self.directions.flatten(0, 1).T).unflatten(1, (-1, 3))
        else:
            moved = (self.directions.flatten(1, 2) @ coefficients[..., None]).view(len(frames), -1, 3)
        surface = self.template + moved
        gaze = frames[:, GAZE] @ EYES_BY_GAZE.T.to(frames.dtype)
        turns = [rotation_matrix(r) for r in (frames[:, JAW_POSE], gaze[:, :3], gaze[:, 3:])]
        root = joints[:, None, 0]
        arms = []  # from a joint to the points, turned
        local = self.weights[..., :2].sum(-1)[..., None] * (surface - root)
        for joint, (turn, _) in zip((JAW, LEFT_EYE, RIGHT_EYE), turns, strict=True):
            arm = (surface - joints[:, None, joint]) @ turn.mT
            local = local + self.weights[..., joint, None] * (arm + (joints[:, joint] - joints[:, 0])[:, None])
            arms.append(arm)
        rotation, jacobian = rotation_matrix(frames[:, ROTATION])
        world = local @ rotation.mT + root + frames[:, None, TRANSLATION]
        return Placed(self, world, local, arms, turns, rotation, jacobian)


@dataclass(frozen=True, eq=False)
class Placed:
    """Points in the world and what their derivatives are made of.

    Attributes:
        world: (T,K,3) metres.
        rotation: (T,3,3) of the head.
    """

    points: HeadPoints
    world: Tensor
    local: Tensor
    arms: list[Tensor]
    turns: list[tuple[Tensor, Tensor]]
    rotation: Tensor
    jacobian: Tensor

    def derivatives(self, screen: Tensor, out: Tensor) -> None:
        """How pictures of the points move.

        That joints move with identity and expression is left out: it moves whole parts by little, which the next step corrects.

        Args:
            screen: (T,K,R,3) derivative of R numbers in the picture by a point's place in the world.
            out: (T,K,R,P+S), to be filled with those by the frame's parameters and by the person's; or (T,K,R,P), without the
                latter.
        """
        weights = self.points.weights[..., None, None]
        in_head = _turned(screen, self.rotation)
        out[..., ROTATION] = _swung(screen, self.local @ self.rotation.mT, self.jacobian)
        out[..., TRANSLATION] = screen
        eyes = torch.zeros_like(in_head)
        mixed = weights[..., :2, :, :].sum(-3) * in_head
        for k, joint in enumerate((JAW, LEFT_EYE, RIGHT_EYE)):
            turn, jacobian = self.turns[k]
            here = weights[..., joint, :, :] * in_head
            swing = _swung(here, self.arms[k], jacobian)
            if joint == JAW:
                out[..., JAW_POSE] = swing
            else:
                eyes += swing @ EYES_BY_GAZE.unflatten(0, (2, 3))[k - 1]
            mixed += _turned(here, turn)
        out[..., GAZE] = eyes
        linear = out[..., POSE:]
        directions = self.points.directions[..., None, : linear.shape[-1]]
        torch.mul(mixed[..., :1], directions[..., 0, :, :], out=linear)
        for axis in (1, 2):
            linear.addcmul_(mixed[..., axis, None], directions[..., axis, :, :])


def _turned(screen: Tensor, rotation: Tensor) -> Tensor:
    """Derivatives (T,K,R,3) by places before each frame's rotation (T,3,3), from those by places after it."""
    return (screen.flatten(1, 2) @ rotation).view(screen.shape)


def _swung(screen: Tensor, arm: Tensor, jacobian: Tensor) -> Tensor:
    """Derivatives (T,K,R,3) by the axis-angle that turns arms (T,K,3), with its left Jacobian (T,3,3), from those by places."""
    return _turned(torch.linalg.cross(arm[..., None, :], screen), jacobian)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The network's landmarks on the built-in head.

    Attributes:
        number: (K,) of each, as the network has them.
        sigma: (K,) standard deviation along an axis, of the face's size.
        points: where they sit.
    """

    number: Tensor
    sigma: Tensor
    points: HeadPoints

    @staticmethod
    def of(head: FlameModel, offsets: Tensor | None = None) -> Landmarks:
        """offsets: as `HeadPoints.of_vertices` takes them."""
        with np.load(FILE, allow_pickle=False) as file:
            number, triangle, barycentric, sigma = (
                torch.from_numpy(file[name]) for name in ("landmark", "triangle", "barycentric", "sigma")
            )
        points = HeadPoints.of_vertices(head, offsets).between(head.faces[triangle.long()], barycentric)
        return Landmarks(number.long(), sigma, points)
