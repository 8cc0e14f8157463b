"""Retargeting a motion to another person: the performer's neutral face is subtracted, extremes are clamped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence

# Fraction of a component's range in training by which it may exceed it on either side.
CLAMP_MARGIN = 0.1
FACIAL = ("jaw_pose", "eyes_pose")  # zero in a resting face; head and neck depend on where the performer looks
NEUTRALS = ("median", "first")


def relative_to_neutral(sequence: FlameSequence, neutral: str = "median") -> FlameSequence:
    """A motion relative to the performer's neutral face, which becomes the avatar's.

    Trackers explain the remainder of a person's shape by constant expression coefficients and a jaw that is never
    quite closed; on another face they distort. Expressions are subtracted, jaw and eyes rotated back. Head, neck and
    translation stay: they depend on where the performer looks.

    Args:
        neutral: "median" over the motion, component by component, which is the resting face of somebody who talks or acts;
            "first" for a motion that begins neutral; or the index of a timestep.

    Raises:
        UserError: if there is no such timestep.
    """
    moving = sequence.moving()
    rests = {key: _neutral(sequence, moving[key], neutral) for key in ("expr", *FACIAL) if key in moving}
    turned = {key: _turned_back(moving[key], rest) for key, rest in rests.items() if key in FACIAL}
    return replace(sequence, expr=sequence.expr - rests["expr"], **turned)


@dataclass(frozen=True, eq=False)
class Range:
    """Lowest and highest values of expression components (E,) and of the jaw's angles (3,), if there is one."""

    expr: tuple[Tensor, Tensor]
    jaw: tuple[Tensor, Tensor] | None


def seen_range(seen: FlameSequence, timesteps: Iterable[int]) -> Range:
    """The range of a sequence at some timesteps, component by component, with a small margin.

    Args:
        seen: the sequence of an avatar.
        timesteps: those seen in training.
    """
    rows = torch.tensor([seen.row(timestep) for timestep in sorted(timesteps)])
    jaw = None if seen.jaw_pose is None else _range(seen.jaw_pose.detach()[rows])
    return Range(_range(seen.expr.detach()[rows]), jaw)


def clamped_to(sequence: FlameSequence, seen: FlameSequence, timesteps: Iterable[int]) -> FlameSequence:
    """A motion with expressions and jaw clamped to a range, see `seen_range`.

    Regions never seen in training have nothing to show: clamping prevents holes under extreme transfer. A component that
    never moved in training does not move.
    """
    held = seen_range(seen, timesteps)
    jaw = sequence.jaw_pose
    jaw = jaw if jaw is None or held.jaw is None else jaw.clamp(*held.jaw)
    return replace(sequence, expr=sequence.expr.clamp(*held.expr), jaw_pose=jaw)


def _neutral(sequence: FlameSequence, values: Tensor, neutral: str) -> Tensor:
    if neutral == "median":
        return values.median(0).values
    if neutral == "first":
        row = 0
    else:
        try:
            row = sequence.row(int(neutral))
        except ValueError:
            raise UserError(f"neutral: got {neutral!r}, want median, first or the number of a timestep") from None
    return values[row]


def _turned_back(turns: Tensor, neutral: Tensor) -> Tensor:
    """Axis-angles (T,3n) of n joints relative to neutral ones (3n,)."""
    parts = []
    for joint, rest in zip(turns.double().split(3, 1), neutral.double().split(3), strict=True):
        back = roma.rotvec_to_rotmat(rest).T
        parts.append(roma.rotmat_to_rotvec(back @ roma.rotvec_to_rotmat(joint)).float())
    return torch.cat(parts, 1)


def _range(seen: Tensor) -> tuple[Tensor, Tensor]:
    low, high = seen.amin(0), seen.amax(0)
    margin = CLAMP_MARGIN * (high - low)
    return low - margin, high + margin
