"""Fitting a motion to another person: the performer's neutral face taken out, extremes cut to what training has seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import roma
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence

# Share of a component's range in training that it may go beyond on either side.
CLAMP_MARGIN = 0.1
NEUTRALS = ("median", "first")


def relative_to_neutral(sequence: FlameSequence, neutral: str = "median") -> FlameSequence:
    """A motion as seen from the performer's neutral face, which becomes the avatar's.

    Trackers explain what is left of a person's shape by expression coefficients that never go away, and a jaw that is never
    quite closed; on another face they distort. Expressions are subtracted, jaw and eyes turned back. Head, neck and place
    stay: they are where the performer looks.

    Args:
        neutral: "median" over the motion, component by component, which is the resting face of somebody who talks or plays;
            "first" for a motion that begins neutral; or the number of a timestep.

    Raises:
        UserError: where there is no such timestep.
    """
    expr, jaw, eyes = _neutral(sequence, neutral)
    return replace(
        sequence,
        expr=sequence.expr - expr,
        jaw_pose=_turned_back(sequence.jaw_pose, jaw),
        eyes_pose=torch.cat([_turned_back(sequence.eyes_pose[:, k : k + 3], eyes[k : k + 3]) for k in (0, 3)], 1),
    )


@dataclass(frozen=True, eq=False)
class Range:
    """Lowest and highest values of expression components (E,) and of the jaw's angles (3,)."""

    expr: tuple[Tensor, Tensor]
    jaw: tuple[Tensor, Tensor]


def seen_range(seen: FlameSequence, timesteps: Iterable[int]) -> Range:
    """What a sequence holds at some timesteps, component by component, with a small margin.

    Args:
        seen: the sequence of an avatar.
        timesteps: those of it that training has seen.
    """
    rows = torch.tensor([seen.row(timestep) for timestep in sorted(timesteps)])
    return Range(_range(seen.expr.detach()[rows]), _range(seen.jaw_pose.detach()[rows]))


def clamped_to(sequence: FlameSequence, seen: FlameSequence, timesteps: Iterable[int]) -> FlameSequence:
    """A motion whose expressions and jaw stay in the range of other timesteps, see `seen_range`.

    What training has never seen has nothing to show: clamping is what stops holes under extreme transfer. A component that
    never moved in training does not move.
    """
    held = seen_range(seen, timesteps)
    return replace(sequence, expr=sequence.expr.clamp(*held.expr), jaw_pose=sequence.jaw_pose.clamp(*held.jaw))


def _neutral(sequence: FlameSequence, neutral: str) -> tuple[Tensor, Tensor, Tensor]:
    parts = (sequence.expr, sequence.jaw_pose, sequence.eyes_pose)
    if neutral == "median":
        expr, jaw, eyes = (part.median(0).values for part in parts)
        return expr, jaw, eyes
    if neutral == "first":
        row = 0
    else:
        try:
            row = sequence.row(int(neutral))
        except ValueError:
            raise UserError(f"neutral: got {neutral!r}, want median, first or the number of a timestep") from None
    expr, jaw, eyes = (part[row] for part in parts)
    return expr, jaw, eyes


def _turned_back(turns: Tensor, neutral: Tensor) -> Tensor:
    """Axis-angles (T,3) as seen from a neutral one (3,)."""
    back = roma.rotvec_to_rotmat(neutral.double()).T
    return roma.rotmat_to_rotvec(back @ roma.rotvec_to_rotmat(turns.double())).float()


def _range(seen: Tensor) -> tuple[Tensor, Tensor]:
    low, high = seen.amin(0), seen.amax(0)
    margin = CLAMP_MARGIN * (high - low)
    return low - margin, high + margin
