"""Motions from head captures, usually of another person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.motion import Motion, Reading, performed
from taichi_avatars.scene.capture import capture_kind
from taichi_avatars.scene.description import describe_capture
from taichi_avatars.scene.head_capture import SPLITS, lacks_pictures, read_flame_files, read_head_frames

WHAT = "a head capture"


def recognises(path: Path) -> bool:
    return path.is_dir() and capture_kind(path) == "head"


def read(path: Path, head: FlameModel, reading: Reading) -> Motion:
    """The motion of a capture; without its images if they are missing: a motion needs none."""
    splits, remark = reading.splits, None
    try:
        frames = read_head_frames(path, principal_point=reading.principal_point, resolution=reading.resolution)
        held = [view for split, views in frames.splits.items() if splits is None or split in splits for view in views]
        timesteps = {view.timestep for view in held if view.timestep is not None}
        known = frames.flame_files
    except UserError as problem:
        if not lacks_pictures(path):
            raise
        held, known, timesteps = [], read_flame_files(path, splits), None
        remark = f"driven without the capture's images: {problem}"
    files = {timestep: file for timestep, file in known.items() if timesteps is None or timestep in timesteps}
    if not files:
        raise UserError(f"{path}: holds no views in {', '.join(splits or SPLITS)}; choose another --split")
    motion = performed(path.resolve().name, FlameSequence.from_frames(files, parts=head.parts), head, path, held)
    return replace(motion, remark="; ".join(filter(None, (motion.remark, remark))) or None)


def describe(path: Path) -> Description:
    return describe_capture(path)
