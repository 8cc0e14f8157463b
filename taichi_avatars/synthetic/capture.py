"""Photographs the built-in subject and writes the head-capture folder that a tracker would have left."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_folder
from taichi_avatars.head.assets import write_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.ops.frames import triangle_frames
from taichi_avatars.ops.subject.strands import pose_strands
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL, Camera
from taichi_avatars.synthetic.defaults import CAMERAS, HEIGHT, SUPERSAMPLE, TEST_TIMESTEPS, TIMESTEPS, WIDTH
from taichi_avatars.synthetic.hair import wrapping_offset
from taichi_avatars.synthetic.motion import drift, performance
from taichi_avatars.synthetic.renderer import Picture, make_subject, photograph, pose, resting_vertices

FRAME_HEIGHT = 0.35  # metres at the head that fill the image's height
DISTANCE = 1.0
FPS = {"train": 2.5, "test": 1.25}  # so slow that a few timesteps show the whole performance
MARK = "truth/flame_param.npz"  # only captures made here hold it

# Root mean square length of the error of every tracked vector: radians, metres, expression units.
TRACKING_ERROR = {
    "rotation": math.radians(0.3),
    "neck_pose": math.radians(0.3),
    "jaw_pose": math.radians(0.3),
    "eyes_pose": math.radians(0.3) * math.sqrt(2),
    "translation": 0.0005,
    "expr": 0.1,
}


@dataclass(frozen=True)
class Shot:
    """One camera of the rig, with its index in the dataset."""

    index: int
    camera: Camera


def camera_rig(count: int, width: int, height: int, target: Tensor, seed: int = 0) -> list[Shot]:
    """Cameras about a metre from `target` (3,), within 52 degrees to each side; `frontal(count)` looks straight at it."""
    random = np.random.default_rng([seed, 40])
    others = [k for k in range(count) if k != frontal(count)]
    elevations = (8.0, -14.0, 24.0, -3.0, 15.0)
    focal = height * DISTANCE / FRAME_HEIGHT
    shots = []
    for index in range(count):
        if index == frontal(count):
            azimuth, elevation = 3.0, 4.0
        else:
            place = others.index(index)
            azimuth = -52.0 + 104.0 * (place + 0.5) / len(others)
            elevation = elevations[place % len(elevations)]
        a, e = math.radians(azimuth), math.radians(elevation)
        distance = DISTANCE * random.uniform(0.97, 1.03)
        eye = target + distance * torch.tensor([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
        looking = Camera.look_at(eye, target, 1.0, width, height)
        shift = random.uniform(-0.015, 0.015, 2)
        shots.append(
            Shot(index, replace(looking, fx=focal, fy=focal, cx=width * (0.5 + shift[0]), cy=height * (0.5 + shift[1])))
        )
    return shots


def frontal(count: int) -> int:
    """Index of the frontal camera, which is held out: 8 of 16, as in NeRSemble."""
    return count // 2


def with_tracking_error(motion: FlameSequence, seed: int) -> FlameSequence:
    """The motion as a tracker would have found it: every parameter off by a little, smoothly in time."""
    random = np.random.default_rng([seed, 50])
    index = np.arange(len(motion.timesteps), dtype=np.float64)
    changed = {}
    for name, size in TRACKING_ERROR.items():
        value = getattr(motion, name)
        errors = [drift(index, random, 24.0, 6.0) * size / math.sqrt(value.shape[1]) for _ in range(value.shape[1])]
        changed[name] = value + torch.from_numpy(np.stack(errors, 1)).float()
    return replace(motion, **changed)


def write_capture(
    out: Path | str,
    *,
    seed: int = 0,
    width: int = WIDTH,
    height: int = HEIGHT,
    timesteps: int = TIMESTEPS,
    test_timesteps: int = TEST_TIMESTEPS,
    cameras: int = CAMERAS,
    tracking_error: bool = True,
    rgba: bool = False,
    supersample: int = SUPERSAMPLE,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes a capture of the built-in subject in the layout of `docs/formats`, whole or not at all.

    Beside the layout's files it holds `hair_masks/` and `truth/flame_param.npz`, the motion without tracking errors.
    Timesteps 0 .. timesteps - 1 are for training, the rest for testing; the frontal camera is held out for validation.

    Args:
        out: a folder that does not exist, is empty, or is such a capture, which is then replaced.
        seed: of the person and the performance.
        width, height: pixels.
        tracking_error: whether the FLAME parameters carry a tracker's errors.
        rgba: images with transparency instead of composited over white.
        supersample: samples per pixel along each axis.
        force: replaces whatever folder `out` is.
        progress: called with the number of pictures done and of all.

    Raises:
        UserError: for sizes that make no capture, or where `out` is something else that would be lost.
    """
    out = Path(out)
    for name, value in (
        ("width", width),
        ("height", height),
        ("timesteps", timesteps),
        ("cameras", cameras),
        ("supersample", supersample),
    ):
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}")
    if test_timesteps < 0:
        raise UserError(f"test_timesteps must not be negative, got {test_timesteps}")
    if out.exists() and not force and not replaceable(out):
        raise UserError(
            f"{out} exists and is not a capture made by this program: choose another folder or overwrite it with --force"
        )
    with atomic_folder(out) as work:
        fill(work, seed, (width, height), (timesteps, test_timesteps), cameras, tracking_error, rgba, supersample, progress)
    return out


def replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))


