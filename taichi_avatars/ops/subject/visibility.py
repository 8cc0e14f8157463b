"""The fraction of a set of directions that points can see, from depth maps of the occluders."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.ops.mesh import camera_record, rasterize_depth
from taichi_avatars.ops.pose import look_at_pose
from taichi_avatars.ops.subject.strands import draw_strands

DISTANCE = 8.0  # metres: so far away that rays are nearly parallel


def sphere_directions(count: int) -> Tensor:
    """Unit directions (count,3), spread evenly (Fibonacci)."""
    k = torch.arange(count, dtype=torch.float64) + 0.5
    y, turn = 1 - 2 * k / count, k * math.pi * (3 - math.sqrt(5))
    ring = (1 - y * y).sqrt()
    return torch.stack([ring * turn.cos(), y, ring * turn.sin()], 1).float()


def disc_directions(toward: Tensor, radius: float, count: int) -> Tensor:
    """Unit directions (count,3) over a round light seen in direction `toward` (3,) with angular radius `radius`, radians."""
    k = torch.arange(count) + 0.5
    r, turn = radius * (k / count).sqrt(), k * math.pi * (3 - math.sqrt(5))
    side = torch.nn.functional.normalize(torch.linalg.cross(toward, torch.tensor([0.0, 1.0, 0.01], dtype=torch.float32)), dim=0)
    over = torch.linalg.cross(side, toward)
    return torch.nn.functional.normalize(toward + r[:, None] * (turn.cos()[:, None] * side + turn.sin()[:, None] * over), dim=1)


class DepthMap(NamedTuple):
    """The square camera of a depth map; see `ops.projection.PinholeCamera` for its fields."""

    world_to_camera: Tensor
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    near: float


def depth_map(direction: Tensor, center: Tensor, reach: float, size: int) -> DepthMap:
    """Sees the ball of radius `reach` metres around `center` (3,) from `direction` (3,), in `size` x `size` pixels."""
    focal, middle = 0.5 * size / math.tan(math.atan(reach / DISTANCE)), 0.5 * size
    pose = look_at_pose(center + DISTANCE * direction, center).float()
    return DepthMap(pose, focal, focal, middle, middle, size, size, near=0.5 * DISTANCE)


class Query(NamedTuple):
    """Points whose visibility is computed.

    Attributes:
        points: (P,3) metres.
        normals: (P,3) unit; directions are then weighted by their cosine to it. None: all count equally.
        bias, fade: light falls off exponentially over `fade` metres, from `bias` metres behind the first occluder.
    """

    points: Tensor
    normals: Tensor | None
    bias: float
    fade: float


def visible_share(
    queries: Iterable[Query],
    directions: Tensor,
    vertices: Tensor,
    faces: Tensor,
    hair: tuple[Tensor, Tensor] | None = None,
    *,
    size: int = 192,
    within: Tensor | None = None,
) -> list[Tensor]:
    """For each query the fraction of the directions that its points see, (P,) in [0,1].

    Args:
        directions: (D,3) unit.
        vertices, faces, hair: the occluders; hair is points (S,K,3) and radius (S,K).
        size: of the depth maps, pixels.
        within: (N,3) the depth maps cover these points; nothing outside occludes. None: all vertices.
    """
    from taichi_avatars.kernels.subject import visibility as kernels

    runtime.start()
    shown = vertices if within is None else within
    center = 0.5 * (shown.amin(0) + shown.amax(0))
    reach = float((shown - center).norm(dim=1).max()) + 0.03
    queries = [query._replace(points=query.points.contiguous()) for query in queries]
    totals = [torch.zeros(len(query.points), 2, dtype=torch.float32) for query in queries]
    for direction in directions:
        camera = depth_map(direction, center, reach, size)
        _, _, nearest = rasterize_depth(vertices, faces, camera)
        if hair is not None:
            draw_strands(*hair, camera, 1, nearest)
        record = camera_record(camera)
        for query, total in zip(queries, totals, strict=True):
            lambert = query.normals is not None
            normals = query.points if query.normals is None else query.normals
            kernels.accumulate_visibility(
                query.points, normals, direction, record, nearest, query.bias, query.fade, int(lambert), total
            )
    return [total[:, 0] / total[:, 1].clamp(min=1e-6) for total in totals]
