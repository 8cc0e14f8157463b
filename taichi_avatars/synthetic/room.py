"""A room behind the built-in subject: painted rectangles in space, one of them a poster with somebody else's face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.subject.noise import fractal_noise
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.identity import Color
from taichi_avatars.synthetic.renderer import make_subject, photograph, pose, resting_vertices

WALL_Z, SHELF_Z, SIDEBOARD_Z = -1.75, -1.60, -1.35  # metres behind the head
SOMEBODY_ELSE = 500  # added to the seed for the face on the poster
POSTER = (0.42, 0.56)  # metres
WALLS: tuple[Color, ...] = ((0.70, 0.66, 0.60), (0.62, 0.66, 0.68), (0.72, 0.70, 0.66), (0.58, 0.63, 0.58))
BOOKS: tuple[Color, ...] = (
    (0.45, 0.16, 0.13),
    (0.16, 0.26, 0.42),
    (0.74, 0.69, 0.58),
    (0.18, 0.34, 0.27),
    (0.22, 0.20, 0.20),
    (0.68, 0.47, 0.20),
    (0.50, 0.52, 0.55),
)


@dataclass(frozen=True)
class Layer:
    """A rectangle that faces +z.

    Attributes:
        left, top, z: its corner, world, metres.
        width, height: metres.
        paint: (4,h,w) display values premultiplied by alpha, and alpha; the first row is the top one.
    """

    left: float
    top: float
    z: float
    width: float
    height: float
    paint: Tensor


@dataclass(frozen=True)
class Room:
    """Layers from the back to the front; the first fills every view."""

    layers: list[Layer]

    def picture(self, camera: Camera) -> Tensor:
        """What a camera sees, (3,H,W) display values."""
        out = torch.zeros(3, camera.height, camera.width)
        for index, layer in enumerate(self.layers):
            seen = sampled(layer, camera, "border" if index == 0 else "zeros")
            out = seen[:3] + (1 - seen[3:]) * out
        return out


def sampled(layer: Layer, camera: Camera, beyond: str) -> Tensor:
    """A layer's paint at every pixel of a camera (4,H,W)."""
    rotation, shift = camera.world_to_camera[:3, :3].double(), camera.world_to_camera[:3, 3].double()
    across, down = torch.tensor([layer.width, 0, 0]).double(), torch.tensor([0, -layer.height, 0]).double()
    corner = torch.tensor([layer.left, layer.top, layer.z]).double()
    intrinsics = torch.tensor([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]).double()
    to_paint = torch.linalg.inv(
        intrinsics @ torch.stack([rotation @ across, rotation @ down, rotation @ corner + shift], 1)
    ).float()
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    at = to_paint[:, 0, None, None] * x + to_paint[:, 1, None, None] * y + to_paint[:, 2, None, None]
    grid = torch.stack([2 * at[0] / at[2] - 1, 2 * at[1] / at[2] - 1], -1)
    return torch.nn.functional.grid_sample(layer.paint[None], grid[None], padding_mode=beyond, align_corners=False)[0]


def furnish(head: FlameModel, seed: int, pixel: float) -> Room:
    """The room that goes with a seed.

    Args:
        pixel: what a pixel of the pictures to come covers at the distance of the wall, metres; everything is a little
            out of focus there.
    """
    random = np.random.default_rng([seed, 70])
    mirror = -1.0 if random.random() < 0.5 else 1.0  # on which side the poster hangs
    wall = blank(6.0, 4.4, pixel, WALLS[seed % len(WALLS)])
    height, width = wall.shape[1:]
    places = torch.stack(torch.meshgrid(torch.linspace(2.2, -2.2, height), torch.linspace(-3, 3, width), indexing="ij"), -1)
    flat = torch.cat([places, torch.zeros(height, width, 1)], -1).view(-1, 3)
    plaster = fractal_noise(flat, 4 * pixel, 1000 * seed + 401, 2)[0].view(height, width)
    stains = fractal_noise(flat, 0.6, 1000 * seed + 411, 3)[0].view(height, width)
    light = 1.0 + 0.10 * places[..., 1] + 0.05 * places[..., 0] + 0.03 * stains + 0.008 * plaster
    wall[:3] = (wall[:3] * light).clamp(0, 1)

    poster = blank(*POSTER, pixel, (0.93, 0.92, 0.89))
    face = portrait(head, seed + SOMEBODY_ELSE, poster.shape[2] - 2 * margin(poster), poster.shape[1] - 2 * margin(poster))
    poster[:3, margin(poster) : margin(poster) + face.shape[1], margin(poster) : margin(poster) + face.shape[2]] = face
    shelf = bookshelf(0.86, 1.5, pixel, random)
    sideboard = blank(1.5, 0.7, pixel, (0.36, 0.25, 0.17))
    sideboard[:3, :, :: max(2, round(0.5 / pixel))] *= 0.55
    sideboard[:3, : max(1, round(0.02 / pixel))] *= 1.35

    def hung(center: float, top: float, z: float, paint: Tensor, size: tuple[float, float]) -> Layer:
        return Layer(mirror * center - 0.5 * size[0], top, z, *size, soft(paint))

    return Room(
        [
            Layer(-3.0, 2.2, WALL_Z, 6.0, 4.4, soft(wall)),
            hung(-0.56, 0.43, WALL_Z + 0.01, poster, POSTER),
            hung(0.78, 0.62, SHELF_Z, shelf, (0.86, 1.5)),
            hung(-0.85, -0.30, SIDEBOARD_Z, sideboard, (1.5, 0.7)),
        ]
    )


