"""What each Gaussian contributes to images: sums over pixels of its blend weights, alpha times transmittance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taichi_avatars import ops
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import C0
from taichi_avatars.scene.views import View


def blended(avatar: Avatar, view: View, opacities: Tensor, pictures: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Sums over the pixels of a view of each Gaussian's blend weight times what a picture shows there.

    The rasterizer's adjoint sums them: they are the gradients of sum(image * picture) to the colours of the Gaussians.

    Args:
        opacities: (N,), in place of the avatar's own.
        pictures: (3,H,W) each; of ones, the sums are those of the weights alone, in pixels.

    Returns:
        (N,3) for each picture, and the radii (N,) that the Gaussians have on the screen, pixels.
    """
    with torch.no_grad():
        world, _ = avatar.world(None if avatar.head is None else avatar.mesh(view.timestep))
    base = torch.zeros(len(opacities), 1, 3, dtype=torch.float32, device=opacities.device, requires_grad=True)
    out = ops.rasterize(*world, opacities, base, camera=view.camera)
    sums = [torch.autograd.grad(out.image, base, picture, retain_graph=True)[0] for picture in pictures]
    return [of_base[:, 0] / C0 for of_base in sums], out.radii
