"""Compiles the kernels ahead of time, by running everything once in the smallest size."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from taichi_avatars import runtime
from taichi_avatars.bars import OpenBar
from taichi_avatars.compiled import ALL, first_launches
from taichi_avatars.config import TrainConfig
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import rasterize_mesh, shade_mesh
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.tracking.matte import Matting, head_region
from taichi_avatars.training.trainer import train


def warm(open_bar: OpenBar) -> int:
    """Compiles the kernels of rendering, training, the built-in subject and tracking. Returns how many were new.

    open_bar: receives each kernel's name before it is compiled.
    """
    runtime.start()
    before, told = len(first_launches.new), first_launches.told
    total = len(first_launches.left(ALL))
    with tempfile.TemporaryDirectory() as work, open_bar("compile", total, "kernels") as bar:
        first_launches.told = lambda name: bar.update(len(first_launches.new) - before, kernel=name)
        try:
            _all(Path(work))
        finally:
            first_launches.told = told
        bar.update(total)
    return len(first_launches.new) - before


def _all(work: Path) -> None:
    write_capture(work / "capture", width=32, height=48, timesteps=1, test_timesteps=0, cameras=2, supersample=1)
    head = FlameModel.builtin()
    capture = load_capture(work / "capture", head=head)
    train(TrainConfig(iterations=2, interval=2, start_gaussians=1000), capture, head, work / "model")
    _draw(head, capture.train[0].camera)


def _draw(head: FlameModel, camera: Camera) -> None:
    """The drawings of the mesh, and a matte."""
    vertices = head(torch.zeros(head.n_shape)).vertices
    rasterize_mesh(vertices, head.faces, camera)
    shade_mesh(vertices, head.faces, camera)
    picture = np.zeros((camera.height, camera.width, 3), np.uint8)
    Matting(head).cut_out(picture, vertices, camera, head_region(vertices, camera), np.full((2, 2), 0.6, np.float32))
