"""Finding the head model: head.json, the user's own FLAME file, and its conversion to a plain npz."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.files.json import write_json
from taichi_avatars.files.npz import load_npz
from taichi_avatars.files.text import decoded
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.flame_files import head_from_keys, read_head, read_landmarks, read_masks
from taichi_avatars.head.gnm_files import KEPT, MARK, gnm_keys, own_keys

HEAD_FILE = "head.json"
VARIABLE = "TAICHI_AVATARS_FLAME"
# Names of head files in the user's configuration folder: those that convert-flame writes, then the original names.
FLAME_NAMES = ("flame.npz", "flame.pkl", "flame2023.npz", "flame2023.pkl", "flame2023_no_jaw.pkl", "generic_model.pkl")
GNM_NAMES = ("gnm_head.npz",)


def config_folder() -> Path:
    """The folder for the user's own FLAME file."""
    base = os.environ.get("APPDATA") if os.name == "nt" else os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "taichi-avatars"


def resolve_head(argument: str | Path | None = None, beside: Path | None = None) -> FlameModel:
    """The head to use: the argument, else head.json, else the environment, else the user's configuration folder.

    Args:
        argument: "builtin" or the path of a FLAME file.
        beside: a capture, an avatar's folder, or a file in one, where head.json may lie.

    Raises:
        UserError: if no head is known, or the one that head.json names cannot be found.
    """
    if argument is not None:
        return FlameModel.builtin() if str(argument) == "builtin" else FlameModel.load(argument)
    stated = read_head_json(beside) if beside is not None else None
    if stated is not None and beside is not None:
        return _stated_head(stated, _folder(beside))
    for path in own_head_files():
        return FlameModel.load(path)
    raise UserError(
        f"which head? Give --head builtin, or --head PATH of your FLAME file (flame2023.pkl or .npz), "
        f"or set {VARIABLE}, or put the file into {config_folder()}"
    )


def read_head_json(beside: Path | str) -> dict[str, Any] | None:
    """The contents of head.json in a folder, or beside a file; None if there is none.

    Raises:
        UserError: for a broken head.json.
    """
    path = _folder(Path(beside)) / HEAD_FILE
    try:
        stated = json.loads(decoded(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); repair it, or delete it and give --head") from None
    if not isinstance(stated, dict) or not isinstance(stated.get("head"), str):
        raise UserError(f'{path}: names no head; want {{"head": "builtin-1"}} or {{"head": "flame", "file": ...}}')
    return stated


def write_head_json(folder: Path | str, head: FlameModel) -> Path:
    """Writes head.json into a folder, so that the head of its contents can be found again."""
    path = Path(folder) / HEAD_FILE
    write_json(path, head.identity, indent=None)
    return path


def convert_flame(
    source: Path | str, target: Path | str, landmarks: Path | str | None = None, masks: Path | str | None = None
) -> Path:
    """Writes a FLAME file as a plain npz with the same keys, without executing the pickle; with landmarks and regions if given.

    Raises:
        UserError: for a source that is missing, broken or refused, or a target that is not an .npz.
    """
    target = Path(target)
    if target.suffix != ".npz":
        raise UserError(f"{target}: want a name that ends in .npz")
    head = read_head(source)
    if isinstance(head.joints, tuple):
        raise UserError(f"{source}: is a GNM file, not a FLAME file; convert it with convert-head")
    points = head.landmarks if landmarks is None else read_landmarks(landmarks, len(head.faces))
    regions = head.regions if masks is None else read_masks(masks, len(head.v_template))
    arrays: dict[str, Any] = {
        "v_template": head.v_template,
        "shapedirs": np.concatenate([head.shapedirs, head.exprdirs], 2),
        "n_shape": np.array(head.shapedirs.shape[2]),
        "n_expr": np.array(head.exprdirs.shape[2]),
        "J_regressor": head.joints.T,
        "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int32),
        "weights": head.weights,
        "f": head.faces.astype(np.int32),
        **{f"region_{name}": ids.astype(np.int32) for name, ids in regions.items()},
    }
    if head.posedirs is not None:
        arrays["posedirs"] = head.posedirs
    if head.expression_names is not None:
        arrays["expression_names"] = np.array(head.expression_names)
    if head.uv is not None:
        arrays["vt"], arrays["ft"] = head.uv.reshape(-1, 2), np.arange(3 * len(head.faces), dtype=np.int32).reshape(-1, 3)
    if points is not None:
        arrays["full_lmk_faces_idx"], arrays["full_lmk_bary_coords"] = points
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return target


def convert_head(source: Path | str, target: Path | str) -> Path:
    """Converts GNM's npz to one with the keys of our head files, or such a file back to GNM's.

    Raises:
        UserError: for a source that is missing, broken or neither of the two, or a target that is not an .npz.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".npz":
        raise UserError(f"{target}: want a name that ends in .npz")
    if source.suffix != ".npz":
        raise UserError(f"{source}: want the .npz of a GNM head; convert FLAME's .pkl with convert-flame")
    keys = load_npz(source)
    if MARK not in keys and KEPT + "joint_names" not in keys:
        raise UserError(f"{source}: is not a GNM head, nor made from one; convert a FLAME file with convert-flame")
    head_from_keys(keys, source)  # errors in it are raised before anything is written
    arrays = own_keys(keys, source) if MARK in keys else gnm_keys(keys, source)
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return target


def _folder(beside: Path) -> Path:
    return beside if beside.is_dir() else beside.parent


def own_head_files() -> list[Path]:
    """The user's FLAME files, in order of preference."""
    given = os.environ.get(VARIABLE)
    found = [folder / name for folder in [config_folder()] for name in (*FLAME_NAMES, *GNM_NAMES) if (folder / name).is_file()]
    return [Path(given), *found] if given else found


def _stated_head(stated: dict[str, Any], folder: Path) -> FlameModel:
    where = folder / HEAD_FILE
    if stated["head"] not in ("flame", "gnm"):
        builtin = FlameModel.builtin()
        if stated["head"] not in ("builtin", builtin.identity["head"]):
            raise UserError(
                f"{where}: asks for the head {stated['head']!r}, but this version has {builtin.identity['head']!r}: "
                "give the head with --head"
            )
        return builtin
    file, digest = str(stated.get("file", "")), stated.get("sha256")
    candidates = [*([folder / Path(file).name] if file else []), *own_head_files()]
    for path in candidates:
        if path.is_file() and (digest is None or hashlib.sha256(path.read_bytes()).hexdigest() == digest):
            teeth = stated.get("teeth")
            return FlameModel.load(path, teeth=teeth if isinstance(teeth, bool) else None)
    looked = ", ".join(str(p) for p in candidates if p.is_file()) or "none"
    raise UserError(
        f"{where}: asks for the {stated['head'].upper()} file {file or 'of unknown name'} (sha256 {str(digest)[:12]}...); "
        f"found {looked}: give yours with --head PATH or {VARIABLE}"
    )
