"""Renders the still life and writes the images as a Blender scene or as a COLMAP scene."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import torch
from objects import SUPERSAMPLE, Mesh, photograph, still_life
from PIL import Image
from roma import rotmat_to_unitquat
from torch import Tensor

from taichi_avatars.ops.mesh import MeshBuffers
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL, Camera

SIZE = 256
ANGLE = 0.69  # field of view, radians, as in the scenes that NeRF was published with
BLENDER_DISTANCE, COLMAP_DISTANCE = 4.0, 3.2
POINTS_PER_IMAGE = 60
POINT_ERROR = 1.0  # error of a point in pixels, in the camera that found it


def write_blender(folder: Path, train: int = 100, test: int = 25) -> None:
    """`transforms_{train,test}.json` and RGBA pictures, cameras on the upper half of a sphere."""
    mesh = still_life(room=False)
    for split, count, turn in (("train", train, 0.0), ("test", test, 1.0)):
        (folder / split).mkdir(parents=True)
        frames = []
        for number in range(count):
            camera = _camera(number, count, turn, BLENDER_DISTANCE, (0.05, 0.95))
            rgb, alpha, _ = photograph(mesh, camera)
            pixels = torch.cat([rgb / alpha[..., None].clamp_min(1e-6), alpha[..., None]], 2)
            _save(folder / split / f"r_{number}.png", pixels)
            pose = torch.linalg.inv(camera.world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()
            frames.append({"file_path": f"./{split}/r_{number}", "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content, indent=1))


def write_colmap(folder: Path, count: int = 100) -> None:
    """`sparse/0/*.bin` and RGB pictures that a room fills; points where COLMAP would find some: on surfaces, a little off."""
    mesh = still_life(room=True)
    (folder / "images").mkdir(parents=True)
    (folder / "sparse" / "0").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    images, points = [], []
    focal = 0.5 * SIZE / math.tan(0.5 * ANGLE)
    for number in range(count):
        camera = _camera(number, count, 0.0, COLMAP_DISTANCE, (-0.05, 0.8))
        rgb, _, buffers = photograph(mesh, camera)
        name = f"frame_{number:04d}.png"
        _save(folder / "images" / name, rgb)
        points.append(_points(mesh, camera, rgb, buffers, generator))
        quaternion = rotmat_to_unitquat(camera.world_to_camera[:3, :3].double())[[3, 0, 1, 2]]
        pose = [*quaternion.tolist(), *camera.world_to_camera[:3, 3].tolist()]
        images.append(struct.pack("<i7di", number + 1, *pose, 1) + name.encode() + b"\0" + struct.pack("<Q", 0))
    sparse = folder / "sparse" / "0"
    pinhole = struct.pack("<QiiQQ4d", 1, 1, 1, SIZE, SIZE, focal, focal, 0.5 * SIZE, 0.5 * SIZE)
    (sparse / "cameras.bin").write_bytes(pinhole)
    (sparse / "images.bin").write_bytes(struct.pack("<Q", count) + b"".join(images))
    rows = torch.cat(points).tolist()
    packed = [struct.pack("<Q3d3BdQ", k, *row[:3], *(int(c) for c in row[3:]), 1.0, 0) for k, row in enumerate(rows)]
    (sparse / "points3D.bin").write_bytes(struct.pack("<Q", len(rows)) + b"".join(packed))


def _points(mesh: Mesh, camera: Camera, rgb: Tensor, buffers: MeshBuffers, generator: torch.Generator) -> Tensor:
    """(P,6): places of some samples of a picture in the world, and their colours, 0 to 255."""
    y, x = (buffers.face >= 0).nonzero().unbind(1)
    some = torch.randperm(len(y), generator=generator)[:POINTS_PER_IMAGE]
    y, x = y[some], x[some]
    corners = mesh.vertices[mesh.faces[buffers.face[y, x].long()]]
    places = (buffers.barycentric[y, x][:, :, None] * corners).sum(1)
    off = torch.randn(places.shape, generator=generator) * POINT_ERROR / camera.fx
    places = places + off * buffers.depth[y, x][:, None]
    return torch.cat([places, (rgb[y // SUPERSAMPLE, x // SUPERSAMPLE] * 255).round()], 1)


def _camera(number: int, count: int, turn: float, distance: float, heights: tuple[float, float]) -> Camera:
    """One of `count` cameras that look at the middle from all sides, evenly over the sphere between two heights."""
    height = heights[0] + (heights[1] - heights[0]) * (number * 0.618034 % 1.0)
    angle = 2 * math.pi * (number + 0.5 * turn) / count * 3 + turn
    across = math.sqrt(1 - height * height)
    eye = distance * torch.tensor([across * math.sin(angle), height, across * math.cos(angle)])
    return Camera.look_at(eye, torch.zeros(3), ANGLE, SIZE, SIZE)


def _save(path: Path, pixels: Tensor) -> None:
    Image.fromarray((pixels.clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)).save(path)
