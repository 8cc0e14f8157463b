"""Projection as a differentiable op: world Gaussians and a camera to screen splats."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi_avatars import runtime


class PinholeCamera(Protocol):
    """What the rasterizer asks of a camera; `scene.cameras.Camera` is one."""

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


class Splats(NamedTuple):
    """Gaussians on the screen.

    rows: (N,12) the columns that `kernels.projection` lists; pixels and metres; differentiable in the first ten.
    radii: (N,) int32, pixels; 0 where not visible.
    """

    rows: Tensor
    radii: Tensor


Harmonics = Tensor | tuple[Tensor, Tensor]
"""SH coefficients: (N,K,3), or as an avatar holds them, band 0 (N,1,3) and the bands above (N,K-1,3)."""


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

        means, quats, scales, opacities = (t.detach().contiguous() for t in (means, quats, scales, opacities))
        base = sh_base.detach().flatten(1).contiguous()
        rest, at = (base, 3) if sh_rest is None else (sh_rest.detach().flatten(1).contiguous(), 0)
        pose = pose.detach().double()
        center = -pose[:3, :3].T @ pose[:3, 3]
        view = torch.cat([pose[:3, :3].reshape(9), pose[:3, 3], center, lens.to(pose.device)]).float().to(means.device)
        rows = means.new_empty(len(means), kernel.SPLAT)
        radii = torch.empty(len(means), dtype=torch.int32, device=means.device)
        if len(means):
            kernel.project(degree, at, view, means, quats, scales, opacities, base, rest, rows, radii)
        ctx.save_for_backward(means, quats, scales, base, rest, view, rows)
        ctx.degree, ctx.at, ctx.pose, ctx.bands = degree, at, pose, (sh_base.shape, None if sh_rest is None else sh_rest.shape)
        ctx.mark_non_differentiable(radii)
        return rows, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import projection as kernel

        means, quats, scales, base, rest, view, rows = (t.detach() for t in ctx.saved_tensors)
        n = len(means)
        grad, grad_base = means.new_empty(n, 11), torch.empty_like(base)
        grad_rest = grad_base if ctx.bands[1] is None else torch.empty_like(rest)
        each, launch = (1, kernel.project_adjoint_gpu) if runtime.on_gpu() else (kernel.CHUNK, kernel.project_adjoint)
        partial = means.new_empty(-(-n // each), kernel.POSE)
        if n:
            world = means, quats, scales, rest, rows
            launch(ctx.degree, ctx.at, view, *world, grads[0].contiguous(), grad, grad_base, grad_rest, partial)
        grad_pose = None
        if ctx.needs_input_grad[6]:
            total, pose = partial.double().sum(0).to(ctx.pose.device), ctx.pose
            g_center = total[12:15]  # centre = -R^T t
            grad_pose = torch.zeros_like(pose)
            grad_pose[:3, :3] = total[:9].view(3, 3) - torch.outer(pose[:3, 3], g_center)
            grad_pose[:3, 3] = total[9:12] - pose[:3, :3] @ g_center
            grad_pose = grad_pose.float()
        of_bands = (
            None if shape is None else g.view(shape) for g, shape in zip((grad_base, grad_rest), ctx.bands, strict=True)
        )
        return grad[:, 0:3], grad[:, 3:7], grad[:, 7:10], grad[:, 10], *of_bands, grad_pose, None, None


def project(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh: Harmonics, camera: PinholeCamera, degree: int
) -> Splats:
    """World Gaussians to screen splats (EWA, Zwicker et al. 2001), with colour from SH seen from the camera centre.

    Args:
        means: (N,3) world, metres.  quats: (N,4) w,x,y,z, normalised inside.  scales: (N,3) metres.
        opacities: (N,) in [0,1].  sh: coefficients, of which the first (degree+1)^2 are read.
    """
    runtime.start()
    lens = torch.tensor(
        [camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height, camera.near], dtype=torch.float64
    )
    bands = (sh, None) if isinstance(sh, Tensor) else sh
    rows, radii = _Project.apply(means, quats, scales, opacities, *bands, camera.world_to_camera, lens, degree)
    return Splats(rows, radii)
