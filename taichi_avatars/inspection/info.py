"""What a folder or file is, and whether it is whole: captures, avatars, FLAME files, motions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from taichi_avatars.avatar.iterations import CLOUDS, PLY_NAME, iterations
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.export.web import INDEX as BUNDLE_INDEX
from taichi_avatars.files.json import read_json
from taichi_avatars.files.npz import load_npz
from taichi_avatars.head.assets import HEAD_FILE
from taichi_avatars.head.gnm_files import MARK
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.inspection import exports
from taichi_avatars.inspection.files import (
    SIZES,
    Arrays,
    Description,
    describe_arkit,
    describe_avatar,
    describe_flame_model,
    describe_motion,
    describe_timesteps,
    known_head,
)
from taichi_avatars.motion.arkit_files import read_take
from taichi_avatars.scene.capture import Capture, capture_kind, load_capture
from taichi_avatars.scene.coverage import one_sided
from taichi_avatars.scene.head_capture import SPLITS, listings, read_head_frames
from taichi_avatars.scene.images import check_aspect, check_image
from taichi_avatars.scene.transforms import read_transforms
from taichi_avatars.scene.views import View
from taichi_avatars.video.camera_path import read_camera_path

EXPORTED = {
    ".splat": exports.describe_splat,
    ".zip": exports.describe_sequence,
    ".glb": exports.describe_glb,
    ".obj": exports.describe_obj,
}
SHOWN = 20  # problems in the text; the dictionary has them all


def describe(path: Path | str) -> dict[str, object]:
    """What `path` is and everything that is wrong with it, as values that JSON can hold.

    Args:
        path: a capture, an avatar (PLY or model folder), a FLAME model (pkl, npz), a motion (npz, folder of npz, ARKit JSON),
            or what `export` wrote.

    Returns:
        "path", "kind", "whole", "facts" {name: value}, "notes" [line], "problems" [line: file, what is wrong, what to do].

    Raises:
        UserError: where there is nothing under `path`, or nothing that this program knows.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder; check the spelling")
    described = _describe_folder(path) if path.is_dir() else _describe_file(path)
    return {"whole": not described.problems, **asdict(described)}


