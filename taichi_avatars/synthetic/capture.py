"""Photographs the built-in subject and writes the head-capture folder that a tracker would have left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.head.stand_in import stand_in
from taichi_avatars.ops.frames import triangle_frames
from taichi_avatars.ops.subject.strands import pose_strands
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.defaults import CAMERAS, HEIGHT, SUPERSAMPLE, TEST_TIMESTEPS, TIMESTEPS, WIDTH
from taichi_avatars.synthetic.folder import (
    MARK,
    PARAMETERS,
    TRUTH,
    RigCamera,
    Split,
    check_at_least,
    make_picture_folders,
    picture_name,
    save_picture,
    whole_folder,
    write_parameters,
    write_transforms,
)
from taichi_avatars.synthetic.hair import wrapping_offset
from taichi_avatars.synthetic.identity import identity
from taichi_avatars.synthetic.motion import drift, performance
from taichi_avatars.synthetic.renderer import Subject, make_subject, photograph, pose, resting_vertices

FRAME_HEIGHT = 0.35  # metres at the head that fill the image's height
DISTANCE = 1.0
FPS = {"train": 2.5, "test": 1.25}  # so slow that a few timesteps show the whole performance

# Root mean square length of the error of every tracked vector: radians, metres, expression units.
TRACKING_ERROR = {
    "rotation": math.radians(0.3),
    "neck_pose": math.radians(0.3),
    "jaw_pose": math.radians(0.3),
    "eyes_pose": math.radians(0.3) * math.sqrt(2),
    "translation": 0.0005,
    "expr": 0.1,
}


def camera_rig(count: int, width: int, height: int, target: Tensor, seed: int = 0) -> list[RigCamera]:
    """Cameras about a metre from `target` (3,), within 52 degrees to each side; `frontal(count)` looks straight at it."""
    random = np.random.default_rng([seed, 40])
    others = [k for k in range(count) if k != frontal(count)]
    elevations = (8.0, -14.0, 24.0, -3.0, 15.0)
    focal = height * DISTANCE / FRAME_HEIGHT
    rig = []
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
        rig.append(
            RigCamera(index, replace(looking, fx=focal, fy=focal, cx=width * (0.5 + shift[0]), cy=height * (0.5 + shift[1])))
        )
    return rig


def frontal(count: int) -> int:
    """Index of the frontal camera, which is held out: 8 of 16, as in NeRSemble."""
    return count // 2


def with_tracking_error(motion: FlameSequence, seed: int, sizes: Mapping[str, float] = TRACKING_ERROR) -> FlameSequence:
    """The motion as a tracker would have found it: every parameter off by a little, smoothly in time. sizes: of the errors."""
    random = np.random.default_rng([seed, 50])
    index = np.arange(len(motion.timesteps), dtype=np.float64)
    changed = {}
    for name, size in sizes.items():
        value = getattr(motion, name)
        errors = [drift(index, random, 24.0, 6.0) * size / math.sqrt(value.shape[1]) for _ in range(value.shape[1])]
        changed[name] = value + torch.from_numpy(np.stack(errors, 1)).float()
    return replace(motion, **changed)


def write_capture(
    out: Path | str,
    *,
    head: FlameModel | None = None,
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

    Beside the layout's files it holds `hair_masks/` and `truth/`, a capture with the same pictures and the parameters without
    tracking errors; `truth/flame_param.npz` is the motion alone, of the head under the hair.
    Timesteps 0 .. timesteps - 1 are for training, the rest for testing; the frontal camera is held out for validation.

    Args:
        out: a folder that does not exist, is empty, or is such a capture, which is then replaced.
        head: that the subject has; None: the built-in one.
        seed: of the person and the performance.
        width, height: pixels.
        tracking_error: whether the FLAME parameters carry a tracker's errors.
        rgba: images with transparency instead of composited over white.
        supersample: samples per pixel along each axis.
        force: replaces whatever folder `out` is.
        progress: called with the number of pictures done and of all.

    Raises:
        UserError: for sizes that make no capture, a head that the subject cannot have, or where `out` is something else that
            would be lost.
    """
    out = Path(out)
    check_at_least(
        width=(width, 1), height=(height, 1), timesteps=(timesteps, 1), cameras=(cameras, 1), supersample=(supersample, 1)
    )
    if test_timesteps < 0:
        raise UserError(f"test_timesteps must not be negative, got {test_timesteps}")
    with whole_folder(out, force) as work:
        fill(
            work, head, seed, (width, height), (timesteps, test_timesteps), cameras, tracking_error, rgba, supersample, progress
        )
    return out


