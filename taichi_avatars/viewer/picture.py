"""One picture of the viewer: an avatar in a pose, seen by a camera, with a look."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.avatar.avatar import Avatar, to_world
from taichi_avatars.evaluation.colormap import scale_colors
from taichi_avatars.evaluation.overlay import MeshStyle, mesh_overlay
from taichi_avatars.files.png import as_uint8
from taichi_avatars.head.flame import HeadMesh
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.ops import Rendering, World, rasterize
from taichi_avatars.ops.mesh import wireframe
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.viewer.look import Look

WIRE_COLOR = (0.25, 0.85, 1.0)
SOLID = 0.5  # minimum alpha of a pixel with a meaningful depth


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture and its cost.

    Attributes:
        image: (H,W,3) uint8.
        visible: number of Gaussians on it.
        stages: milliseconds of each stage.
    """

    image: np.ndarray
    visible: int
    stages: dict[str, float]


@dataclass(frozen=True, eq=False)
class PosedAvatar:
    """An avatar in a pose, before any camera: shared by pictures from several viewpoints.

    Attributes:
        mesh: of its head; None for an unbound scene.
        world: its Gaussians.
        stages: milliseconds of each stage.
    """

    avatar: Avatar
    mesh: HeadMesh | None
    world: World
    stages: dict[str, float]


@torch.no_grad()
def posed(avatar: Avatar, flame: HeadPose | None, scale: float = 1.0) -> PosedAvatar:
    """Poses an avatar.

    Args:
        avatar: with its Gaussians on the kernels' device.
        flame: its pose, as `Avatar.mesh` takes it; None for an unbound scene.
        scale: the Gaussians' sizes are multiplied by this.
    """
    clock = _Stages()
    mesh = avatar.mesh(flame=flame) if avatar.head is not None else None
    clock.lap("FLAME")
    world, _ = to_world(avatar.gaussians, mesh.vertices if mesh else None, avatar.head)
    world = world._replace(scales=world.scales * scale) if scale != 1.0 else world
    clock.lap("binding")
    return PosedAvatar(avatar, mesh, world, clock.milliseconds)


@torch.no_grad()
def draw(still: PosedAvatar, camera: Camera, look: Look) -> Drawing:
    """Draws a posed avatar."""
    clock = _Stages()
    avatar, mesh, gaussians = still.avatar, still.mesh, still.avatar.gaussians
    out = rasterize(
        *still.world,
        gaussians.opacities,
        (gaussians.sh_base, gaussians.sh_rest),
        camera=camera,
        background=look.background,
        sh_degree=min(look.sh_degree, gaussians.degree),
    )
    image = _layer(out, look).cpu()
    clock.lap("splats")
    pixels: Tensor | np.ndarray = image
    if mesh is not None and avatar.head is not None and look.overlay == "wireframe":
        weight = look.opacity * wireframe(mesh.vertices, avatar.head.faces, camera)
        pixels = image.clamp(0.0, 1.0) * (1.0 - weight) + torch.tensor(WIRE_COLOR, dtype=torch.float32)[:, None, None] * weight
    elif mesh is not None and look.overlay in ("mesh", "Gaussians per face"):
        colors = "parts" if look.overlay == "mesh" else "gaussians"
        style = MeshStyle(colors, opacity=look.opacity)
        pixels = mesh_overlay(avatar, camera, mesh, image.clamp(0.0, 1.0), style)
    result = as_uint8(pixels)
    clock.lap("overlay")
    return Drawing(result, int((out.radii > 0).sum()), still.stages | clock.milliseconds)


def _layer(out: Rendering, look: Look) -> Tensor:
    """(3,H,W) of the chosen layer of the Gaussians."""
    if look.layer == "splats":
        return out.image
    if look.layer == "alpha":
        return out.alpha.expand(3, -1, -1)
    empty = torch.tensor(look.background, device=out.image.device, dtype=torch.float32)[:, None, None].expand_as(out.image)
    if look.layer == "nothing":
        return empty
    solid = out.alpha > SOLID
    if not bool(solid.any()):
        return empty
    depth = out.depth / out.alpha.clamp(min=SOLID)
    near, far = depth[solid].min(), depth[solid].max()
    nearness = 1.0 - (depth - near) / (far - near).clamp(min=1e-6)
    colors = scale_colors(nearness[solid].cpu()).T.to(empty.device)
    return empty.clone().masked_scatter_(solid.expand_as(empty), colors)


class _Stages:
    """Milliseconds from the end of one stage to that of the next."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.milliseconds[stage] = 1000.0 * (now - self._last)
        self._last = now
