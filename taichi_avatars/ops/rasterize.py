"""The rasterizer that users call: world Gaussians and a camera in, image out, differentiable throughout."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.ops.checks import check
from taichi_avatars.ops.projection import Harmonics, SplatCamera, project
from taichi_avatars.ops.splat import splat


@dataclass(eq=False)
class Rendering:
    """What the rasterizer returns.

    image: (3,H,W) over the background.  alpha: (H,W).
    depth: (H,W) sum of weight times view depth, metres, not divided by alpha.
    radii: (N,) int32, pixels, 0 where not visible.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor
    radii: Tensor
    _mean2d: list[Tensor] = field(default_factory=list, repr=False)

    @property
    def mean2d_grad(self) -> Tensor | None:
        """(N,2) gradient of the last backward pass to the 2D means, times (W/2, H/2); None before it."""
        return self._mean2d[0] if self._mean2d else None


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Harmonics,
    *,
    camera: SplatCamera,
    background: tuple[float, float, float] | Tensor = (0.0, 0.0, 0.0),
    sh_degree: int | None = None,
) -> Rendering:
    """Renders 3D Gaussians (Kerbl et al. 2023). Differentiable in all five tensors, the camera pose and the background.

    Args:
        means: (N,3) world, metres.
        quats: (N,4) w,x,y,z, normalised inside.
        scales: (N,3) standard deviations, > 0, metres.
        opacities: (N,) in [0,1].
        sh: (N,K,3) spherical harmonics, K >= (sh_degree+1)^2; colour = SH + 0.5, clamped at 0. Or, as an avatar stores them,
            band 0 (N,1,3) and the bands above (N,K-1,3).
        camera: pinhole camera; the gradient of the pose arrives at its `world_to_camera` if that requires one.
        background: colour behind everything, 3 numbers or a (3,) tensor.
        sh_degree: 0 to 3; None for all of `sh`.

    Raises:
        UserError: naming the argument whose dtype, shape, device or values are wrong.
    """
    sizes: dict[str, int] = {}
    check("means", means, ("N", 3), sizes)
    check("quats", quats, ("N", 4), sizes)
    check("scales", scales, ("N", 3), sizes)
    check("opacities", opacities, ("N",), sizes)
    if isinstance(sh, Tensor):
        bands = check("sh", sh, ("N", "K", 3), sizes).shape[1]
    else:
        bands = check("sh[0]", sh[0], ("N", 1, 3), sizes).shape[1] + check("sh[1]", sh[1], ("N", "K", 3), sizes).shape[1]
    check("world_to_camera", camera.world_to_camera, (4, 4))
    behind = torch.as_tensor(background, dtype=torch.float32) if not isinstance(background, Tensor) else background
    check("background", behind, (3,))
    degree = _degree(bands, sh_degree)

    splats = project(means, quats, scales, opacities, sh, camera, degree)
    image, alpha, depth = splat(splats.rows, behind, camera.width, camera.height)
    rendering = Rendering(image, alpha, depth, splats.radii)
    if splats.rows.requires_grad:
        half_size = torch.tensor([0.5 * camera.width, 0.5 * camera.height], device=means.device, dtype=torch.float32)
        kept = rendering._mean2d
        splats.rows.register_hook(lambda grad: kept.__setitem__(slice(None), [grad[:, :2] * half_size]))
    return rendering


def _degree(bands: int, wanted: int | None) -> int:
    held = next((d for d in (3, 2, 1, 0) if (d + 1) ** 2 <= bands), None)
    if held is None:
        raise UserError("sh: got no coefficients, want at least one per Gaussian")
    if wanted is None:
        return held
    if not 0 <= wanted <= 3:
        raise UserError(f"sh_degree: got {wanted}, want 0 to 3")
    if wanted > held:
        raise UserError(f"sh_degree: got {wanted}, which needs {(wanted + 1) ** 2} coefficients, but sh holds {bands}")
    return wanted