def fill(
    folder: Path,
    seed: int,
    size: tuple[int, int],
    timesteps: tuple[int, int],
    cameras: int,
    tracking_error: bool,
    rgba: bool,
    supersample: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    head = FlameModel.builtin()
    width, height = size
    subject = make_subject(head, seed, FRAME_HEIGHT / height)
    resting = resting_vertices(head, subject.who)
    strands = subject.strands
    wrap = wrapping_offset(
        head, strands, pose_strands(strands.local, strands.root, triangle_frames(resting, head.faces)), resting
    )
    target = 0.5 * (resting.amin(0) + resting.amax(0))
    shots = camera_rig(cameras, width, height, target, seed)
    truth = whole_performance(head, subject.who.shape, timesteps, seed)
    tracked = replace(with_tracking_error(truth, seed) if tracking_error else truth, static_offset=wrap)

    total, done = len(truth.timesteps) * len(shots), 0
    pending: list[Future[None]] = []
    for name in ("images", "fg_masks", "hair_masks"):
        (folder / name).mkdir()
    with ThreadPoolExecutor(2) as encoders:
        for row, timestep in enumerate(truth.timesteps):
            posed = pose(subject, truth.mesh(head, row).vertices)
            for shot in shots:
                picture = photograph(subject, posed, shot.camera, supersample)
                pending.append(encoders.submit(save_picture, folder, f"{timestep:05d}_{shot.index:02d}.png", picture, rgba))
                if len(pending) > 32:
                    pending.pop(0).result()
                done += 1
                if progress is not None:
                    progress(done, total)
        for waiting in pending:
            waiting.result()
    write_parameters(folder, head, truth, tracked)
    write_transforms(folder, shots, list(truth.timesteps), timesteps[0])


def whole_performance(head: FlameModel, shape: Tensor, timesteps: tuple[int, int], seed: int) -> FlameSequence:
    """Training timesteps, then test timesteps that show other expressions."""
    train = performance(head, timesteps[0] / FPS["train"], FPS["train"], seed, "train", shape)
    if timesteps[1] == 0:
        return train
    test = performance(head, timesteps[1] / FPS["test"], FPS["test"], seed, "test", shape)
    joined = {name: torch.cat([getattr(train, name), getattr(test, name)]) for name in TRACKING_ERROR}
    return replace(train, timesteps=list(range(sum(timesteps))), **joined)


def bytes_of(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def save_picture(folder: Path, name: str, picture: Picture, rgba: bool) -> None:
    # In numpy: torch would start a team of threads for these small arrays.
    rgb, alpha, hair = picture.rgb.numpy(), picture.alpha.numpy(), picture.hair.numpy()
    shown = np.concatenate([rgb / alpha.clip(1e-3), alpha[None]]) if rgba else rgb + (1 - alpha)
    for kind, values in (("images", shown.transpose(1, 2, 0)), ("fg_masks", alpha), ("hair_masks", hair)):
        Image.fromarray(bytes_of(values)).save(folder / kind / name, compress_level=2)


def write_parameters(folder: Path, head: FlameModel, truth: FlameSequence, tracked: FlameSequence) -> None:
    (folder / "flame_param").mkdir()
    (folder / "truth").mkdir()
    names = list(TRACKING_ERROR)
    constant: dict[str, Any] = {
        "shape": tracked.shape.numpy(),
        "static_offset": torch.as_tensor(tracked.static_offset)[None].numpy(),
    }
    for row, timestep in enumerate(tracked.timesteps):
        values = {name: getattr(tracked, name)[row : row + 1].numpy() for name in names} | constant
        np.savez(folder / "flame_param" / f"{timestep:05d}.npz", **values)
    canonical: dict[str, Any] = constant | {name: np.zeros((1, getattr(tracked, name).shape[1]), np.float32) for name in names}
    canonical["jaw_pose"][0, 0] = 0.3
    np.savez(folder / "canonical_flame_param.npz", **canonical)
    truth.save_npz(folder / MARK)
    write_head_json(folder, head)


def write_transforms(folder: Path, shots: Sequence[Shot], timesteps: Sequence[int], training: int) -> None:
    """train and val share timesteps, val is the frontal camera if there are others; test: all cameras, held-out timesteps."""
    held_out = {frontal(len(shots))} if len(shots) > 1 else set()
    first, rest = list(timesteps[:training]), list(timesteps[training:])
    splits = {
        "train": ([s for s in shots if s.index not in held_out], first),
        "val": ([s for s in shots if s.index in held_out], first),
        "test": (list(shots), rest),
    }
    for split, (chosen, moments) in splits.items():
        frames = [frame(shot, timestep) for timestep in moments for shot in chosen]
        used = chosen if moments else []
        content = {
            "frames": frames,
            "timestep_indices": moments if chosen else [],
            "camera_indices": [shot.index for shot in used],
        }
        (folder / f"transforms_{split}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def frame(shot: Shot, timestep: int) -> dict[str, object]:
    camera = shot.camera
    camera_to_world = torch.linalg.inv(camera.world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()
    name = f"{timestep:05d}_{shot.index:02d}.png"
    return {
        "timestep_index": timestep,
        "timestep_index_original": timestep,
        "timestep_id": f"frame_{timestep:05d}",
        "camera_index": shot.index,
        "camera_id": f"cam_{shot.index:02d}",
        "cx": camera.cx,
        "cy": camera.height - camera.cy,  # this format counts from the bottom of the image
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "h": camera.height,
        "w": camera.width,
        "camera_angle_x": 2 * math.atan(0.5 * camera.width / camera.fx),
        "camera_angle_y": 2 * math.atan(0.5 * camera.height / camera.fy),
        "transform_matrix": camera_to_world.tolist(),
        "file_path": f"images/{name}",
        "fg_mask_path": f"fg_masks/{name}",
        "flame_param_path": f"flame_param/{timestep:05d}.npz",
    }