def text(description: dict[str, object]) -> str:
    """What `describe` returned, for reading."""
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
        return _capture(path)
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
    files = sorted(path.glob("*.npz"))
    if files:
        described = Description(str(path), "motion (folder of timesteps)", {"timesteps": len(files)})
        describe_timesteps(described, files)
        return described
    raise UserError(
        f"{path}: neither a capture (sparse/0/, canonical_flame_param.npz, transforms_train.json or transforms.json), nor an "
        f"avatar ({CLOUDS}/iteration_N/{PLY_NAME}), nor a motion (*.npz); give a folder that holds one of these"
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
        if arrays.keys() & {*SIZES, "expr"}:
            return _motion(path, arrays)
        raise UserError(f"{path}: holds {', '.join(sorted(arrays)[:6]) or 'nothing'}: neither a FLAME model nor a motion")
    if suffix == ".json":
        content = read_json(path)
        return _camera_path(path) if isinstance(content, dict) and "keys" in content else describe_arkit(path)
    if suffix == ".csv":
        return _live_link(path)
    raise UserError(f"{path}: not a kind of file that this program reads; give a .ply, .pkl, .npz, .json or .csv, or a folder")


def _live_link(path: Path) -> Description:
    described = Description(str(path), "motion (ARKit weights of Live Link Face)")
    try:
        take = read_take(path)
        described.facts.update(timesteps=len(take.weights), weights=len(take.names), fps=take.fps)
        if take.filled:
            described.notes.append(f"{take.filled} frames were dropped by the app: they lie between those before and after")
    except UserError as problem:
        described.add(problem)
    return described


def _camera_path(path: Path) -> Description:
    described = Description(str(path), "camera path")
    try:
        route = read_camera_path(path)
        described.facts.update({"key frames": len(route.times), "seconds": round(float(route.times[-1] - route.times[0]), 3)})
        described.facts["axes"] = "the head's" if route.of_head else "the world's"
    except UserError as problem:
        described.add(problem)
    return described


def _motion(path: Path, arrays: Arrays) -> Description:
    """FLAME parameters, against the head that head.json beside them names."""
    beside = Description(str(path), "")
    head = known_head(beside, path.parent, "") if (path.parent / HEAD_FILE).is_file() else None
    described = describe_motion(path, arrays, head)
    described.problems += beside.problems
    return described


def _capture(path: Path) -> Description:
    kind = capture_kind(path)
    described = Description(str(path), {"head": "head capture", "blender": "Blender scene"}.get(kind or "", "COLMAP scene"))
    masks = kind == "head" and (path / "fg_masks").is_dir() and _every_frame_has_a_mask(described, path)
    try:
        capture = load_capture(path, use_mask=masks, resolution=1, on_problem=described.add)
    except UserError as problem:
        described.add(problem)
        return described
    views = [*capture.train, *capture.val, *capture.test]
    described.facts.update(
        views={split: len(split_views) for split, split_views in _splits(capture).items()},
        cameras=len({view.camera_id for view in views}),
        sizes=sorted({f"{view.camera.width} x {view.camera.height}" for view in views}),
        extent=round(capture.extent, 4),
    )
    described.notes += capture.remarks()
    for view in views:
        described.check(partial(_check_files, view))
    if kind == "head":
        _head_capture(described, path, capture, masks)
    elif capture.points is not None:
        described.facts["points"] = len(capture.points[0])
    return described


def _head_capture(described: Description, path: Path, capture: Capture, masks: bool) -> None:
    timesteps = sorted({view.timestep for views in _splits(capture).values() for view in views if view.timestep is not None})
    if timesteps:
        described.facts["timesteps"] = f"{len(timesteps)}, numbered {timesteps[0]} to {timesteps[-1]}"
    described.facts["masks"] = [name for name in ("fg_masks", "hair_masks") if (path / name).is_dir()] or "none"
    head = known_head(described, path, "`train`")
    for split, use in (("val", "novel views"), ("test", "self-reenactment")):
        if not _splits(capture)[split]:
            described.notes.append(f"no {split} split: {use} cannot be evaluated")
    cameras = {id(view.camera): view.camera for view in capture.train}.values()
    if any(abs(camera.cy - 0.5 * camera.height) > 0.5 for camera in cameras):
        described.notes.append(
            "cy is off the centre: it is read as measured from the bottom of the image, as current VHAP writes it; "
            "sets exported before November 2024 need `train --principal-point top`"
        )
    if len(cameras) == 1:
        described.notes.append("a single fixed camera: the extent is set by the head's size")
    files = read_head_frames(path, use_mask=masks, on_problem=lambda _: None).flame_files
    describe_timesteps(described, files.values(), head)
    with suppress(UserError):  # what is wrong with the files stands there already
        remark = one_sided(capture.train, FlameSequence.from_frames(files), TrainConfig().sh_degree)
        described.notes += [remark] if remark else []


def _every_frame_has_a_mask(described: Description, path: Path) -> bool:
    """Whether the masks can be used at all; where not, everything but --use-mask works without them."""
    lacking = total = 0
    for name in listings(path):
        try:
            frames = read_transforms(path / name)
        except UserError:  # met again, and noted, when the capture is read
            continue
        total += len(frames)
        lacking += sum(frame.values.get("fg_mask_path") is None for frame in frames)
    if lacking:
        described.notes.append(
            f"fg_masks/ is there, but {lacking} of {total} frames name no fg_mask_path: `train` works, --use-mask does not"
        )
    return not lacking


def _splits(capture: Capture) -> dict[str, list[View]]:
    return {split: getattr(capture, split) for split in SPLITS}


def _check_files(view: View) -> None:
    check_aspect(view, check_image(view.image))
    if view.mask is not None:
        check_image(view.mask)
