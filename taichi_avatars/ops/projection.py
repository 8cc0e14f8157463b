"""Projection as a differentiable op: world Gaussians and a camera to screen splats."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi_avatars import runtime


class PinholeCamera(Protocol):
    """The camera that meshes are drawn with; `scene.cameras.Camera` is one."""

    @property
    def world_to_camera(self) -> Tensor: ...
    @property
    def fx(self) -> float: ...
    @property
    def fy(self) -> float: ...
    @property
    def cx(self) -> float: ...
    @property
    def cy(self) -> float: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def near(self) -> float: ...


class SplatCamera(PinholeCamera, Protocol):
    """The camera that Gaussians are drawn with, also satisfied by `Camera`: a pinhole and a low-pass filter."""

    @property
    def low_pass(self) -> float: ...


class Splats(NamedTuple):
    """Gaussians on the screen.

    rows: (N,12) the columns of `kernels.types.Splat`; pixels and metres; differentiable in the first ten.
    radii: (N,) int32, pixels; 0 where not visible.
    """

    rows: Tensor
    radii: Tensor


Harmonics = Tensor | tuple[Tensor, Tensor]
"""SH coefficients: (N,K,3), or as an avatar stores them, band 0 (N,1,3) and the bands above (N,K-1,3)."""


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh_base: Tensor,
        sh_rest: Tensor | None,
        pose: Tensor,
        lens: Tensor,
        degree: int,
    ) -> tuple[Tensor, Tensor]:
        from taichi_avatars.kernels import projection as kernel
        from taichi_avatars.kernels.types import Splat

        n = len(means)
        count = max(n, kernel.LANES) if n and not runtime.on_gpu() else n  # the CPU's kernels process this many at once
        means, quats, scales, opacities, base = (_flat(t, count) for t in (means, quats, scales, opacities, sh_base))
        rest, at = (base, 3) if sh_rest is None else (_flat(sh_rest, count), 0)
        pose = pose.detach().double()
        center = -pose[:3, :3].T @ pose[:3, 3]
        view = torch.cat([pose[:3, :3].reshape(9), pose[:3, 3], center, lens.to(pose.device)]).float().to(means.device)
        rows, radii = means.new_empty(count, Splat.SIZE), torch.empty(count, dtype=torch.int32, device=means.device)
        if n:
            launch = kernel.project_gpu if runtime.on_gpu() else runtime.natively(kernel.project)
            launch(count, degree, at, view, means, quats, scales, opacities, base, rest, rows.view(-1), radii)
        ctx.save_for_backward(means, quats, scales, base, rest, view, rows)
        ctx.degree, ctx.at, ctx.pose, ctx.count = degree, at, pose, n
        ctx.bands = sh_base.shape, None if sh_rest is None else sh_rest.shape
        rows, radii = rows[:n], radii[:n]
        ctx.mark_non_differentiable(radii)
        return rows, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import projection as kernel
        from taichi_avatars.kernels.types import PoseGradient, WorldGradient

        means, quats, scales, base, rest, view, rows = (t.detach() for t in ctx.saved_tensors)
        n, count = ctx.count, len(rows)
        grad, grad_base = means.new_empty(count, WorldGradient.SIZE), torch.empty_like(base)
        grad_rest = grad_base if ctx.bands[1] is None else torch.empty_like(rest)
        each, launch = kernel.CHUNK, runtime.natively(kernel.project_adjoint)
        if runtime.on_gpu():
            each, launch = 1, kernel.project_adjoint_gpu
        partial = means.new_empty(-(-count // each), PoseGradient.SIZE)
        if n:
            world = means, quats, scales, rest, rows.view(-1), _flat(grads[0], count)
            launch(count, ctx.degree, ctx.at, view, *world, grad.view(-1), grad_base, grad_rest, partial.view(-1))
        grad_pose = None
        if ctx.needs_input_grad[6]:
            total, pose = partial.double().sum(0).to(ctx.pose.device), ctx.pose
            g_center = total[12:15]  # centre = -R^T t
            grad_pose = torch.zeros_like(pose)
            grad_pose[:3, :3] = total[:9].view(3, 3) - torch.outer(pose[:3, 3], g_center)
            grad_pose[:3, 3] = total[9:12] - pose[:3, :3] @ g_center
            grad_pose = grad_pose.float()
        of_bands = (
            None if shape is None else g[: shape.numel()].view(shape)
            for g, shape in zip((grad_base, grad_rest), ctx.bands, strict=True)
        )  # fmt: skip
        grad = grad[:n]
        return grad[:, 0:3], grad[:, 3:7], grad[:, 7:10], grad[:, 10], *of_bands, grad_pose, None, None


def _flat(t: Tensor, rows: int) -> Tensor:
    """A table as flat numbers, padded with zeros to `rows` rows."""
    t = t.detach().contiguous()
    if len(t) < rows:
        t = torch.cat([t, t.new_zeros(rows - len(t), *t.shape[1:])])
    return t.view(-1)


def project(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh: Harmonics, camera: SplatCamera, degree: int
) -> Splats:
    """World Gaussians to screen splats (EWA, Zwicker et al. 2001), with colour from SH seen from the camera centre.

    Args:
        means: (N,3) world, metres.  quats: (N,4) w,x,y,z, normalised inside.  scales: (N,3) metres.
        opacities: (N,) in [0,1].  sh: coefficients, of which the first (degree+1)^2 are read.
    """
    runtime.start()
    names = "fx", "fy", "cx", "cy", "width", "height", "near", "low_pass"
    lens = torch.tensor([getattr(camera, name) for name in names], dtype=torch.float64)
    bands = sh
    if isinstance(sh, Tensor):  # read in place; a GPU may see copies, and cannot write one tensor passed as two
        bands = (sh[:, :1], sh[:, 1:]) if runtime.on_gpu() else (sh, None)
    rows, radii = _Project.apply(means, quats, scales, opacities, *bands, camera.world_to_camera, lens, degree)
    return Splats(rows, radii)
