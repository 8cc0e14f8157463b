"""Static scenes in the NeRF/Blender format: `transforms_{train,test}.json` with one shared field of view, RGBA images.

Also those with all frames in one `transforms.json`, as nerfstudio and instant-ngp write them: split here, by their lists of
names if they have any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.ply import read_ply
from taichi_avatars.scene.transforms import IMAGE_SUFFIXES, CameraReader, Frame, read_transforms
from taichi_avatars.scene.views import OnProblem, View, is_test, stop

POINTS = 100_000
HALF_SIZE = 1.3  # these scenes lie in [-1.3, 1.3]^3
SEED = 0
TRAIN, ALL = "transforms_train.json", "transforms.json"
AROUND = 0.5  # of the distance of the cameras: half the side of the cube around the point that they look at
RGB = ("red", "green", "blue")


def read_blender_frames(
    folder: Path, *, resolution: int = -1, strict_paths: bool = False, on_problem: OnProblem = stop
) -> dict[str, list[View]]:
    """The views of "train" and "test"; a missing test file is an empty list.

    Args:
        resolution: as `taichi_avatars.scene.views.target_size` takes it.
        strict_paths: refuse frames whose images lie outside the folder.
        on_problem: called with each problem; if it returns, the frame is skipped and reading continues.

    Raises:
        UserError: for any problem, unless `on_problem` handles it.
    """
    cameras = CameraReader(resolution)
    splits: dict[str, list[View]] = {"train": [], "test": []}
    within = folder if strict_paths else None
    number = 0
    for split, frames in _frames(folder, within, on_problem):
        for frame in frames:
            try:
                if frame.values.get("flame_param_path") is not None:
                    raise frame.error(
                        f"this is a head capture (it names FLAME parameters), but {folder / 'canonical_flame_param.npz'} "
                        "is missing; copy or export that file too"
                    )
                image = frame.file("file_path", IMAGE_SUFFIXES)
                if image is None:
                    raise frame.error("no file_path; name the image of this frame")
                name = f"{split}_{image.stem}" if split else image.stem
                camera, lens = cameras.camera(frame, image)
                view = View(camera, None, number, str(number), name, image, None, lens)
                splits[split or ("test" if _is_test(frame, number) else "train")].append(view)
            except UserError as problem:
                on_problem(problem)
            number += 1
    return splits


def _frames(folder: Path, within: Path | None, on_problem: OnProblem) -> Iterator[tuple[str, list[Frame]]]:
    """The frames of each split's file; or those of the single file in the order of their names, with "" as the split."""
    together = not (folder / TRAIN).is_file()
    for split in ("",) if together else ("train", "test"):
        path = folder / (ALL if together else f"transforms_{split}.json")
        if not path.is_file():
            continue
        try:
            frames = read_transforms(path, within)
        except UserError as problem:
            on_problem(problem)
            continue
        yield split, sorted(frames, key=lambda frame: str(frame.values.get("file_path"))) if together else frames


def _is_test(frame: Frame, number: int) -> bool:
    """Whether a frame of the single file is held out: by nerfstudio's lists, else every eighth."""
    lists = [frame.values.get(f"{split}_filenames") for split in ("test", "val")]
    names = [name for held in lists if isinstance(held, list) for name in held]
    return frame.values.get("file_path") in names if names else is_test(number)


def starting_points(folder: Path, views: Sequence[View]) -> tuple[Tensor, Tensor]:
    """The initial points of a scene: positions (P,3) and colours (P,3) in [0,1].

    Blender scenes have no points: they are random in the scenes' cube. A `transforms.json` may name a PLY (`ply_file_path`);
    without one they are random in a cube around the point that the cameras look at.
    """
    if (folder / TRAIN).is_file() or not views:
        return random_points()
    frames = read_transforms(folder / ALL)
    file = frames[0].file("ply_file_path") if frames else None
    if file is not None:
        return _points_of(file)
    points, grey = random_points()
    middle, distance = _looked_at(views)
    return middle + points * (AROUND * distance / HALF_SIZE), grey


def _points_of(path: Path) -> tuple[Tensor, Tensor]:
    ply = read_ply(path)
    rows: Any = ply["vertex"].data if "vertex" in ply else np.empty(0)
    names = rows.dtype.names or ()
    if not len(rows) or any(name not in names for name in "xyz"):
        raise UserError(f"{path}: holds no points (vertex with x, y, z); export it again, or leave ply_file_path out")
    points = torch.from_numpy(np.stack([rows[name] for name in "xyz"], 1).astype(np.float32))
    if not bool(torch.isfinite(points).all()):
        raise UserError(f"{path}: holds NaN or Inf; export it again, or leave ply_file_path out")
    if any(name not in names for name in RGB):
        return points, torch.full_like(points, 0.5)
    colours = torch.from_numpy(np.stack([rows[name] for name in RGB], 1).astype(np.float32))
    return points, (colours / 255.0).clamp(0.0, 1.0)


def _looked_at(views: Sequence[View]) -> tuple[Tensor, float]:
    """The point (3,) that the cameras' axes pass nearest, and the median distance of the cameras from it."""
    centers = torch.stack([view.camera.center.double() for view in views])
    axes = torch.stack([view.camera.world_to_camera[2, :3].double() for view in views])
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    middle = torch.linalg.lstsq(across.sum(0), (across @ centers[:, :, None]).sum(0)).solution[:, 0]
    return middle.float(), float((centers - middle).norm(dim=1).median())


def random_points() -> tuple[Tensor, Tensor]:
    """Initial points for a scene without any: positions (P,3) in [-1.3,1.3]^3 and grey colours (P,3) in [0,1]."""
    generator = torch.Generator().manual_seed(SEED)
    points = (2.0 * torch.rand(POINTS, 3, generator=generator, dtype=torch.float32) - 1.0) * HALF_SIZE
    return points, torch.full((POINTS, 3), 0.5, dtype=torch.float32)
