"""Avatars in a model folder and their iterations: the layout that other programs know."""

from __future__ import annotations

import re
from pathlib import Path

from taichi_avatars.errors import UserError

CLOUDS = "point_cloud"
PLY_NAME = "point_cloud.ply"
FLAME_NAME = "flame_param.npz"  # beside each PLY
REFINED_NAME = "flame_param_refined.npz"  # the same, if `refine` has fitted every timestep to its images
REFINED_NAME = "flame_param_refined.npz"  # beside a PLY through which `refine` has fitted every timestep to its images


def find_ply(path: Path | str) -> Path:
    """The PLY that a path refers to: itself, the one in an iteration's folder, or the newest of a model folder."""
    path = Path(path)
    if path.suffix == ".ply" or path.is_file():
        return path
    if (path / PLY_NAME).is_file():
        return path / PLY_NAME
    saved = list(iterations(path).items())
    if not saved:
        raise UserError(f"{path}: no avatar here: no {CLOUDS}/iteration_*/{PLY_NAME}; give a model folder that was trained")
    return saved[-1][1]


def iterations(model: Path | str) -> dict[int, Path]:
    """Iterations saved in a model folder in ascending order, and their PLYs."""
    found = {}
    for ply in Path(model).glob(f"{CLOUDS}/iteration_*/{PLY_NAME}"):
        number = iteration_of(ply)
        if number is not None:
            found[number] = ply
    return dict(sorted(found.items()))


def iteration_of(ply: Path) -> int | None:
    """The iteration of a PLY, by the name of its folder; None if that does not tell."""
    match = re.fullmatch(r"iteration_(\d+)", ply.absolute().parent.name)
    return int(match[1]) if match else None


def iteration_folder(model: Path, iteration: int) -> Path:
    """The path of an iteration's avatar in a model folder."""
    return model / CLOUDS / f"iteration_{iteration}"


def model_of(ply: Path) -> Path:
    """The model folder that contains a PLY; the PLY's own folder if there is none."""
    ply = ply.absolute()
    return ply.parents[2] if iteration_of(ply) is not None and ply.parents[1].name == CLOUDS else ply.parent
