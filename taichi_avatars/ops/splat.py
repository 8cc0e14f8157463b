"""Compositing as a differentiable op: screen splats to image, alpha and depth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi_avatars import runtime
from taichi_avatars.ops.tiles import sort_into_tiles


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, background: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
        from taichi_avatars.kernels import splat_cpu as kernel

        rows, background = rows.detach().contiguous(), background.detach().contiguous()
        lists = sort_into_tiles(rows, width, height)
        state = rows.new_empty(lists.tiles_x * lists.tiles_y, 4, kernel.CHANNELS, kernel.LANES)
        image, alpha, depth = rows.new_empty(3, height, width), rows.new_empty(height, width), rows.new_empty(height, width)
        with runtime.native_vectors():
            kernel.composite(width, height, lists.tiles_x, lists.tile_end, lists.entries, lists.packed, state)
            kernel.to_image(lists.tiles_x, background, state, image, alpha, depth)
        ctx.save_for_backward(rows, background, state, alpha)
        ctx.lists = lists
        return image, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import splat_cpu as kernel

        rows, background, state, alpha = ctx.saved_tensors
        lists = ctx.lists
        height, width = alpha.shape
        grad_image, grad_alpha, grad_depth = (g.contiguous() for g in grads)
        grad = torch.empty_like(state)
        pair_grad = rows.new_empty(len(lists.entries), kernel.LANES)
        with runtime.native_vectors():
            kernel.from_image(lists.tiles_x, background, grad_image, grad_alpha, grad_depth, grad)
            kernel.composite_adjoint(
                width,
                height,
                lists.tiles_x,
                lists.tile_end,
                lists.entries,
                lists.packed,
                state,
                grad,
                pair_grad,
            )
            grad_rows = torch.empty_like(rows)
            if len(rows):
                kernel.gather(lists.order, rows, lists.splat_end, pair_grad, grad_rows)
        grad_background = (grad_image * (1.0 - alpha)).sum((1, 2)) if ctx.needs_input_grad[1] else None
        return grad_rows, grad_background, None, None


def splat(rows: Tensor, background: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Composites splats front to back (Kerbl et al. 2023, eq. 3).

    Args:
        rows: (N,12) splats, see `kernels.types.Splat`.  background: (3,).  width, height: image size, pixels.

    Returns:
        image (3,H,W) over the background, alpha (H,W), depth (H,W) = sum of weight times view depth, metres.
    """
    from taichi_avatars.ops.splat_gpu import SplatOnGpu

    op = SplatOnGpu if runtime.on_gpu() else _Splat
    return op.apply(rows, background.to(rows.device), width, height)
