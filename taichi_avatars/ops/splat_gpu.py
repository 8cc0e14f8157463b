"""Compositing on a GPU as a differentiable op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi_avatars.ops.tiles import sort_into_tiles


class SplatOnGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, background: Tensor, width: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
        from taichi_avatars.kernels import splat_gpu as kernel

        rows, background = rows.detach().contiguous(), background.detach().contiguous()
        lists = sort_into_tiles(rows, width, height)
        image, alpha, depth = rows.new_empty(3, height, width), rows.new_empty(height, width), rows.new_empty(height, width)
        kernel.composite(lists.tiles_x, lists.tile_end, lists.entries, _some(lists.packed), background, image, alpha, depth)
        ctx.save_for_backward(rows, background, image, alpha, depth)
        ctx.lists = lists
        return image, alpha, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import splat_cpu, splat_gpu

        rows, background, image, alpha, depth = (t.detach() for t in ctx.saved_tensors)
        lists = ctx.lists
        grad_rows = torch.empty_like(rows)
        if len(rows):
            pair_grad = rows.new_empty(len(lists.entries), splat_cpu.LANES)
            g_image, g_alpha, g_depth = (g.contiguous() for g in grads)
            splat_gpu.composite_adjoint(
                lists.tiles_x,
                lists.tile_end,
                lists.entries,
                lists.packed,
                background,
                image,
                alpha,
                depth,
                g_image,
                g_alpha,
                g_depth,
                pair_grad,
            )
            splat_cpu.gather(lists.order, rows, lists.splat_end, pair_grad, grad_rows)
        grad_background = (grads[0] * (1.0 - alpha)).sum((1, 2)) if ctx.needs_input_grad[1] else None
        return grad_rows, grad_background, None, None


def _some(packed: Tensor) -> Tensor:
    """`packed`, or if it is empty a row that no list refers to: a GPU takes no empty arrays."""
    return packed if len(packed) else packed.new_zeros(1, packed.shape[1])
