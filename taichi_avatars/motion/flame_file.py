"""Motions as one .npz of FLAME parameters: a capture's, an avatar's `flame_param.npz`, VHAP's tracked output."""

from __future__ import annotations

from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.files.npz import load_npz
from taichi_avatars.head.assets import HEAD_FILE
from taichi_avatars.head.description import describe_parameters, known_head
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import SIZES
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.motion import Motion, Reading, performed

WHAT = "an .npz with FLAME parameters"


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".npz"


def read(path: Path, head: FlameModel, reading: Reading) -> Motion:
    return performed(path.stem, FlameSequence.load_npz(path, parts=head.parts), head, path, [])


def describe(path: Path) -> Description:
    """FLAME parameters, checked against the head named by head.json beside them."""
    arrays = load_npz(path)
    if not arrays.keys() & {*SIZES, "expr"}:
        raise UserError(f"{path}: holds {', '.join(sorted(arrays)[:6]) or 'nothing'}: neither a FLAME model nor a motion")
    beside = Description(str(path), "")
    head = known_head(beside, path.parent, "") if (path.parent / HEAD_FILE).is_file() else None
    described = describe_parameters(path, arrays, head)
    described.problems += beside.problems
    return described
