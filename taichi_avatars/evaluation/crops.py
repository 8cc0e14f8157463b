"""Crops of mouth and eyes: what people look at first, but only a few percent of an image's pixels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.projection import SplatCamera

# Regions of a head that a crop spans, by the names of the built-in head and of FLAME's masks; those that a head has.
REGIONS = {"mouth": ("lips",), "eyes": ("eyelids", "left_eyeball", "right_eyeball")}
MARGIN = 0.25  # margin around the region, of a crop's shorter side
SMALLEST = 12  # minimum pixels of either side: smaller crops show nothing to compare

Box = tuple[slice, slice, slice]  # of an image (3,H,W)


@torch.no_grad()
def boxes(head: FlameModel, vertices: Tensor, camera: SplatCamera) -> dict[str, Box]:
    """Crops of mouth and eyes in an image: those that the head has, that lie inside the image and that face the camera.

    Args:
        vertices: (V,3) of the posed head, metres.
    """
    found: dict[str, Box] = {}
    parts = regions(head)
    if not parts or not _faces(torch.cat(list(parts.values())), vertices, camera):
        return found
    for name, ids in parts.items():
        place = vertices[ids].cpu() @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        depth = place[:, 2:]
        if bool((depth <= 0).any()):
            continue
        pixels = place[:, :2] / depth * torch.tensor([camera.fx, camera.fy], dtype=torch.float32) + torch.tensor(
            [camera.cx, camera.cy], dtype=torch.float32
        )
        low, high = pixels.amin(0), pixels.amax(0)
        margin = MARGIN * float((high - low).min())
        left, top = (max(0, int(value)) for value in (low - margin).floor().tolist())
        right, bottom = (
            min(size, int(value))
            for value, size in zip((high + margin).ceil().tolist(), (camera.width, camera.height), strict=True)
        )
        if min(right - left, bottom - top) >= SMALLEST:
            found[name] = (slice(None), slice(top, bottom), slice(left, right))
    return found


def regions(head: FlameModel) -> Mapping[str, Tensor]:
    """Vertex ids (N,) of each crop's region; without regions that the head does not name."""
    found = {}
    for name, parts in REGIONS.items():
        ids = [head.regions[part] for part in parts if part in head.regions]
        if ids:
            found[name] = torch.cat(ids)
    return found


def _faces(features: Tensor, vertices: Tensor, camera: SplatCamera) -> bool:
    """Whether the face is turned to the camera: the centre of its features (N,) lies nearer than that of the head."""
    forward = camera.world_to_camera[2, :3]
    return bool(((vertices[features].mean(0) - vertices.mean(0)).cpu() @ forward) < 0)
