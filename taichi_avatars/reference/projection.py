"""Projection and spherical harmonics in plain torch float64 (Zwicker et al. 2001, eq. 31; Kerbl et al. 2023, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi_avatars.ops.projection import SplatCamera

NEAR_MARGIN = 0.15  # of the image's size: how far outside the image x/z and y/z are clamped in the Jacobian


def rotation_matrix(quats: Tensor) -> Tensor:
    """(N,4) w,x,y,z of any length to (N,3,3)."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def sh_basis(directions: Tensor) -> Tensor:
    """(N,3) unit directions to the (N,16) basis functions of degree 0 to 3."""
    x, y, z = directions.unbind(1)
    one = torch.ones_like(x)
    return torch.stack(
        [
            0.28209479177387814 * one,
            -0.4886025119029199 * y,
            0.4886025119029199 * z,
            -0.4886025119029199 * x,
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ],
        1,
    )


def color(means: Tensor, sh: Tensor, center: Tensor, degree: int) -> Tensor:
    """(N,3) colour of Gaussians at `means` (N,3) seen from `center` (3,); sh (N,K,3)."""
    bands = (degree + 1) ** 2
    basis = sh_basis(torch.nn.functional.normalize(means - center, dim=1))[:, :bands]
    return torch.relu((basis[:, :, None] * sh[:, :bands]).sum(1) + 0.5)


def project(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    camera: SplatCamera,
    pose: Tensor,
    degree: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """2D means (N,2), conics (N,3), opacities (N,), colours (N,3), depths (N,), radii (N,); opacity and radius 0 where culled.

    Args:
        pose: (4,4) world to camera, in float64, so that it may require a gradient.
    """
    width, height = camera.width, camera.height
    view = means @ pose[:3, :3].T + pose[:3, 3]
    z = view[:, 2]
    seen = z > camera.near
    safe = torch.where(seen, z, torch.ones_like(z))
    u, v = view[:, 0] / safe, view[:, 1] / safe
    mean2d = torch.stack([camera.fx * u + camera.cx, camera.fy * v + camera.cy], 1)
    uc = u.clamp((-camera.cx - NEAR_MARGIN * width) / camera.fx, (width - camera.cx + NEAR_MARGIN * width) / camera.fx)
    vc = v.clamp((-camera.cy - NEAR_MARGIN * height) / camera.fy, (height - camera.cy + NEAR_MARGIN * height) / camera.fy)
    zero = torch.zeros_like(safe)
    jacobian = torch.stack(
        [
            torch.stack([camera.fx / safe, zero, -camera.fx * uc / safe], 1),
            torch.stack([zero, camera.fy / safe, -camera.fy * vc / safe], 1),
        ],
        1,
    )
    half = jacobian @ pose[:3, :3] @ rotation_matrix(quats) @ torch.diag_embed(scales)
    covariance = half @ half.transpose(1, 2) + camera.low_pass * torch.eye(2, dtype=means.dtype)
    a, b, c = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 1, 1]
    determinant = a * c - b * b
    conic = torch.stack([c, -b, a], 1) / determinant[:, None]
    middle = 0.5 * (a + c)
    radius = torch.ceil(3 * torch.sqrt(middle + torch.sqrt((middle * middle - determinant).clamp_min(0.1))))
    radius = torch.where(seen & _touches_a_tile(mean2d, radius, width, height), radius, zero).detach()
    center = -pose[:3, :3].T @ pose[:3, 3]
    return mean2d, conic, torch.where(seen, opacities, zero), color(means, sh, center, degree), z, radius


def _touches_a_tile(mean2d: Tensor, radius: Tensor, width: int, height: int) -> Tensor:
    """Whether the square of the radius touches a 16x16 tile of the image; integers are truncated as the original does."""
    inside = torch.ones(len(radius), dtype=torch.bool)
    for axis, size in ((0, width), (1, height)):
        at = mean2d[:, axis] - 0.5
        tiles = -(-size // 16)
        first = ((at - radius) / 16).trunc().clamp(0, tiles)
        past = ((at + radius + 15) / 16).trunc().clamp(0, tiles)
        inside &= past > first
    return inside
