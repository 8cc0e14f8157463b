"""Faces captured as the 52 ARKit weights, mapped to a head."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.face_map import columns, face_map
from taichi_avatars.motion.motion import Motion
from taichi_avatars.motion.take import Take

NECK_SHARE = 0.5  # fraction of the head's rotation made by the neck; the body makes the rest
LARGEST_TURN = 0.6  # radians that a head rotation approaches but does not exceed: no capture shows more


def perform(path: Path, take: Take, head: FlameModel) -> Motion:
    """Maps a recording to a head.

    Weights move what `face_map` says. The head's rotation is shared between neck and root and limited to the range of a neck.

    Args:
        path: where the recording came from.
        head: the built-in one, another with components of ARKit's names, or a GNM head.

    Raises:
        UserError: for any other head, or weights of other names.
    """
    names, mapped, place = take.names, face_map(head), columns(head.n_expr)
    moving = [name for name in dict.fromkeys(names) if name in mapped.names]
    matrix = torch.from_numpy(mapped.matrix)[[mapped.names.index(name) for name in moving]]
    if not bool(matrix[:, place["expr"]].any()):
        raise UserError(
            f"{path}: ARKit weights need a head whose expression components have ARKit's names, which this one does not "
            "have, or a GNM head with eyes, in metres and upright; use an avatar of the built-in head, or "
            "a motion with FLAME parameters (.npz)"
        )
    rows = take.weights[:, [names.index(name) for name in moving]] @ matrix
    turn, has = _limited(take.poses), {part.name for part in head.parts}
    sequence = FlameSequence(
        timesteps=list(range(len(rows))),
        shape=torch.zeros(head.n_shape, dtype=torch.float32),
        expr=rows[:, place["expr"]],
        rotation=(1.0 - NECK_SHARE) * turn if "neck" in has else turn,
        neck_pose=NECK_SHARE * turn if "neck" in has else None,
        jaw_pose=rows[:, place["jaw"]] if "jaw" in has else None,
        eyes_pose=rows[:, place["eyes"]] if "eyes" in has else None,
        translation=torch.zeros(len(rows), 3, dtype=torch.float32),
    )
    return Motion(path.stem, sequence, take.fps, views=[], remark=mapped.remark)


def _limited(turns: Tensor) -> Tensor:
    """Axis-angles (T,3) with angles limited to below LARGEST_TURN; small ones hardly change."""
    angle = turns.norm(dim=1, keepdim=True)
    return turns * (LARGEST_TURN * torch.tanh(angle / LARGEST_TURN) / angle.clamp_min(1e-8))
