"""A film of the built-in subject that is drawn in seconds: a few moments, each shown for some pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.renderer import make_subject, photograph, pose
from taichi_avatars.video.mp4 import write_mp4

WIDTH, HEIGHT, COUNT = 240, 320, 16


class Bar:
    def update(self, done: int, total: int | None = None, **figures: str) -> None:
        pass


@contextmanager
def quiet(what: str, total: int, unit: str) -> Iterator[Bar]:
    yield Bar()


class Film(NamedTuple):
    """moments: (H,W,3) picture, (V,3) vertices and (H,W) alpha of each."""

    path: Path
    moments: list[tuple[Tensor, Tensor, Tensor]]
    camera: Camera


def small_film(path: Path, head: FlameModel) -> Film:
    subject = make_subject(head, 0, 0.35 / HEIGHT, strand_count=2000)
    camera = Camera.look_at(torch.tensor([0.0, 0.0, 0.75]), torch.tensor([0.0, -0.02, 0.0]), 0.6, WIDTH, HEIGHT)
    wall = torch.linspace(0.35, 0.6, WIDTH)[None, None].expand(3, HEIGHT, -1)
    moments = []
    assert head.expression_names is not None
    for yaw, jaw in ((0.0, 0.0), (0.25, 0.4), (-0.25, 0.1), (0.1, 0.7)):
        expr = torch.zeros(head.n_expr)
        expr[head.expression_names.index("jawOpen")] = jaw
        vertices = head(subject.who.shape, expr, torch.tensor([0.05, yaw, 0.0])).vertices
        shot = photograph(subject, pose(subject, vertices), camera, 2)
        moments.append(((shot.rgb + (1 - shot.alpha) * wall).permute(1, 2, 0), vertices, shot.alpha))
    pictures = [(moments[4 * k // COUNT][0].clamp(0, 1) * 255).byte().numpy() for k in range(COUNT)]
    write_mp4(path, pictures, 10)
    return Film(path, moments, camera)
