"""Writes the files of a head capture with a camera of its own for every video (docs/formats.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.files.json import write_json
from taichi_avatars.head.assets import write_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.transforms import camera_entry
from taichi_avatars.tracking.points import EYES_BY_GAZE, GAZE, JAW_POSE, POSE, ROTATION, TRANSLATION

IMAGES, PARAMETERS, REPORT = "images", "flame_param", "tracking.json"


def sequence_of(frames: Tensor, shape: Tensor, center: Tensor, offset: Tensor | None = None) -> FlameSequence:
    """Parameters (T,P) of frames, and the static offset (V,3), as the head takes them, in a world with its origin at `center`
    (3,).
    """
    still = torch.zeros(len(frames), 3)
    eyes = frames[:, GAZE] @ EYES_BY_GAZE.T
    place = frames[:, TRANSLATION] - center
    turns = (frames[:, ROTATION].clone(), still, frames[:, JAW_POSE].clone(), eyes, place)
    return FlameSequence(list(range(len(frames))), shape, frames[:, POSE:].clamp(0, 1), *turns, static_offset=offset)


def image_name(timestep: int, video: int) -> str:
    return f"{timestep:05d}_{video:02d}.png"


def write_parameters(folder: Path, head: FlameModel, sequence: FlameSequence) -> None:
    """flame_param/ with one file per timestep, motion.npz with all of them, canonical_flame_param.npz and head.json."""
    (folder / PARAMETERS).mkdir(exist_ok=True)
    constant: dict[str, Any] = {"shape": sequence.shape.numpy()}
    if sequence.static_offset is not None:
        constant["static_offset"] = sequence.static_offset[None].numpy()
    moving = {name: value.numpy() for name, value in sequence.moving().items()}
    for row, timestep in enumerate(sequence.timesteps):
        values: dict[str, Any] = {name: value[row : row + 1] for name, value in moving.items()}
        np.savez(folder / PARAMETERS / f"{timestep:05d}.npz", **constant, **values)
    sequence.save_npz(folder / "motion.npz")
    still: dict[str, Any] = {name: np.zeros((1, value.shape[1]), np.float32) for name, value in moving.items()}
    still["jaw_pose"][0, 0] = 0.3
    still["static_offset"] = np.zeros((1, head.num_vertices, 3), np.float32)
    np.savez(folder / "canonical_flame_param.npz", **{**still, **constant})
    write_head_json(folder, head)


def write_splits(folder: Path, splits: dict[str, list[dict[str, object]]]) -> None:
    """transforms_train/val/test.json of frames by split."""
    for split in ("train", "val", "test"):
        frames = splits.get(split, [])
        content = {
            "frames": frames,
            "timestep_indices": [frame["timestep_index"] for frame in frames],
            "camera_indices": sorted({int(str(frame["camera_index"])) for frame in frames}),
        }
        write_json(folder / f"transforms_{split}.json", content)


def frame_entry(camera: Camera, timestep: int, number: int, video: int) -> dict[str, object]:
    """What a split's file says about a picture.

    Args:
        number: of the picture among those that were used of its video.
    """
    return {
        "timestep_index": timestep,
        "timestep_index_original": number,
        "timestep_id": f"frame_{number:05d}",
        "camera_index": video,
        "camera_id": f"video_{video}",
        **camera_entry(camera),
        "file_path": f"{IMAGES}/{image_name(timestep, video)}",
        "flame_param_path": f"{PARAMETERS}/{timestep:05d}.npz",
    }
