"""Describes and checks a capture: its lists, images, masks and FLAME parameters."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.head.description import describe_timesteps, known_head
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.capture import Capture, capture_kind, load_capture
from taichi_avatars.scene.coverage import one_sided
from taichi_avatars.scene.head_capture import SPLITS, listings, read_head_frames
from taichi_avatars.scene.images import check_aspect, check_image
from taichi_avatars.scene.transforms import read_transforms
from taichi_avatars.scene.views import View


def describe_capture(path: Path) -> Description:
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
            "captures exported before November 2024 need `train --principal-point top`"
        )
    if len(cameras) == 1:
        described.notes.append("a single fixed camera: the extent is set by the head's size")
    files = read_head_frames(path, use_mask=masks, on_problem=lambda _: None).flame_files
    describe_timesteps(described, files.values(), head)
    with suppress(UserError):  # problems of the files are already listed
        remark = one_sided(capture.train, FlameSequence.from_frames(files), TrainConfig().sh_degree)
        described.notes += [remark] if remark else []


def _every_frame_has_a_mask(described: Description, path: Path) -> bool:
    """Whether the masks can be used at all; if not, everything but --use-mask works without them."""
    lacking = total = 0
    for name in listings(path):
        try:
            frames = read_transforms(path / name)
        except UserError:  # found again, and reported, when the capture is read
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
