"""Triangle frames as a differentiable op."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from taichi_avatars import runtime
from taichi_avatars.ops.adjacency import Adjacency, adjacency
from taichi_avatars.ops.checks import check


class Frames(NamedTuple):
    """Local frames of F triangles, in the space of the vertices.

    Attributes:
        rotation: (F,3,3), columns are the first edge's direction, the normal, and their cross product.
        scale: (F,), metres: half of the first edge plus the height over it.
        center: (F,3), metres.
        quat: (F,4), w,x,y,z: the rotation as a unit quaternion.
    """

    rotation: Tensor
    scale: Tensor
    center: Tensor
    quat: Tensor


def triangle_frames(vertices: Tensor, faces: Tensor) -> Frames:
    """The frame of every triangle of a mesh (GaussianAvatars, section 3.1). Differentiable in the vertices.

    A degenerate triangle (no direction or no area) has finite values, and no gradient through the missing quantity.

    Args:
        vertices: (V,3) float32, any space, metres.
        faces: (F,3) int32 or int64.

    Raises:
        UserError: for a wrong type, shape or device, NaN or infinite vertices, or an index outside 0 .. V-1.
    """
    check("vertices", vertices, ("V", 3))
    corners = adjacency("faces", faces, ("F", 3), len(vertices))
    return Frames(*_Frames.apply(vertices, corners))


def unpack_frames(packed: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four fields of packed frames (17F,), as views: rotation, scale, center, quat."""
    rotation, scale, center, quat = packed.split([9 * count, count, 3 * count, 4 * count])
    return rotation.view(count, 3, 3), scale, center.view(count, 3), quat.view(count, 4)


class _Frames(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, vertices: Tensor, corners: Adjacency) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from taichi_avatars.kernels.frames import frames

        runtime.start()
        vertices = vertices.detach().contiguous()
        count = len(corners.index)
        packed = vertices.new_empty(17 * count)
        if count:
            frames(vertices, corners.index, packed)
        ctx.save_for_backward(vertices)
        ctx.corners = corners  # type: ignore[attr-defined]
        return unpack_frames(packed, count)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        from taichi_avatars.kernels.frames import frames_adjoint

        (vertices,) = ctx.saved_tensors
        corners: Adjacency = ctx.corners
        rotation, scale, center, quat = (g.contiguous().view(-1) for g in gradients)
        out = vertices.new_empty(3 * len(vertices) + 3 * corners.index.numel())
        if len(vertices) and corners.index.numel():
            frames_adjoint(vertices, corners.index, rotation, scale, center, quat, corners.users, out, len(vertices))
        else:
            out.zero_()
        return out[: 3 * len(vertices)].view(-1, 3), None
