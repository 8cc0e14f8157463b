"""Static scenes in the NeRF/Blender form: `transforms_{train,test}.json` with one shared field of view, RGBA images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.scene.transforms import CameraReader, read_transforms
from taichi_avatars.scene.views import OnProblem, View, stop

POINTS = 100_000
HALF_SIZE = 1.3  # these scenes lie in [-1.3, 1.3]^3
SEED = 0


def read_blender_frames(
    folder: Path, *, resolution: int = -1, strict_paths: bool = False, on_problem: OnProblem = stop
) -> dict[str, list[View]]:
    """The views of "train" and "test"; a missing test file is an empty list.

    Args:
        resolution: as `taichi_avatars.scene.views.target_size` takes it.
        strict_paths: refuse frames whose images lie outside the folder.
        on_problem: called with what is wrong; where it returns, the frame is left out and reading goes on.

    Raises:
        UserError: for anything that is wrong, unless `on_problem` takes it.
    """
    cameras = CameraReader(resolution)
    splits: dict[str, list[View]] = {"train": [], "test": []}
    number = 0
    for split, views in splits.items():
        path = folder / f"transforms_{split}.json"
        if not path.is_file():
            continue
        try:
            frames = read_transforms(path, folder if strict_paths else None)
        except UserError as problem:
            on_problem(problem)
            continue
        for frame in frames:
            try:
                if frame.values.get("flame_param_path") is not None:
                    raise frame.error(
                        f"this is a head capture (it names FLAME parameters), but {folder / 'canonical_flame_param.npz'} "
                        "is missing; copy or export that file too"
                    )
                image = frame.file("file_path", suffix=".png")
                if image is None:
                    raise frame.error("no file_path; name the image of this frame")
                name = f"{split}_{image.stem}"
                views.append(View(cameras.camera(frame, image), None, number, str(number), name, image, None))
            except UserError as problem:
                on_problem(problem)
            number += 1
    return splits


def random_points() -> tuple[Tensor, Tensor]:
    """Points to start from where a scene brings none: positions (P,3) in [-1.3,1.3]^3 and grey colours (P,3) in [0,1]."""
    generator = torch.Generator().manual_seed(SEED)
    points = (2.0 * torch.rand(POINTS, 3, generator=generator) - 1.0) * HALF_SIZE
    return points, torch.full((POINTS, 3), 0.5)
