"""Faces captured as the 52 ARKit weights, mapped to a head whose expression components have ARKit's names."""

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

    Weights go to the expression components of the same name. Gaze turns the eyeballs as well, jawOpen the jaw joint a little,
    and the head's rotation is shared between neck and root and limited to the range of a neck.

    Args:
        path: where the recording came from.
        head: must have named expression components, as the built-in head has.

    Raises:
        UserError: if the head has no such components.
    """
    names, weights = take.names, take.weights
    known = head.expression_names or []
    if not any(name in known for name in names):
        raise UserError(
            f"{path}: ARKit weights need a head whose expression components have ARKit's names, which this one does not have; "
            "use an avatar of the built-in head, or a motion with FLAME parameters (.npz)"
        )
    mapped = face_map(head)
    moving = [name for name in dict.fromkeys(names) if name in mapped.names]
    matrix = torch.from_numpy(mapped.matrix)[[mapped.names.index(name) for name in moving]]
    rows = weights[:, [names.index(name) for name in moving]] @ matrix
    place = columns(head.n_expr)
    turn, has = _limited(take.poses), {part.name for part in head.parts}
    sequence = FlameSequence(
        timesteps=list(range(len(weights))),
        shape=torch.zeros(head.n_shape, dtype=torch.float32),
        expr=rows[:, place["expr"]],
        rotation=(1.0 - NECK_SHARE) * turn if "neck" in has else turn,
        neck_pose=NECK_SHARE * turn if "neck" in has else None,
        jaw_pose=rows[:, place["jaw"]] if "jaw" in has else None,
        eyes_pose=rows[:, place["eyes"]] if "eyes" in has else None,
        translation=torch.zeros(len(weights), 3, dtype=torch.float32),
    )
    return Motion(path.stem, sequence, take.fps, views=[])


def _limited(turns: Tensor) -> Tensor:
    """Axis-angles (T,3) with angles limited to below LARGEST_TURN; small ones hardly change."""
    angle = turns.norm(dim=1, keepdim=True)
    return turns * (LARGEST_TURN * torch.tanh(angle / LARGEST_TURN) / angle.clamp_min(1e-8))
