"""Faces captured as the 52 ARKit weights, put onto a head whose expression components have ARKit's names."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.transforms import read_json

DEFAULT_FPS = 30.0  # of Apple's face tracking
GAZE_SIDEWAYS, GAZE_VERTICAL = 0.5, 0.35  # radians of the eyeball at weight 1
JAW_JOINT = 0.1  # radians of the jaw joint at jawOpen 1; the component of that name does the rest of the opening
NECK_SHARE = 0.5  # of the head's rotation that the neck makes; the whole body makes the rest
LARGEST_TURN = 0.6  # radians that a head turn approaches but does not pass: no capture shows more


def read_arkit(path: Path | str, head: FlameModel) -> tuple[FlameSequence, float]:
    """Reads ARKit weights from JSON: "names", "frames" with "weights" and "time" each, and "head_pose" (axis-angles).

    Weights go to the expression components of the same name. Gaze turns the eyeballs as well, jawOpen the jaw joint a little,
    and the head's pose is shared between neck and root and limited to what a person's neck does.

    Args:
        head: must name its expression components, as the built-in head does.

    Returns:
        The motion, with the head's mean shape, timesteps from 0; and its frames per second.

    Raises:
        UserError: where the file is broken or the head has no such components.
    """
    names, weights, times, poses = _read(Path(path))
    known = head.expression_names or []
    common = [name for name in names if name in known]
    if not common:
        raise UserError(
            f"{path}: ARKit weights need a head whose expression components have ARKit's names, which this one has not; "
            "use an avatar of the built-in head, or a motion with FLAME parameters (.npz)"
        )
    columns = torch.tensor([known.index(name) for name in common])
    expr = torch.zeros(len(weights), head.n_expr)
    expr[:, columns] = weights[:, torch.tensor([names.index(name) for name in common])]

    def weight(name: str) -> Tensor:
        return weights[:, names.index(name)] if name in names else torch.zeros(len(weights))

    jaw = torch.zeros(len(weights), 3)
    jaw[:, 0] = JAW_JOINT * weight("jawOpen")
    turn = _limited(poses)
    sequence = FlameSequence(
        timesteps=list(range(len(weights))),
        shape=torch.zeros(head.n_shape),
        expr=expr,
        rotation=(1.0 - NECK_SHARE) * turn,
        neck_pose=NECK_SHARE * turn,
        jaw_pose=jaw,
        eyes_pose=_gaze(weight),
        translation=torch.zeros(len(weights), 3),
        static_offset=None,
        dynamic_offset=None,
    )
    return sequence, _fps(times)


def _gaze(weight: Any) -> Tensor:
    """(T,6) axis-angles, left eye then right: about x downwards, about y to the person's left."""
    angles = []
    for side, outwards in (("Left", 1.0), ("Right", -1.0)):
        down = GAZE_VERTICAL * (weight(f"eyeLookDown{side}") - weight(f"eyeLookUp{side}"))
        out = GAZE_SIDEWAYS * outwards * (weight(f"eyeLookOut{side}") - weight(f"eyeLookIn{side}"))
        angles += [down, out, torch.zeros_like(down)]
    return torch.stack(angles, 1)


def _limited(turns: Tensor) -> Tensor:
    """Axis-angles (T,3) whose angle stays below LARGEST_TURN; small ones hardly change."""
    angle = turns.norm(dim=1, keepdim=True)
    return turns * (LARGEST_TURN * torch.tanh(angle / LARGEST_TURN) / angle.clamp_min(1e-8))


def _fps(times: list[float]) -> float:
    """From the median distance of two frames."""
    steps = sorted(b - a for a, b in pairwise(times) if b > a)
    return min(120.0, max(1.0, round(1.0 / steps[len(steps) // 2], 3))) if steps else DEFAULT_FPS


def _read(path: Path) -> tuple[list[str], Tensor, list[float], Tensor]:
    """Names, weights (T,W) in [0,1], times in seconds (none where they are not given) and head poses (T,3)."""
    content = read_json(path)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("names"), list)
        or not isinstance(content.get("frames"), list)
    ):
        raise UserError(f'{path}: not ARKit weights: want an object with lists "names" and "frames"')
    names, frames = [str(name) for name in content["names"]], content["frames"]
    if not frames:
        raise UserError(f"{path}: holds no frames; record it again")
    rows, times = [], []
    for number, frame in enumerate(frames):
        row = frame.get("weights") if isinstance(frame, dict) else None
        if not _is_vector(row, len(names)):
            raise UserError(f"{path}: frame {number}: want {len(names)} finite weights, one for every name; export it again")
        rows.append(row)
        if isinstance(frame.get("time"), int | float) and math.isfinite(frame["time"]):
            times.append(float(frame["time"]))
    poses = content.get("head_pose") or [[0.0, 0.0, 0.0]] * len(frames)
    if not isinstance(poses, list) or len(poses) != len(frames) or not all(_is_vector(pose, 3) for pose in poses):
        raise UserError(f"{path}: head_pose: want {len(frames)} axis-angles of three finite numbers, one for every frame")
    return names, torch.tensor(rows).float().clamp(0.0, 1.0), times, torch.tensor(poses).float()


def _is_vector(value: object, size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == size
        and all(isinstance(entry, int | float) and math.isfinite(entry) for entry in value)
    )
