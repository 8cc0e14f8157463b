"""Binding as a differentiable op: Gaussians from the frame of their triangle to the world."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from taichi_avatars import runtime
from taichi_avatars.ops.adjacency import Adjacency, adjacency
from taichi_avatars.ops.checks import check
from taichi_avatars.ops.frames import Frames, unpack_frames


class World(NamedTuple):
    """N Gaussians in the world.

    Attributes:
        means: (N,3), metres.
        quats: (N,4), w,x,y,z, of unit length where the frame is a rotation.
        scales: (N,3), metres, after the activation.
    """

    means: Tensor
    quats: Tensor
    scales: Tensor


def bind(local_means: Tensor, local_quats: Tensor, local_log_scales: Tensor, binding: Tensor, frames: Frames) -> World:
    """Transforms Gaussians with their triangles (GaussianAvatars, section 3.2). Differentiable in all but the binding.

    mean' = s_f R_f mean + T_f; quaternion' = quat(R_f) normalise(quat); scale' = s_f exp(scale).

    Args:
        local_means: (N,3) float32, in units of the triangle.
        local_quats: (N,4) float32, w,x,y,z, of any length.
        local_log_scales: (N,3) float32, natural logarithm, in units of the triangle.
        binding: (N,) int32 or int64, the triangle of each Gaussian.
        frames: the frames of F triangles.

    Raises:
        UserError: for a wrong type, shape or device, NaN or infinite values, or a binding outside 0 .. F-1.
    """
    sizes: dict[str, int] = {}
    check("local_means", local_means, ("N", 3), sizes)
    check("local_quats", local_quats, ("N", 4), sizes)
    check("local_log_scales", local_log_scales, ("N", 3), sizes)
    check("frames.rotation", frames.rotation, ("F", 3, 3), sizes)
    check("frames.scale", frames.scale, ("F",), sizes)
    check("frames.center", frames.center, ("F", 3), sizes)
    check("frames.quat", frames.quat, ("F", 4), sizes)
    bound = adjacency("binding", binding, ("N",), len(frames.scale), sizes)
    return World(*_Bind.apply(local_means, local_quats, local_log_scales, bound, *frames))


def _unpack_gaussians(packed: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    means, quats, scales = packed.split([3 * count, 4 * count, 3 * count])
    return means.view(count, 3), quats.view(count, 4), scales.view(count, 3)


class _Bind(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, means: Tensor, quats: Tensor, log_scales: Tensor, bound: Adjacency, *frames: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        from taichi_avatars.kernels.binding import bind as kernel

        runtime.start()
        # torch's exp is vectorised, a kernel's is scalar: it would take most of this stage.
        exp_scales = log_scales.detach().exp()
        means, quats, exp_scales = (t.detach().contiguous().view(-1) for t in (means, quats, exp_scales))
        rotation, scale, center, quat = (t.detach().contiguous().view(-1) for t in frames)
        count = len(bound.index)
        packed = means.new_empty(10 * count)
        if count:
            kernel(means, quats, exp_scales, bound.index, rotation, scale, center, quat, packed)
        ctx.save_for_backward(means, quats, exp_scales, rotation, scale, quat)
        ctx.bound = bound  # type: ignore[attr-defined]
        return _unpack_gaussians(packed, count)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels.binding import bind_adjoint

        means, quats, exp_scales, rotation, scale, quat = ctx.saved_tensors
        bound: Adjacency = ctx.bound
        count, triangles = len(bound.index), bound.count
        out = means.new_empty(10 * count + 17 * triangles)
        if count:
            g_means, g_quats, g_scales = (g.contiguous().view(-1) for g in gradients)
            records = means.new_empty(16 * count)
            local, frames = (means, quats, exp_scales), (rotation, scale, quat)
            bind_adjoint(*local, bound.index, bound.users, *frames, g_means, g_quats, g_scales, records, out)
        else:
            out.zero_()
        return *_unpack_gaussians(out[: 10 * count], count), None, *unpack_frames(out[10 * count :], triangles)