def fill(
    folder: Path,
    head: FlameModel | None,
    seed: int,
    size: tuple[int, int],
    timesteps: tuple[int, int],
    cameras: int,
    tracking_error: bool,
    rgba: bool,
    supersample: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    own = FlameModel.builtin()
    cast = None if head is None or head.identity == own.identity else stand_in(head)
    head = own if cast is None else cast.head
    width, height = size
    who = identity(own, seed)
    person = who if cast is None else replace(who, shape=cast.shape(who.shape))
    subject = make_subject(head, seed, FRAME_HEIGHT / height, who=person)
    resting = resting_vertices(head, subject.who)
    wrap = hair_offset(subject, resting)
    target = 0.5 * (resting.amin(0) + resting.amax(0))
    rig = camera_rig(cameras, width, height, target, seed)
    truth = whole_performance(own, who.shape, timesteps, seed)
    tracked = with_tracking_error(truth, seed) if tracking_error else truth
    if cast is not None:
        truth, tracked = cast.motion(truth), cast.motion(tracked)
    tracked = replace(tracked, static_offset=wrap)

    total, done = len(truth.timesteps) * len(rig), 0
    pending: list[Future[None]] = []
    make_picture_folders(folder)
    with ThreadPoolExecutor(2) as encoders:
        for row, timestep in enumerate(truth.timesteps):
            posed = pose(subject, truth.mesh(head, row).vertices)
            for placed in rig:
                picture = photograph(subject, posed, placed.camera, supersample)
                pending.append(encoders.submit(save_picture, folder, picture_name(timestep, placed), picture, rgba))
                if len(pending) > 32:
                    pending.pop(0).result()
                done += 1
                if progress is not None:
                    progress(done, total)
        for waiting in pending:
            waiting.result()
    write_parameters(folder, head, tracked)
    write_parameters(folder / TRUTH, head, replace(truth, static_offset=wrap))
    truth.save_npz(folder / MARK)
    splits = splits_of(rig, list(truth.timesteps), timesteps[0])
    write_transforms(folder, splits)
    write_transforms(folder / TRUTH, splits, pictures="../")


def hair_offset(subject: Subject, resting: Tensor) -> Tensor:
    """`wrapping_offset` (V,3) of a subject on its resting head (V,3)."""
    head, strands = subject.head, subject.strands
    points = pose_strands(strands.local, strands.root, triangle_frames(resting, head.faces))
    return wrapping_offset(head, strands, points, resting)


def splits_of(rig: Sequence[RigCamera], timesteps: Sequence[int], training: int) -> dict[str, Split]:
    """train and val share timesteps, val is the frontal camera if there are others; test: all cameras, held-out timesteps."""
    held_out = {frontal(len(rig))} if len(rig) > 1 else set()
    first, rest = list(timesteps[:training]), list(timesteps[training:])

    def split(chosen: list[RigCamera], moments: list[int]) -> Split:
        return [(timestep, placed) for timestep in moments for placed in chosen]

    return {
        "train": split([s for s in rig if s.index not in held_out], first),
        "val": split([s for s in rig if s.index in held_out], first),
        "test": split(list(rig), rest),
    }


def whole_performance(head: FlameModel, shape: Tensor, timesteps: tuple[int, int], seed: int) -> FlameSequence:
    """Training timesteps, then test timesteps that show other expressions."""
    train = performance(head, timesteps[0] / FPS["train"], FPS["train"], seed, "train", shape)
    if timesteps[1] == 0:
        return train
    test = performance(head, timesteps[1] / FPS["test"], FPS["test"], seed, "test", shape)
    joined = {name: torch.cat([getattr(train, name), getattr(test, name)]) for name in PARAMETERS}
    return replace(train, timesteps=list(range(sum(timesteps))), **joined)
