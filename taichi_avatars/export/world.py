"""An avatar's Gaussians in the world, at a pose, for other viewers of 3D Gaussians.

Colour is evaluated along the world direction from the camera to the Gaussian (docs/method.md, 5), independent of the triangle.
So the coefficients of the spherical harmonics do not change when the Gaussians are transformed to the world.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.avatar import Avatar, to_world
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.head.flame import HeadMesh
from taichi_avatars.scene.georeference import Origin


@torch.no_grad()
def in_world(avatar: Avatar, mesh: HeadMesh | None, degree: int | None = None) -> Gaussians:
    """Unbound Gaussians that look like an avatar whose head has this mesh; on the CPU.

    Args:
        mesh: from `Avatar.mesh`; None for an unbound scene.
        degree: SH bands above it are omitted; None keeps all.
    """
    g = avatar.gaussians.to(runtime.device())
    world, _ = to_world(g, mesh.vertices if mesh else None, avatar.head)
    bands = (min(g.degree if degree is None else degree, g.degree) + 1) ** 2
    harmonics = g.sh_base, g.sh_rest[:, : bands - 1].contiguous()
    posed = Gaussians(world.means, world.quats, world.scales.log(), g.logit_opacities, *harmonics, binding=None)
    return posed.to(torch.device("cpu"))


def y_down(gaussians: Gaussians) -> Gaussians:
    """Gaussians after half a turn about z, which swaps up and down, left and right; bit-exact.

    Most viewers expect y down in a file, as in captures reconstructed with COLMAP, and SuperSplat applies this
    half turn to a file when it opens it. It maps x and y to -x and -y, so a basis function changes sign if its total degree
    in x and y is odd, which is every other one in the order of the files.
    """
    means = gaussians.means * torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float32)
    w, x, y, z = gaussians.quats.unbind(1)
    signs = 1.0 - 2.0 * (torch.arange(1, gaussians.sh_rest.shape[1] + 1) % 2)
    return replace(
        gaussians, means=means, quats=torch.stack([-z, -y, x, w], 1), sh_rest=gaussians.sh_rest * signs[None, :, None]
    )


def turned(origin: Origin) -> Origin:
    """The origin of a georeferenced scene after `y_down`."""
    x, y, z = origin
    return -x, -y, z


def unit_quats(quats: Tensor) -> np.ndarray:
    """(N,4) w,x,y,z of length 1; the identity if one is too short to have a direction."""
    q = quats.detach().double()
    length = q.norm(dim=1, keepdim=True)
    none = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    return torch.where(length > 1e-10, q / length.clamp_min(1e-10), none).numpy()
