"""Motions that drive an avatar: expressions and poses that fit its head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.transforms import PrincipalPoint
from taichi_avatars.scene.views import View

FPS = 25  # of a motion without its own, as the public viewers play it


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion to drive an avatar with.

    Attributes:
        name: for file names.
        sequence: its expressions and poses, padded to the avatar's head; without the performer's shape and offsets.
        fps: frames per second of playback.
        views: its images, if it is a capture.
        remark: one line for the user, if any.
    """

    name: str
    sequence: FlameSequence
    fps: float
    views: list[View]
    remark: str | None = None


class Reading(NamedTuple):
    """Options for reading a motion that is a capture.

    Attributes:
        splits: "train", "val" and "test"; None for all.
        principal_point: where its `cy` is measured from, see `scene.capture.load_capture`.
        resolution: of its views, see there.
    """

    splits: Sequence[str] | None = None
    principal_point: PrincipalPoint = "bottom"
    resolution: int = -1


def own_motion(avatar: Avatar, views: list[View], name: str) -> Motion:
    """The motion of an avatar's own capture in some of its views, for self-reenactment: from the avatar's file.

    Args:
        views: of a split of the capture.
        name: for file names.
    """
    if avatar.sequence is None:
        raise UserError("this scene is not bound to a head: there is nothing that a motion could drive")
    if not views:
        raise UserError("the avatar's capture holds no such views; choose another --split, or give a --motion")
    timesteps = sorted({view.timestep for view in views if view.timestep is not None})
    sequence = avatar.sequence.some([avatar.sequence.row(timestep) for timestep in timesteps])
    return Motion(name, sequence, float(FPS), views)


def drive(avatar: Avatar, motion: Motion) -> Avatar:
    """The avatar with another motion: its own shape and static offset, the motion's expressions, poses and timesteps.

    A motion of the avatar's own capture has the dynamic offset, too; those of others have none (`performed`).
    """
    if avatar.head is None or avatar.sequence is None:
        raise UserError("this scene is not bound to a head: there is nothing that a motion could drive")
    own = avatar.sequence
    driven = replace(motion.sequence, shape=own.shape, static_offset=own.static_offset)
    return Avatar(avatar.gaussians, avatar.head, driven)


def performed(name: str, sequence: FlameSequence, head: FlameModel, path: Path, views: list[View]) -> Motion:
    """Expressions and poses only: the performer may have a shape or offsets that this head cannot represent."""
    bare = replace(sequence, shape=torch.zeros(head.n_shape, dtype=torch.float32), static_offset=None, dynamic_offset=None)
    try:
        fitted = bare.fit(head)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    names, given = head.expression_names, sequence.expr.shape[1]
    remark = None
    if names is not None and 0 < given < head.n_expr:
        remark = (
            f"{path}: has {given} expression coefficients, the head {head.n_expr} named ones: taken for {names[0]} to "
            f"{names[given - 1]}, the others are 0; the face is wrong if they come from another head"
        )
    return Motion(name, fitted, float(FPS), views, remark)
