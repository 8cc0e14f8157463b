"""The region that an avatar's head occupies over its whole motion, for placing cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor

from taichi_avatars.avatar.avatar import Avatar

SAMPLES = 24  # poses that represent a whole motion when its place and size are measured


@dataclass(frozen=True, eq=False)
class Place:
    """The region of a head over a whole motion.

    Attributes:
        center: (3,) centre of the space it occupies, world, metres.
        rotation: (3,3) its mean orientation; the columns are its own left, up and forward.
        extent: (3,) size of that space along these axes, metres.
    """

    center: Tensor
    rotation: Tensor
    extent: Tensor


def place(avatar: Avatar) -> Place:
    """Measures an avatar's place over its motion."""
    sequence = avatar.sequence
    assert sequence is not None
    rows = (
        torch.linspace(0, len(sequence.timesteps) - 1, min(SAMPLES, len(sequence.timesteps)), dtype=torch.float32)
        .round()
        .long()
        .tolist()
    )
    rotation = roma.special_procrustes(sequence.facing(rows, torch.float32).mean(0))
    assert isinstance(rotation, Tensor)
    with torch.no_grad():
        points = torch.stack([avatar.mesh(sequence.timesteps[row]).vertices for row in rows]) @ rotation
    low, high = points.amin((0, 1)), points.amax((0, 1))
    return Place(rotation @ (0.5 * (low + high)), rotation, high - low)


def moved(avatar: Avatar, to: Avatar) -> Avatar:
    """`avatar` with its motion shifted to the mean place of `to`, for cameras that are placed around `to`."""
    assert avatar.sequence is not None
    shift = place(to).center - place(avatar).center
    sequence = replace(avatar.sequence, translation=avatar.sequence.translation + shift)
    return Avatar(avatar.gaussians, avatar.head, sequence)
