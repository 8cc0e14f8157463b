"""Strands of hair: moved with their root triangles, drawn into a mesh's z-buffer, lit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.errors import UserError
from taichi_avatars.ops.frames import Frames
from taichi_avatars.ops.mesh import camera_record
from taichi_avatars.ops.projection import PinholeCamera

THINNEST = 0.5  # pixels
HIDDEN = 0.006  # metres: strands whose points all lie this far behind the mesh are not drawn


class DrawnStrands(NamedTuple):
    """Strands as a camera sees them; see `kernels/subject/strands.py`.

    Attributes:
        strand: (H*s, W*s) int32, the point strand * K + k at which the segment seen begins, or -1.
        along: (H*s, W*s), 0..1 on that segment.
        screen: (S,K,5).
        rows: (S,2) int32, first and last row of samples; empty for a strand that cannot be seen.
    """

    strand: Tensor
    along: Tensor
    screen: Tensor
    rows: Tensor


def pose_strands(local: Tensor, root: Tensor, frames: Frames) -> Tensor:
    """World points (S,K,3) of strands given in the frames of their root triangles: local (S,K,3) metres, root (S,) int32."""
    from taichi_avatars.kernels.subject import strands

    runtime.start()
    points = torch.empty_like(local)
    strands.pose_strands(local, root, frames.rotation.contiguous(), frames.center.contiguous(), points)
    return points


def draw_strands(
    points: Tensor, radius: Tensor, camera: PinholeCamera, supersample: int, nearest: Tensor, solid: int | None = None
) -> DrawnStrands:
    """Draws ribbons that face the camera into `nearest` (H*s, W*s), the inverse depth of what is already there, in place.

    A ribbon is at least half a pixel wide, and at least a sample.

    Args:
        points: (S,K,3) world, metres.
        radius: (S,K) metres.
        solid: strands from this index on fade where they are thinner than that; None: none.
    """
    from taichi_avatars.kernels.subject import strands

    if runtime.backend() == "vulkan":
        raise UserError("strands of hair are not drawn on vulkan: use --device cpu here; the capture is the same")
    count, links, _ = points.shape
    thinnest = max(1.0, THINNEST * supersample)
    screen, rows = torch.empty(count, links, 5, dtype=torch.float32), torch.empty(count, 2, dtype=torch.int32)
    strand, along = torch.empty(nearest.shape, dtype=torch.int32), torch.empty(nearest.shape, dtype=torch.float32)
    if count:
        fading = count if solid is None else solid
        record = camera_record(camera, supersample)
        strands.project_strands(points, radius, record, camera.near, fading, thinnest, nearest, HIDDEN, screen, rows)
        strands.rasterize_strands(screen, rows, nearest, strand, along)
    else:
        strand.fill_(-1)
    return DrawnStrands(strand, along, screen, rows)


def light_strands(
    points: Tensor, color: Tensor, received: Tensor, gloss: float, eye: Tensor, lights: Tensor, sky: Tensor, rows: Tensor
) -> Tensor:
    """Display colours (S,K,3) of strand points seen from `eye` (3,); see `kernels/subject/shading.py` for the arguments.

    Strands without `rows` (S,2), which are not seen, get none: their values are undefined.
    """
    from taichi_avatars.kernels.subject import shading

    runtime.start()
    out = torch.empty_like(points)
    if len(points):
        shading.light_strands(points, color, received, gloss, eye, lights, sky, rows, out)
    return out
