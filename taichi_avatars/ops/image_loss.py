"""The image loss, 0.8 L1 + 0.2 (1 - SSIM), as a differentiable op (Kerbl et al. 2023, eq. 7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi_avatars import runtime
from taichi_avatars.ops.checks import check

TASKS = 64  # each with its own sums; their number does not depend on that of the threads, so the values are bit-exact


def _planes(image: Tensor) -> Tensor:
    """(3,H,W) to (3,H,columns+2,16): rows padded with zeros to whole vectors, and one vector of zeros at either end."""
    from taichi_avatars.kernels.ssim import LANES

    width = image.shape[2]
    columns = -(-width // LANES)
    planes = image.new_zeros(3, image.shape[1], (columns + 2) * LANES)
    planes[:, :, LANES : LANES + width] = image
    return planes.view(3, image.shape[1], columns + 2, LANES)


class _ImageLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        from taichi_avatars.kernels import ssim as kernel

        x, y = _planes(image.detach()), _planes(truth.detach())
        lines, vectors = 3 * x.shape[1], x.shape[2]
        chunk_rows = -(-lines // TASKS)
        chunks = -(-lines // chunk_rows)
        rows = x.new_zeros(chunks, kernel.MOMENTS, vectors, kernel.LANES)
        slopes = x.new_zeros(kernel.SLOPES, *x.shape)
        sums = x.new_zeros(chunks, 2, kernel.LANES)
        with runtime.native_vectors():
            kernel.ssim_l1(image.shape[2], chunk_rows, x, y, rows, slopes, sums)
        ctx.save_for_backward(x, y, rows, slopes)
        ctx.width, ctx.chunk_rows = image.shape[2], chunk_rows
        means = (sums.double().sum((0, 2)) / image.numel()).float()
        return means[0], means[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import ssim as kernel

        x, y, rows, slopes = ctx.saved_tensors
        grad = torch.empty_like(x)
        count = 3 * x.shape[1] * ctx.width
        with runtime.native_vectors():
            kernel.ssim_l1_adjoint(grads[0].item() / count, grads[1].item() / count, ctx.chunk_rows, x, y, rows, slopes, grad)
        lanes = kernel.LANES
        return grad.view(3, x.shape[1], -1)[:, :, lanes : lanes + ctx.width], None


class _ImageLossOnGpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        from taichi_avatars.kernels import ssim_gpu as kernel

        x, y = image.detach().contiguous(), truth.detach().contiguous()
        slopes, similarity = x.new_empty(kernel.SLOPES, *x.shape), torch.empty_like(x)
        kernel.ssim(x, y, slopes, similarity)
        ctx.save_for_backward(x, y, slopes)
        sums = torch.stack([(x - y).abs().sum(dtype=torch.float64), similarity.sum(dtype=torch.float64)])
        l1, ssim = (sums / x.numel()).float().unbind()
        return l1, ssim

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import ssim_gpu as kernel

        x, y, slopes = ctx.saved_tensors
        grad = torch.empty_like(x)
        kernel.ssim_l1_adjoint(torch.stack(grads) / x.numel(), x, y, slopes, grad)
        return grad, None


def l1_and_ssim(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute difference and mean SSIM of two images (3,H,W), differentiable in the first.

    SSIM: 11x11 Gaussian window, sigma 1.5, zero padding, C1 = 0.01^2, C2 = 0.03^2, per channel (Wang et al. 2004).

    Raises:
        UserError: if shapes or dtypes differ from (3,H,W) float32.
    """
    sizes: dict[str, int] = {}
    check("image", image, (3, "H", "W"), sizes)
    check("truth", truth, (3, "H", "W"), sizes)
    return (_ImageLossOnGpu if runtime.on_gpu() else _ImageLoss).apply(image, truth.to(image.device))
