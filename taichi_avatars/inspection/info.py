"""Identifies and checks a folder or file: captures, avatars, FLAME files, motions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from taichi_avatars.avatar.iterations import CLOUDS, PLY_NAME, iterations
from taichi_avatars.errors import UserError
from taichi_avatars.export.web import INDEX as BUNDLE_INDEX
from taichi_avatars.files.description import Description
from taichi_avatars.files.json import read_json
from taichi_avatars.files.npz import load_npz
from taichi_avatars.head.gnm_files import MARK
from taichi_avatars.inspection import exports
from taichi_avatars.inspection.files import describe_avatar, describe_flame_model
from taichi_avatars.motion.sources import source_of
from taichi_avatars.scene.capture import capture_kind, where_instead
from taichi_avatars.scene.description import describe_capture
from taichi_avatars.video.camera_path import read_camera_path

EXPORTED = {
    ".splat": exports.describe_splat,
    ".zip": exports.describe_sequence,
    ".glb": exports.describe_glb,
    ".obj": exports.describe_obj,
}
SHOWN = 20  # problems in the text; the dictionary has them all


def describe(path: Path | str) -> dict[str, object]:
    """The kind of `path` and all its problems, as JSON-compatible values.

    Args:
        path: a capture, an avatar (PLY or model folder), a FLAME model (pkl, npz), a motion (npz, folder of npz, ARKit JSON),
            or what `export` wrote.

    Returns:
        "path", "kind", "whole", "facts" {name: value}, "notes" [line], "problems" [line: file, what is wrong, what to do].

    Raises:
        UserError: if `path` does not exist, or is of an unknown kind.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the spelling")
    if not (path.is_file() or path.is_dir()):
        raise UserError(f"{path}: is a pipe or a device, which cannot be read twice; save what it holds to a file")
    described = _describe_folder(path) if path.is_dir() else _describe_file(path)
    return {"whole": not described.problems, **asdict(described)}


def text(description: dict[str, object]) -> str:
    """The result of `describe` as text."""
    facts, notes, problems = description["facts"], description["notes"], description["problems"]
    assert isinstance(facts, dict) and isinstance(notes, list) and isinstance(problems, list)
    lines = [f"{description['path']}: {description['kind']}"]
    width = max((len(name) for name in facts), default=0)
    lines += [f"  {name:<{width}}  {_readable(value)}" for name, value in facts.items()]
    lines += [f"  note: {note}" for note in notes]
    if not problems:
        return "\n".join([*lines, "  whole: yes"])
    lines += [f"  whole: no, {len(problems)} problem{'s' if len(problems) > 1 else ''}:"]
    lines += [f"  - {problem}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines += [f"  - and {len(problems) - SHOWN} more (--json lists all)"]
    return "\n".join(lines)


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_readable(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _describe_folder(path: Path) -> Description:
    if capture_kind(path) is not None:
        return describe_capture(path)
    saved = iterations(path)
    if saved:
        described = describe_avatar(saved[max(saved)])
        described.path, described.kind = str(path), "avatar (model folder)"
        described.facts = {"iterations": list(saved), **described.facts}
        return described
    if (path / PLY_NAME).is_file():
        return describe_avatar(path / PLY_NAME)
    if (path / BUNDLE_INDEX).is_file():
        return exports.describe_bundle(path)
    if (source := source_of(path)) is not None:
        return source.describe(path)
    raise UserError(
        f"{path}: neither a capture (sparse/0/, canonical_flame_param.npz, transforms_train.json or transforms.json), nor an "
        f"avatar ({CLOUDS}/iteration_N/{PLY_NAME}), nor a motion (*.npz); {where_instead(path)}"
    )


def _describe_file(path: Path) -> Description:
    suffix = path.suffix.lower()
    if suffix in EXPORTED:
        return EXPORTED[suffix](path)
    if suffix == ".ply":
        return exports.describe_compressed(path) if exports.is_compressed(path) else describe_avatar(path)
    if suffix == ".pkl":
        return describe_flame_model(path)
    if suffix == ".npz":
        arrays = load_npz(path)
        if arrays.keys() & {"v_template", MARK}:
            return describe_flame_model(path)
        if exports.is_export(arrays):
            return exports.describe_arrays(path, arrays)
    if suffix == ".json" and isinstance(content := read_json(path), dict) and "keys" in content:
        return _camera_path(path)
    if (source := source_of(path)) is not None:
        return source.describe(path)
    raise UserError(f"{path}: not a kind of file that this program reads; give a .ply, .pkl, .npz, .json or .csv, or a folder")


def _camera_path(path: Path) -> Description:
    described = Description(str(path), "camera path")
    try:
        route = read_camera_path(path)
        described.facts.update({"key frames": len(route.times), "seconds": round(float(route.times[-1] - route.times[0]), 3)})
        described.facts["axes"] = "the head's" if route.of_head else "the world's"
    except UserError as problem:
        described.add(problem)
    return described
