"""A head capture of a few pixels, written by the tests themselves: 3 cameras, 3 timesteps that neither start at 0 nor follow
each other, 24 x 32 pixels, principal point off the centre. Camera 0 is held out (val), and the last timestep (test)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL, Camera

WIDTH, HEIGHT = 24, 32
TIMESTEPS = (3, 4, 9)
CX, CY_FROM_TOP = 11.5, 15.0


def camera_at(index: int) -> Camera:
    """Camera `index`, a metre away from the origin, `index - 1` times 30 degrees to the side."""
    angle = math.radians(30.0 * (index - 1))
    eye = torch.tensor([math.sin(angle), 0.1, math.cos(angle)])
    return Camera.look_at(eye, torch.zeros(3), math.radians(20.0), WIDTH, HEIGHT)


def picture(timestep: int, camera: int) -> np.ndarray:
    """(32,24,3) uint8: smooth, and different for every timestep and camera."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    phase = 0.7 * timestep + 1.3 * camera
    waves = [np.sin(x / 5 + phase), np.cos(y / 6 - phase), np.sin((x + y) / 7 + 2 * phase)]
    return np.stack([127 + 90 * wave for wave in waves], axis=-1).round().astype(np.uint8)


def disc() -> np.ndarray:
    """(32,24) uint8: a foreground mask with a soft edge."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x + 0.5 - WIDTH / 2, y + 0.5 - HEIGHT / 2)
    return (255 * np.clip(10.0 - distance, 0, 1)).round().astype(np.uint8)


def flame_parameters(timestep: int, n_shape: int = 10, n_expr: int = 10, vertices: int | None = None) -> dict[str, np.ndarray]:
    """Fewer coefficients than any head has, so that they fit all; a static offset where `vertices` says for how many."""
    parameters = {
        "translation": np.array([[0.0, 0.01, 0.001 * timestep]]),
        "rotation": np.array([[0.0, 0.01 * timestep, 0.0]]),
        "neck_pose": np.zeros((1, 3)),
        "jaw_pose": np.array([[0.02 * timestep, 0.0, 0.0]]),
        "eyes_pose": np.full((1, 6), 0.01),
        "shape": np.linspace(-1.0, 1.0, n_shape),
        "expr": np.full((1, n_expr), 0.1 * timestep),
    }
    if vertices is not None:
        parameters["static_offset"] = np.full((1, vertices, 3), 0.001)
    return {key: value.astype(np.float32) for key, value in parameters.items()}


def write_tiny_capture(
    folder: Path,
    *,
    cameras: int = 3,
    timesteps: tuple[int, ...] = TIMESTEPS,
    rgba: bool = False,
    masks: bool = False,
    hair_masks: bool = False,
    shared_intrinsics: bool = False,
    principal_point: str = "bottom",
    n_shape: int = 10,
    n_expr: int = 10,
    vertices: int | None = None,
) -> Path:
    """Writes the capture into `folder` and returns it.

    Args:
        shared_intrinsics: at the top level of the file instead of in every frame.
        principal_point: where the files measure `cy` from.
        vertices: write a static offset for so many vertices.
    """
    for name in ("images", "flame_param", *(["fg_masks"] if masks else []), *(["hair_masks"] if hair_masks else [])):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for timestep in timesteps:
        np.savez(folder / f"flame_param/{timestep:05d}.npz", **flame_parameters(timestep, n_shape, n_expr, vertices))
    np.savez(folder / "canonical_flame_param.npz")  # its existence marks the folder, its values are not needed
    splits: dict[str, list[dict[str, object]]] = {"train": [], "val": [], "test": []}
    cy = CY_FROM_TOP if principal_point == "top" else HEIGHT - CY_FROM_TOP
    focal = camera_at(0).fx
    intrinsics = {"fl_x": focal, "fl_y": focal, "cx": CX, "cy": cy, "w": WIDTH, "h": HEIGHT}
    for timestep in timesteps:
        for camera in range(cameras):
            name = f"{timestep:05d}_{camera:02d}.png"
            pixels = picture(timestep, camera)
            Image.fromarray(np.dstack([pixels, disc()]) if rgba else pixels).save(folder / "images" / name)
            pose = torch.linalg.inv(camera_at(camera).world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()
            frame: dict[str, object] = {
                "timestep_index": timestep,
                "camera_index": camera,
                "camera_id": f"cam{camera}",
                "transform_matrix": pose.tolist(),
                "file_path": f"images/{name}",
                "flame_param_path": f"flame_param/{timestep:05d}.npz",
                **({} if shared_intrinsics else intrinsics),
            }
            if masks:
                Image.fromarray(disc()).save(folder / "fg_masks" / name)
                frame["fg_mask_path"] = f"fg_masks/{name}"
            if hair_masks:
                Image.fromarray(disc()[::-1] * (np.arange(HEIGHT) < 12)[:, None]).save(folder / "hair_masks" / name)
            split = "test" if timestep == timesteps[-1] else "val" if camera == 0 else "train"
            splits[split].append(frame)
    for split, frames in splits.items():
        write_split(folder, split, {**(intrinsics if shared_intrinsics else {}), "frames": frames})
    return folder


def read_split(folder: Path, split: str) -> dict:
    return json.loads((folder / f"transforms_{split}.json").read_text())


def write_split(folder: Path, split: str, content: object) -> None:
    (folder / f"transforms_{split}.json").write_text(json.dumps(content, indent=1))
