"""Comparison with the alternatives on a CPU: plain torch. Ratios of times in the same run."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

from taichi_avatars.bench.kernels import forward_backward_of, forward_of
from taichi_avatars.bench.scenes import Scene, dense_scene
from taichi_avatars.reference import splat as reference
from taichi_avatars.timing.calls import timed

# Gaussians, width, height: plain torch keeps whole images or lists of all pairs for its backward pass, in gigabytes.
REFERENCE_SCENE = (200, 138, 200)
GSPLAT_SCENE = (10_000, 138, 200)
GSPLAT_TILE = 16


def bench_baselines(repeats: int = 3, seed: int = 0) -> list[dict[str, object]]:
    """Times the rasterizer and its torch counterparts on small scenes.

    Returns:
        per baseline "name", "gaussians", "width", "height", "forward" and "forward_backward", each with "ours_ms",
        "theirs_ms" (medians) and "ratio"; gsplat's is missing if gsplat is not installed.
    """
    rows = [_compared("reference (torch, float64)", dense_scene(*REFERENCE_SCENE, seed), _reference, repeats)]
    if importlib.util.find_spec("gsplat") is not None:
        rows.append(_compared("gsplat (torch)", dense_scene(*GSPLAT_SCENE, seed), _gsplat, repeats))
    return rows


def _compared(name: str, scene: Scene, theirs: Callable[[Scene], Tensor], repeats: int) -> dict[str, object]:
    def forward() -> None:
        with torch.no_grad():
            theirs(scene)

    def forward_backward() -> None:
        for parameter in scene[:5]:
            parameter.requires_grad_().grad = None
        theirs(scene).sum().backward()

    values: dict[str, object] = {"name": name, "gaussians": len(scene.means)}
    values |= {"width": scene.camera.width, "height": scene.camera.height}
    pairs = {"forward": (forward_of(scene), forward), "forward_backward": (forward_backward_of(scene), forward_backward)}
    for way, (call, other) in pairs.items():
        ours_ms, theirs_ms = timed(call, 3 * repeats).median_ms, timed(other, repeats).median_ms
        values[way] = {"ours_ms": ours_ms, "theirs_ms": theirs_ms, "ratio": theirs_ms / ours_ms}
    return values


def _reference(scene: Scene) -> Tensor:
    background = torch.zeros(3, dtype=torch.float64)
    parameters = [parameter.double() for parameter in scene[:5]]
    return reference.rasterize(*parameters, camera=scene.camera, background=background, degree=3)[0]


def _gsplat(scene: Scene) -> Tensor:
    """gsplat 1.5's torch functions from world Gaussians to the image (H,W,3), float32.

    Its `accumulate` composites lists of pairs with two functions of nerfacc that exist for CUDA only; here torch's
    cumulative sums replace them, and the lists are those of gsplat's 16x16 tiles.
    """
    from gsplat.cuda import _torch_impl as gsplat  # pyright: ignore[reportMissingImports]

    camera = scene.camera
    view = camera.world_to_camera[None]
    lens = torch.tensor([[[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]])
    covars, _ = gsplat._quat_scale_to_covar_preci(scene.quats, scene.scales, True, False, triu=False)
    radii, means2d, depths, conics, _ = gsplat._fully_fused_projection(
        scene.means, covars, view, lens, camera.width, camera.height
    )
    center = torch.linalg.inv(camera.world_to_camera)[:3, 3]
    colors = (gsplat._spherical_harmonics(3, scene.means - center, scene.sh) + 0.5).clamp_min(0)[None]
    tiles_x, tiles_y = -(-camera.width // GSPLAT_TILE), -(-camera.height // GSPLAT_TILE)
    with torch.no_grad():
        _, keys, ids = gsplat._isect_tiles(means2d.detach(), radii, depths.detach(), GSPLAT_TILE, tiles_x, tiles_y)
        gaussians, pixels = _pairs((keys >> 32) & ((1 << (tiles_x * tiles_y).bit_length()) - 1), ids, camera, tiles_x)
        images = torch.zeros_like(pixels)
    with mock.patch.dict(sys.modules, {"nerfacc": _scans()}):
        size = camera.width, camera.height
        image, _ = gsplat.accumulate(means2d, conics, scene.opacities[None], colors, gaussians, pixels, images, *size)
    return image[0]


def _pairs(tiles: Tensor, ids: Tensor, camera, tiles_x: int) -> tuple[Tensor, Tensor]:
    """Gaussian and pixel of every pair, pixel by pixel, front to back, from lists sorted by tile and depth."""
    inside = torch.arange(GSPLAT_TILE**2)
    x = (tiles % tiles_x * GSPLAT_TILE)[:, None] + inside % GSPLAT_TILE
    y = (tiles // tiles_x * GSPLAT_TILE)[:, None] + inside // GSPLAT_TILE
    here = (x < camera.width) & (y < camera.height)
    pixels, gaussians = (y * camera.width + x)[here], ids.long()[:, None].expand_as(x)[here]
    order = torch.sort(pixels, stable=True).indices
    return gaussians[order], pixels[order]


def _scans() -> types.ModuleType:
    """The two functions of nerfacc that gsplat calls, written in torch from their documentation."""

    def render_weight_from_alpha(alphas: Tensor, ray_indices: Tensor, n_rays: int, **_: object) -> tuple[Tensor, Tensor]:
        logs = torch.log1p(-alphas.double())
        before = torch.cumsum(logs, 0) - logs
        first = torch.searchsorted(ray_indices, ray_indices)
        transmittance = torch.exp(before - before[first]).float()
        return alphas * transmittance, transmittance

    def accumulate_along_rays(weights: Tensor, values: Tensor | None, ray_indices: Tensor, n_rays: int) -> Tensor:
        part = weights[:, None] if values is None else weights[:, None] * values
        return torch.zeros(n_rays, part.shape[1]).index_add(0, ray_indices, part)

    module = types.ModuleType("nerfacc")
    vars(module).update(render_weight_from_alpha=render_weight_from_alpha, accumulate_along_rays=accumulate_along_rays)
    return module
