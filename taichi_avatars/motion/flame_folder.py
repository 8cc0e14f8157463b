"""Motions as folders of FLAME parameters, one .npz per timestep."""

from __future__ import annotations

from pathlib import Path

from taichi_avatars.files.description import Description
from taichi_avatars.head.description import describe_timesteps
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.motion import Motion, Reading, performed
from taichi_avatars.scene.head_capture import FLAME_FOLDER, timestep_files

WHAT = "a folder of one .npz per timestep"


def recognises(path: Path) -> bool:
    return path.is_dir() and bool(_files(path))


def read(path: Path, head: FlameModel, reading: Reading) -> Motion:
    files = dict(enumerate(_files(path)))
    return performed(path.resolve().name, FlameSequence.from_frames(files, parts=head.parts), head, path, [])


def describe(path: Path) -> Description:
    files = _files(path)
    described = Description(str(path), "motion (folder of timesteps)", {"timesteps": len(files)})
    describe_timesteps(described, files)
    return described


def _files(path: Path) -> list[Path]:
    return timestep_files(path) or timestep_files(path / FLAME_FOLDER)
