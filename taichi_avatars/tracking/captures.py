"""A capture with other FLAME parameters than its source: pictures and cameras stay where they are and are named from there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_folder
from taichi_avatars.files.json import read_json, write_json
from taichi_avatars.head.assets import write_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.capture import REFINED
from taichi_avatars.scene.head_capture import MARKER, SPLITS
from taichi_avatars.scene.transforms import read_transforms


def check_place(out: Path, source: Path) -> None:
    """Raises UserError where a refined capture of `source` cannot be written into `out`."""
    if out.resolve() == source.resolve():
        raise UserError(f"{out}: is the capture itself, whose tracked parameters would be lost; give another folder with -o")
    if out.exists() and not (out / REFINED).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: holds something that `refine` did not make; give another folder with -o")


def write_refined(out: Path, source: Path, head: FlameModel, sequence: FlameSequence, facts: dict[str, object]) -> None:
    """Writes a capture with the pictures and cameras of another and these parameters, whole or not at all.

    Args:
        out: a new folder, or one that was made so, which is then replaced.
        source: a head capture that can be read.
        sequence: parameters of all its timesteps.
        facts: what `refined.json` says.

    Raises:
        UserError: where `out` holds something else or cannot be written.
    """
    check_place(out, source)
    with atomic_folder(out) as work:
        for split in SPLITS:
            path = source / f"transforms_{split}.json"
            if path.is_file():
                write_json(work / path.name, _renamed(path, out))
        _write_parameters(work / "flame_param", sequence)
        shutil.copyfile(source / MARKER, work / MARKER)
        write_head_json(work, head)
        write_json(work / REFINED, {"source": str(source.absolute()), **facts})


def _renamed(path: Path, out: Path) -> dict[str, Any]:
    """A split file whose frames name the same pictures from another folder, and the parameters in that one."""
    content = read_json(path)
    assert isinstance(content, dict)
    frames = []
    for frame, raw in zip(read_transforms(path), content.get("frames", []), strict=True):
        changed = dict(raw)
        for key, suffix in (("file_path", ".png"), ("fg_mask_path", "")):
            file = frame.file(key, suffix)
            if file is not None:
                changed[key] = _from(out, file)
        changed["flame_param_path"] = f"flame_param/{_name(frame.integer('timestep_index') or 0)}"
        frames.append(changed)
    return {**content, "frames": frames}


def _from(folder: Path, file: Path) -> str:
    try:
        return Path(os.path.relpath(file.absolute(), folder.absolute())).as_posix()
    except ValueError:  # on another drive
        return file.absolute().as_posix()


def _name(timestep: int) -> str:
    return f"{timestep:05d}.npz"


def _write_parameters(folder: Path, sequence: FlameSequence) -> None:
    folder.mkdir()
    constant: dict[str, Any] = {"shape": sequence.shape.numpy()}
    if sequence.static_offset is not None:
        constant["static_offset"] = sequence.static_offset[None].numpy()
    moving = sequence.moving()
    if sequence.dynamic_offset is not None:
        moving["dynamic_offset"] = sequence.dynamic_offset
    for row, timestep in enumerate(sequence.timesteps):
        np.savez(folder / _name(timestep), **{key: values[row : row + 1].numpy() for key, values in moving.items()}, **constant)
