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


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: Tensor,
        pose: Tensor,
        lens: Tensor,
        degree: int,
    ) -> tuple[Tensor, Tensor]:
        from taichi_avatars.kernels import projection as kernel

        means, quats, scales, opacities, sh = (t.detach().contiguous() for t in (means, quats, scales, opacities, sh))
        pose = pose.detach().double()
        center = -pose[:3, :3].T @ pose[:3, 3]
        view = torch.cat([pose[:3, :3].reshape(9), pose[:3, 3], center, lens.to(pose.device)]).float().to(means.device)
        rows = means.new_empty(len(means), kernel.SPLAT)
        radii = torch.empty(len(means), dtype=torch.int32, device=means.device)
        if len(means):
            kernel.project(degree, view, means, quats, scales, opacities, sh, rows, radii)
        ctx.save_for_backward(means, quats, scales, sh, view, rows)
        ctx.degree, ctx.pose = degree, pose
        ctx.mark_non_differentiable(radii)
        return rows, radii

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        from taichi_avatars.kernels import projection as kernel

        means, quats, scales, sh, view, rows = (t.detach() for t in ctx.saved_tensors)
        n = len(means)
        grad = means.new_empty(n, 11)
        grad_sh = torch.empty_like(sh)
        each, launch = (1, kernel.project_adjoint_gpu) if runtime.on_gpu() else (kernel.CHUNK, kernel.project_adjoint)
        partial = means.new_empty(-(-n // each), kernel.POSE)
        if n:
            launch(ctx.degree, view, means, quats, scales, sh, rows, grads[0].contiguous(), grad, grad_sh, partial)
        grad_pose = None
        if ctx.needs_input_grad[5]:
            total, pose = partial.double().sum(0).to(ctx.pose.device), ctx.pose
            g_center = total[12:15]  # centre = -R^T t
            grad_pose = torch.zeros_like(pose)
            grad_pose[:3, :3] = total[:9].view(3, 3) - torch.outer(pose[:3, 3], g_center)
            grad_pose[:3, 3] = total[9:12] - pose[:3, :3] @ g_center
            grad_pose = grad_pose.float()
        return grad[:, 0:3], grad[:, 3:7], grad[:, 7:10], grad[:, 10], grad_sh, grad_pose, None, None


def project(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, sh: Tensor, camera: PinholeCamera, degree: int
) -> Splats:
    """World Gaussians to screen splats (EWA, Zwicker et al. 2001), with colour from SH seen from the camera centre.

    Args:
        means: (N,3) world, metres.  quats: (N,4) w,x,y,z, normalised inside.  scales: (N,3) metres.
        opacities: (N,) in [0,1].  sh: (N,K,3), of which the first (degree+1)^2 are read.
    """
    runtime.start()
    lens = torch.tensor(
        [camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height, camera.near], dtype=torch.float64
    )
    rows, radii = _Project.apply(means, quats, scales, opacities, sh, camera.world_to_camera, lens, degree)
    return Splats(rows, radii)
