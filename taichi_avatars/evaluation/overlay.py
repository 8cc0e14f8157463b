"""The mesh of an avatar, as a separate image or half transparent over another one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.colormap import scale_colors
from taichi_avatars.files.png import as_uint8
from taichi_avatars.head.flame import FlameModel, HeadMesh
from taichi_avatars.ops.mesh import shade_mesh
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import Background

MeshColors = Literal["parts", "gaussians"]
MeshOver = Literal["avatar", "truth"]

OPACITY: dict[MeshColors, float] = {"parts": 0.6, "gaussians": 0.85}
AMBIENT: dict[MeshColors, float] = {"parts": 0.3, "gaussians": 0.7}  # ambient light: less shading where colours carry meaning
TEETH_COLOR = (0.93, 0.90, 0.84)
EYE_COLOR = (0.90, 0.92, 0.95)
MESH_COLOR = (0.58, 0.66, 0.78)
NONE_COLOR = (0.55, 0.55, 0.55)  # of a triangle without Gaussians
TICKS = (1, 2, 5)
SMALLEST_LEGEND = 120  # width in pixels below which a legend is illegible
LEGEND_TITLE = "Gaussians per triangle"


@dataclass(frozen=True)
class MeshStyle:
    """How a mesh is shown.

    Attributes:
        colors: "parts" distinguishes teeth and eyes from the rest, "gaussians" shows the number of Gaussians on each triangle.
        smooth: normals interpolated between vertices, or one per triangle.
        opacity: of the mesh over the image, 0 to 1; None: the default for the colours.
        over: the image below it, the avatar or the captured image.
    """

    colors: MeshColors = "parts"
    smooth: bool = True
    opacity: float | None = None
    over: MeshOver = "avatar"

    @property
    def weight(self) -> float:
        return OPACITY[self.colors] if self.opacity is None else self.opacity


def mesh_overlay(
    avatar: Avatar, camera: Camera, at: int | HeadMesh | None, image: Tensor, style: MeshStyle | None = None
) -> Tensor | np.ndarray:
    """The head's mesh over an image (3,H,W); as (H,W,3) uint8, with a legend if the colours have a meaning.

    Args:
        at: a timestep, or a posed mesh.
    """
    style = style or MeshStyle()
    mesh, alpha = shaded_head(avatar, camera, at, style=style)
    weight = style.weight * alpha
    over = image * (1.0 - weight) + mesh * weight
    if style.colors == "gaussians":
        return with_legend(as_uint8(over), int(gaussians_per_face(avatar).max()))
    return over


def shaded_head(
    avatar: Avatar,
    camera: Camera,
    at: int | HeadMesh | None,
    background: Background = (0.0, 0.0, 0.0),
    style: MeshStyle | None = None,
) -> tuple[Tensor, Tensor]:
    """An image (3,H,W) of an avatar's mesh, and the fraction of each pixel that it covers (H,W).

    Args:
        at: a timestep, or a posed mesh.
    """
    if avatar.head is None:
        raise UserError("this scene has no head: there is no mesh to show")
    style = style or MeshStyle()
    mesh = at if isinstance(at, HeadMesh) else avatar.mesh(at)
    counted = style.colors == "gaussians"
    return shade_mesh(
        mesh.vertices.detach(),
        avatar.head.faces,
        camera,
        face_colors=count_colors(gaussians_per_face(avatar)) if counted else None,
        vertex_colors=None if counted else _part_colors(avatar.head),
        smooth=style.smooth,
        ambient=AMBIENT[style.colors],
        background=(float(background[0]), float(background[1]), float(background[2])),
    )


def gaussians_per_face(avatar: Avatar) -> Tensor:
    """(F,) int64 number of Gaussians bound to each triangle."""
    assert avatar.head is not None and avatar.gaussians.binding is not None
    return torch.bincount(avatar.gaussians.binding.long(), minlength=avatar.head.num_faces)


def count_colors(counts: Tensor) -> Tensor:
    """Colours (F,3) of numbers (F,): a logarithmic scale from 1 to the largest, and neutral grey for 0."""
    colors = scale_colors(_place(counts.clamp(min=1).double(), int(counts.max()) if len(counts) else 1))
    return torch.where(counts[:, None] > 0, colors, torch.tensor(NONE_COLOR, dtype=torch.float32))


def with_legend(picture: np.ndarray, largest: int) -> np.ndarray:
    """An image (H,W,3) uint8 with the scale of `count_colors` in its lower margin; a very small one is unchanged."""
    height, width = picture.shape[:2]
    if width < SMALLEST_LEGEND or height < SMALLEST_LEGEND:
        return picture
    points = max(9, round(0.028 * min(width, height)))
    font = ImageFont.load_default(points)
    page = Image.fromarray(picture)
    pen = ImageDraw.Draw(page, "RGBA")
    bar, pad = round(0.7 * points), round(0.6 * points)
    top = height - (round(3.1 * points) + bar + 2 * pad)
    pen.rectangle((0, top, width, height), fill=(20, 22, 26, 200))
    pen.text((pad, top + pad), LEGEND_TITLE, (235, 235, 235), font)
    y = top + pad + round(1.4 * points)
    label = y + bar + round(0.4 * points)
    grey = tuple(round(255 * c) for c in NONE_COLOR)
    pen.rectangle((pad, y, pad + bar, y + bar), fill=grey)
    pen.text((pad + bar // 2, label), "0", (235, 235, 235), font, anchor="mt")
    left, right = pad + 3 * bar, width - 2 * pad
    ramp = as_uint8(scale_colors(torch.linspace(0.0, 1.0, right - left, dtype=torch.float32)).T[:, None].expand(3, bar + 1, -1))
    page.paste(Image.fromarray(ramp), (left, y))
    taken = -1.0
    for value in _ticks(largest):
        x = left + float(_place(torch.tensor(float(value), dtype=torch.float32), largest)) * (right - left - 1)
        half = 0.5 * pen.textlength(str(value), font)
        if x - half > taken and x + half < width:
            pen.line([(x, y + bar), (x, y + bar + 0.25 * points)], (235, 235, 235))
            pen.text((x, label), str(value), (235, 235, 235), font, anchor="mt")
            taken = x + half + 0.5 * points
    return np.array(page)


def _place(counts: Tensor, largest: int) -> Tensor:
    """Positions of numbers from 1 on the scale, 0 to 1."""
    return counts.log() / math.log(max(largest, 2))


def _ticks(largest: int) -> list[int]:
    powers = [10**k for k in range(len(str(max(largest, 2))))]
    return [tick * power for power in powers for tick in TICKS if tick * power <= max(largest, 2)]


def _part_colors(head: FlameModel) -> Tensor:
    """(V,3): teeth and eyes distinguished from the rest if the head names them."""
    colors = torch.tensor(MESH_COLOR, dtype=torch.float32).repeat(head.num_vertices, 1)
    for name, vertices in head.regions.items():
        if name.startswith("teeth"):
            colors[vertices] = torch.tensor(TEETH_COLOR, dtype=torch.float32)
        elif name in ("eye_left", "eye_right", "left_eyeball", "right_eyeball"):
            colors[vertices] = torch.tensor(EYE_COLOR, dtype=torch.float32)
    return colors
