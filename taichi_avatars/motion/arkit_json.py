"""ARKit weights as JSON."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.files.json import read_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion.arkit import perform
from taichi_avatars.motion.motion import Motion, Reading
from taichi_avatars.motion.take import Take, even_take

WHAT = "ARKit weights (.json)"
DEFAULT_FPS = 30.0  # of Apple's face tracking
SLOWEST = 1.0  # seconds from frame to frame: with more, the unit cannot be seconds


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".json"


def read(path: Path, head: FlameModel, reading: Reading) -> Motion:
    return perform(path, read_take(path), head)


def describe(path: Path) -> Description:
    described = Description(str(path), "motion (ARKit weights)")
    content = read_json(path)
    if not isinstance(content, dict) or not {"names", "frames"} <= content.keys():
        raise UserError(
            f'{path}: not a motion: want an object with "names" and "frames"; give ARKit weights or a capture folder'
        )
    names, frames = content["names"], content["frames"]
    if not isinstance(names, list) or not isinstance(frames, list):
        described.problem(path, '"names" and "frames" must be lists', "export it again")
        return described
    described.facts.update(timesteps=len(frames), weights=len(names))
    if not frames:
        described.problem(path, "has no frames", "record it again")
    for number, frame in enumerate(frames):
        weights = frame.get("weights") if isinstance(frame, dict) else None
        if not isinstance(weights, list) or len(weights) != len(names):
            found = f"{len(weights)} weights" if isinstance(weights, list) else "no weights"
            described.problem(path, f"frame {number}: got {found}, want {len(names)}", "export it again")
        elif not all(isinstance(weight, int | float) and math.isfinite(weight) for weight in weights):
            described.problem(path, f"frame {number}: a weight is not a finite number", "export it again")
    poses = content.get("head_pose")
    if isinstance(poses, list) and len(poses) != len(frames):
        described.problem(path, f"head_pose has {len(poses)} entries for {len(frames)} frames", "export it again")
    if not described.problems:  # anything else that reading would refuse
        described.check(lambda: read_take(path))
    return described


def read_take(path: Path) -> Take:
    """{"names": [...], "frames": [{"weights": [...], "time": seconds}], "head_pose": [[x, y, z]]}; time, head_pose optional."""
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
    times = times if len(times) == len(rows) else []
    if times and (times[-1] - times[0]) > SLOWEST * len(times):
        times = [time / 1000.0 for time in times]  # milliseconds
    return even_take(path, names, np.concatenate([np.array(rows), np.array(poses)], 1), times, DEFAULT_FPS, lambda turns: turns)


def _is_vector(value: object, size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == size
        and all(isinstance(entry, int | float) and math.isfinite(entry) for entry in value)
    )