def blank(width: float, height: float, pixel: float, color: Color) -> Tensor:
    """An opaque rectangle of one colour, (4,h,w)."""
    out = torch.ones(4, max(8, round(height / pixel)), max(8, round(width / pixel)))
    out[:3] = torch.tensor(color)[:, None, None]
    return out


def margin(poster: Tensor) -> int:
    return max(1, poster.shape[2] // 16)


def soft(paint: Tensor) -> Tensor:
    """Out of focus by about a pixel."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    padded = torch.nn.functional.pad(paint[:, None], (2, 2, 2, 2), mode="replicate")
    across = torch.nn.functional.conv2d(padded, kernel.view(1, 1, 1, 5))
    return torch.nn.functional.conv2d(across, kernel.view(1, 1, 5, 1))[:, 0].contiguous()


def portrait(head: FlameModel, seed: int, width: int, height: int) -> Tensor:
    """A photograph (3,height,width) of the person with this seed, in front of a plain colour."""
    subject = make_subject(head, seed, 0.34 / height, strand_count=5000)
    vertices = resting_vertices(head, subject.who)
    middle = 0.5 * (vertices.amin(0) + vertices.amax(0))
    camera = Camera.look_at(middle + torch.tensor([0.12, 0.02, 1.2]), middle, 2 * np.arctan(0.5 * 0.34 / 1.2), width, height)
    return photograph(subject, pose(subject, vertices), camera).over((0.25, 0.42, 0.46)).clamp(0, 1)


def bookshelf(width: float, height: float, pixel: float, random: np.random.Generator) -> Tensor:
    """Boards with books on them, (4,h,w)."""
    out = blank(width, height, pixel, (0.10, 0.085, 0.075))
    rows, board, side = 5, 0.022, 0.02

    def rectangle(left: float, top: float, right: float, bottom: float, color: Tensor) -> None:
        part = out[:3, round(top / pixel) : round(bottom / pixel), round(left / pixel) : round(right / pixel)]
        part[:] = color[:, None, None]
        if part.shape[2] > 3:  # round backs
            part *= 1 - 0.35 * torch.linspace(-1, 1, part.shape[2]).abs() ** 3

    wood = torch.tensor([0.52, 0.38, 0.26])
    step = height / rows
    for row in range(rows):
        floor, at = (row + 1) * step - board, side
        while at < width - side - 0.02:
            thick = float(random.uniform(0.018, 0.045))
            tall = float(random.uniform(0.62, 0.88)) * (step - board)
            color = torch.tensor(BOOKS[random.integers(len(BOOKS))]) * float(random.uniform(0.8, 1.15))
            if random.random() < 0.88:  # else a gap
                rectangle(at, floor - tall, min(at + thick, width - side), floor, color)
                rectangle(at, floor - 0.8 * tall, min(at + thick, width - side), floor - 0.74 * tall, 1.4 * color)
            at += thick
        rectangle(0, floor, width, floor + board, wood)
    rectangle(0, 0, side, height, wood)
    rectangle(width - side, 0, width, height, wood)
    rectangle(0, 0, width, board, wood)
    out[:3] = out[:3].clamp(0, 1)
    return out
