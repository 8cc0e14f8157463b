"""Position and scale loss of bound Gaussians as one differentiable op (GaussianAvatars, eq. 6 and 7)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi_avatars import runtime
from taichi_avatars.ops.checks import check


class Free(NamedTuple):
    """Values without a cost. distance, size: in triangle units, or in metres if `metric_*` is set."""

    distance: float
    size: float
    metric_distance: bool = False
    metric_size: bool = False


class _LocalLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, means: Tensor, log_scales: Tensor, binding: Tensor, triangle_scale: Tensor, radii: Tensor, free: Free
    ) -> tuple[Tensor, Tensor]:
        from taichi_avatars.kernels.local_losses import local_losses as kernel

        exp_scales = log_scales.detach().exp().view(-1)  # torch's exp is vectorised, a kernel's is scalar
        costs, g_means, g_log_scales = means.new_empty(2, len(means)), torch.empty_like(means), torch.empty_like(means)
        if len(means):
            local = means.detach().contiguous().view(-1), exp_scales, binding, triangle_scale.detach().contiguous()
            kernel(*free, *local, radii, costs, g_means, g_log_scales)
        visible = (radii > 0).sum().clamp_min(1)
        ctx.save_for_backward(g_means, g_log_scales, visible)
        position, scale = (costs.sum(1, dtype=torch.float64) / visible).float().unbind()
        return position, scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        g_means, g_log_scales, visible = ctx.saved_tensors
        return g_means * (grads[0] / visible), g_log_scales * (grads[1] / visible), None, None, None, None


def local_losses(
    means: Tensor, log_scales: Tensor, binding: Tensor, triangle_scale: Tensor, radii: Tensor, free: Free
) -> tuple[Tensor, Tensor]:
    """Means over the visible Gaussians of max(|mean| - distance, 0) and of |max(exp(scale) - size, 0)|; 0 if there are none.

    Args:
        means: (N,3) local, in units of the triangle.  log_scales: (N,3) natural logarithm, the same.
        binding: (N,) int32 triangle of each Gaussian.  triangle_scale: (F,) metres per unit, without a gradient.
        radii: (N,) int32, above 0 where visible.

    Raises:
        UserError: for other shapes or dtypes.
    """
    runtime.start()
    sizes: dict[str, int] = {}
    check("means", means, ("N", 3), sizes)
    check("log_scales", log_scales, ("N", 3), sizes)
    check("binding", binding, ("N",), sizes, torch.int32)
    check("triangle_scale", triangle_scale, ("F",))
    check("radii", radii, ("N",), sizes, torch.int32)
    return _LocalLosses.apply(means, log_scales, binding.contiguous(), triangle_scale, radii.contiguous(), free)
