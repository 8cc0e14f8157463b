"""The files of a capture of the built-in subject, in the layout of `docs/formats`, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_folder
from taichi_avatars.files.json import write_json
from taichi_avatars.head.assets import write_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import SIZES
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.transforms import camera_entry
from taichi_avatars.synthetic.renderer import Photo

TRUTH = "truth"
MARK = f"{TRUTH}/flame_param.npz"  # only folders made here hold it
PICTURES = ("images", "fg_masks", "hair_masks")
PARAMETERS = ("expr", *SIZES)


@dataclass(frozen=True)
class RigCamera:
    """A camera with its index in the dataset."""

    index: int
    camera: Camera


Split = list[tuple[int, RigCamera]]  # timestep and camera of every picture


@contextmanager
def whole_folder(out: Path, force: bool) -> Iterator[Path]:
    """A folder to be filled that becomes `out` when the block ends well, and vanishes when it does not.

    Args:
        force: replaces whatever `out` is, not only what was made here.

    Raises:
        UserError: where `out` is something else that would be lost, or cannot be written.
    """
    if out.exists() and not force and not replaceable(out):
        raise UserError(
            f"{out} exists and is not a capture made by this program: choose another folder or overwrite it with --force"
        )
    with atomic_folder(out) as work:
        yield work


def check_at_least(purpose: str = "", **sizes: tuple[float, float]) -> None:
    """Raises a UserError for the first of some sizes that is below its least value. sizes: value and least."""
    for name, (value, least) in sizes.items():
        if value < least:
            raise UserError(f"{name} must be at least {least:g}{purpose}, got {value:g}")


def replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / MARK).is_file() or not any(out.iterdir()))


def bytes_of(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)


def make_picture_folders(folder: Path) -> None:
    for name in PICTURES:
        (folder / name).mkdir(parents=True)


def save_picture(folder: Path, name: str, picture: Photo, rgba: bool) -> None:
    """The head: over white or with transparency, its mask and that of its hair."""
    # In numpy: torch would start a team of threads for these small arrays.
    rgb, alpha, hair = picture.head_rgb.numpy(), picture.head_alpha.numpy(), picture.hair.numpy()
    shown = np.concatenate([rgb / alpha.clip(1e-3), alpha[None]]) if rgba else rgb + (1 - alpha)
    for kind, values in zip(PICTURES, (shown.transpose(1, 2, 0), alpha, hair), strict=True):
        Image.fromarray(bytes_of(values)).save(folder / kind / name, compress_level=2)


def write_parameters(folder: Path, head: FlameModel, flame: FlameSequence) -> None:
    """flame_param/, canonical_flame_param.npz and head.json; `flame` with a static offset."""
    (folder / "flame_param").mkdir(parents=True)
    constant: dict[str, Any] = {
        "shape": flame.shape.numpy(),
        "static_offset": torch.as_tensor(flame.static_offset)[None].numpy(),
    }
    moving = flame.moving()
    for row, timestep in enumerate(flame.timesteps):
        values: dict[str, Any] = {name: table[row : row + 1].numpy() for name, table in moving.items()} | constant
        np.savez(folder / "flame_param" / f"{timestep:05d}.npz", **values)
    canonical: dict[str, Any] = constant | {name: np.zeros((1, width), np.float32) for name, width in flame.widths().items()}
    if "jaw_pose" in canonical:
        canonical["jaw_pose"][0, 0] = 0.3
    np.savez(folder / "canonical_flame_param.npz", **canonical)
    write_head_json(folder, head)


def write_transforms(folder: Path, splits: Mapping[str, Split], pictures: str = "") -> None:
    """transforms_<split>.json of every split; `pictures` leads from the folder to the one that holds the pictures."""
    for split, rig in splits.items():
        content = {
            "frames": [frame(timestep, placed, pictures) for timestep, placed in rig],
            "timestep_indices": sorted({timestep for timestep, _ in rig}),
            "camera_indices": sorted({placed.index for _, placed in rig}),
        }
        write_json(folder / f"transforms_{split}.json", content)


def picture_name(timestep: int, placed: RigCamera) -> str:
    return f"{timestep:05d}_{placed.index:02d}.png"


def frame(timestep: int, placed: RigCamera, pictures: str) -> dict[str, object]:
    name = picture_name(timestep, placed)
    return {
        "timestep_index": timestep,
        "timestep_index_original": timestep,
        "timestep_id": f"frame_{timestep:05d}",
        "camera_index": placed.index,
        "camera_id": f"cam_{placed.index:02d}",
        **camera_entry(placed.camera),
        "file_path": f"{pictures}images/{name}",
        "fg_mask_path": f"{pictures}fg_masks/{name}",
        "flame_param_path": f"flame_param/{timestep:05d}.npz",
    }
