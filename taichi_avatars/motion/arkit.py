"""Faces captured as the 52 ARKit weights, put onto a head whose expression components have ARKit's names."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.arkit_files import Take, read_take

GAZE_SIDEWAYS, GAZE_VERTICAL = 0.5, 0.35  # radians of the eyeball at weight 1
JAW_JOINT = 0.1  # radians of the jaw joint at jawOpen 1; the component of that name does the rest of the opening
NECK_SHARE = 0.5  # of the head's rotation that the neck makes; the whole body makes the rest
LARGEST_TURN = 0.6  # radians that a head turn approaches but does not pass: no capture shows more


def read_arkit(path: Path | str, head: FlameModel) -> tuple[FlameSequence, float]:
    """Reads ARKit weights from JSON or from the CSV of the Live Link Face app, see `arkit_files`.

    Weights go to the expression components of the same name. Gaze turns the eyeballs as well, jawOpen the jaw joint a little,
    and the head's pose is shared between neck and root and limited to what a person's neck does.

    Args:
        head: must name its expression components, as the built-in head does.

    Returns:
        The motion, with the head's mean shape, timesteps from 0; and its frames per second.

    Raises:
        UserError: where the file is broken or the head has no such components.
    """
    take = read_take(Path(path))
    names, weights = take.names, take.weights
    known = head.expression_names or []
    common = [name for name in names if name in known]
    if not common:
        raise UserError(
            f"{path}: ARKit weights need a head whose expression components have ARKit's names, which this one has not; "
            "use an avatar of the built-in head, or a motion with FLAME parameters (.npz)"
        )
    columns = torch.tensor([known.index(name) for name in common])
    expr = torch.zeros(len(weights), head.n_expr, dtype=torch.float32)
    expr[:, columns] = weights[:, torch.tensor([names.index(name) for name in common])]
    jaw = torch.zeros(len(weights), 3, dtype=torch.float32)
    jaw[:, 0] = JAW_JOINT * take.weight("jawOpen")
    turn = _limited(take.poses)
    sequence = FlameSequence(
        timesteps=list(range(len(weights))),
        shape=torch.zeros(head.n_shape, dtype=torch.float32),
        expr=expr,
        rotation=(1.0 - NECK_SHARE) * turn,
        neck_pose=NECK_SHARE * turn,
        jaw_pose=jaw,
        eyes_pose=_gaze(take),
        translation=torch.zeros(len(weights), 3, dtype=torch.float32),
        static_offset=None,
        dynamic_offset=None,
    )
    return sequence, take.fps


def _gaze(take: Take) -> Tensor:
    """(T,6) axis-angles, left eye then right: about x downwards, about y to the person's left."""
    angles = []
    for side, outwards in (("Left", 1.0), ("Right", -1.0)):
        down = GAZE_VERTICAL * (take.weight(f"eyeLookDown{side}") - take.weight(f"eyeLookUp{side}"))
        out = GAZE_SIDEWAYS * outwards * (take.weight(f"eyeLookOut{side}") - take.weight(f"eyeLookIn{side}"))
        angles += [down, out, torch.zeros_like(down)]
    return torch.stack(angles, 1)


def _limited(turns: Tensor) -> Tensor:
    """Axis-angles (T,3) whose angle stays below LARGEST_TURN; small ones hardly change."""
    angle = turns.norm(dim=1, keepdim=True)
    return turns * (LARGEST_TURN * torch.tanh(angle / LARGEST_TURN) / angle.clamp_min(1e-8))
