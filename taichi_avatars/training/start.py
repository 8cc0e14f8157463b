"""What a fast run begins with: Gaussians spread over the mesh, in the colours that the training images show them in.

Started this way, a run is as far after a few hundred steps as after a few thousand from one grey Gaussian per triangle: the
head is there from the first step, and density control only has to add what the mesh lacks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taichi_avatars import ops
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import C0, Gaussians
from taichi_avatars.scene.blender import HALF_SIZE
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import load_alpha, load_image
from taichi_avatars.scene.views import View
from taichi_avatars.training.blending import blended

OPACITY = 0.5  # at the start: a head is mostly opaque
SIZE = (
    0.25  # standard deviation of a Gaussian against the side of a square of its share of the surface: growing beats shrinking
)
PAINTED_FROM = 40  # images
OPAQUE = 0.9  # opacity while colours are collected, so that what lies behind is not coloured
CANDIDATES = 1_000_000  # random places that a static scene is carved from
FEWEST = 100  # places left below which carving is not believed
MOST = 0.5  # share of the places left above which the images have no background to carve by
SEEN = 0.05  # pixels in all below which a Gaussian's colour is not known


def on_surface(
    vertices: Tensor, faces: Tensor, count: int, degree: int, generator: torch.Generator, densities: Tensor | None = None
) -> Gaussians:
    """Gaussians over a surface: one per triangle, and the rest by area; at random places, all of about the same size.

    Args:
        vertices: (V,3) of the mesh at rest, metres.  faces: (F,3).
        count: number of Gaussians, at least one per triangle.
        degree: of the spherical harmonics.
        densities: (F,) how many times as many Gaussians per area a triangle gets as one of 1.
    """
    frames = ops.triangle_frames(vertices, faces)
    corners = vertices[faces]
    area = 0.5 * torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    wanted = area.double() if densities is None else area.double() * densities
    shares = (wanted.cumsum(0) / wanted.sum() * max(0, count - len(faces))).floor().long()
    more = torch.diff(shares, prepend=shares.new_zeros(1))
    triangles = torch.arange(len(faces))
    binding = torch.cat([triangles, triangles.repeat_interleave(more)])

    at = torch.rand(len(binding), 2, generator=generator, dtype=torch.float32)
    root = at[:, 0].sqrt()
    weights = torch.stack([1.0 - root, root * (1.0 - at[:, 1]), root * at[:, 1]], 1)  # even over the triangle
    weights[: len(faces)][more == 0] = 1.0 / 3.0
    away = (corners[binding] * weights[:, :, None]).sum(1) - frames.center[binding]
    side = (area / (more + 1))[binding].sqrt() / frames.scale[binding]

    one = Gaussians.on_triangles(len(faces), degree, generator)
    gaussians = Gaussians(**{name: values[binding] for name, values in one.parameters().items()}, binding=binding.int())
    gaussians.means = torch.einsum("nij,ni->nj", frames.rotation[binding], away) / frames.scale[binding, None]
    gaussians.log_scales = (SIZE * side).log()[:, None].repeat(1, 3)
    gaussians.logit_opacities = torch.full_like(gaussians.logit_opacities, OPACITY).logit()
    return gaussians


def paint(avatar: Avatar, views: Sequence[View], background: tuple[float, float, float]) -> Tensor:
    """SH band 0 (N,1,3) of the mean colour of the pixels that show each Gaussian; as it was where none does."""
    colour, weight = _shown(avatar, views, background)
    base = ((colour - 0.5) / C0)[:, None]
    return torch.where(weight[:, :, None] > SEEN, base, avatar.gaussians.sh_base.detach())


def carve(
    views: Sequence[View], count: int, degree: int, background: tuple[float, float, float], generator: torch.Generator
) -> Gaussians | None:
    """Gaussians on the surface of what the opacity of the images leaves of the cube that Blender's scenes lie in.

    Args:
        views: RGBA images from all sides.
        count: about as many Gaussians.
        degree: of the spherical harmonics.

    Returns:
        Painted Gaussians; None where images have no opacity or are opaque all over, or nothing is left: a scene elsewhere.
    """
    places = (2.0 * torch.rand(CANDIDATES, 3, generator=generator, dtype=torch.float32) - 1.0) * HALF_SIZE
    for view in views:
        alpha = load_alpha(view)
        if alpha is None:
            return None
        places = places[~_shown_empty(places, view.camera, alpha)]
    if len(places) > MOST * CANDIDATES:
        return None
    colour = torch.full_like(places, 0.5)
    for _ in range(2):  # what is behind the surface goes; then what remains is as wide as its neighbours are apart
        if len(places) < FEWEST:
            return None
        colour, weight = _shown(Avatar(Gaussians.from_points(places, colour, degree)), views, background)
        seen = weight[:, 0] > SEEN
        places, colour = places[seen][:count], colour[seen][:count]
    gaussians = Gaussians.from_points(places, colour, degree)
    gaussians.logit_opacities = torch.full((len(places),), OPACITY, dtype=torch.float32).logit()
    return gaussians


def _shown_empty(places: Tensor, camera: Camera, alpha: Tensor) -> Tensor:
    """(P,) bool: whether a camera sees nothing, to a pixel around, where a place (P,3) is; not where it does not look."""
    opaque = torch.nn.functional.max_pool2d(alpha[None], 3, 1, 1)[0] > 0
    at = places @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    depth = at[:, 2].clamp_min(camera.near)
    column = (camera.fx * at[:, 0] / depth + camera.cx).floor().long()
    row = (camera.fy * at[:, 1] / depth + camera.cy).floor().long()
    inside = (at[:, 2] > camera.near) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    return inside & ~opaque[row.clamp(0, camera.height - 1), column.clamp(0, camera.width - 1)]


def _shown(avatar: Avatar, views: Sequence[View], background: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Mean colour (N,3) of the pixels that show each Gaussian, and their number (N,1).

    The weight of a pixel is what the Gaussian contributes to it, see `blended`.
    """
    gaussians = avatar.gaussians
    device = gaussians.means.device
    opacities = torch.full((len(gaussians),), OPAQUE, device=device, dtype=torch.float32)
    colour, weight = (
        torch.zeros(len(gaussians), 3, device=device, dtype=torch.float32),
        torch.zeros(len(gaussians), 1, device=device, dtype=torch.float32),
    )
    for view in views:
        truth = load_image(view, background).to(device)
        (of_truth, of_one), _ = blended(avatar, view, opacities, [truth, torch.ones_like(truth)])
        colour += of_truth
        weight += of_one[:, :1]
    return colour / weight.clamp_min(SEEN), weight
