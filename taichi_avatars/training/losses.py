"""The loss of one step: image, and what keeps Gaussians near their triangles and small (GaussianAvatars, eq. 5 to 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.lpips import Lpips
from taichi_avatars.ops import Rendering, l1_and_ssim
from taichi_avatars.ops.laplacian import Neighbours, laplacian
from taichi_avatars.ops.local_losses import Free, local_losses
from taichi_avatars.training.run import Run

CROP = 128  # pixels along each side
Crop = tuple[slice, slice, slice]  # of (3,H,W)


class Forward(NamedTuple):
    """What the forward pass of one view gave.

    Attributes:
        out: image (3,H,W), radii (N,) and what else the rasterizer gives.
        triangle_scale: (F,) metres per triangle unit; None for an unbound scene.
        row: of the timestep in the run's table of FLAME parameters; 0 for an unbound scene.
        dynamic_offset: (V,3) of the timestep, metres; None where there is none.
        features: where the picture shows mouth and eyes; none where they have no weight of their own.
    """

    out: Rendering
    triangle_scale: Tensor | None
    row: int
    dynamic_offset: Tensor | None
    features: Sequence[Crop] = ()


def loss_terms(run: Run, forward: Forward, truth: Tensor, crop: Crop | None) -> dict[str, Tensor]:
    """The terms of one view's loss by name; the loss is their sum. A new term is added here.

    Args:
        truth: the view's image (3,H,W).
        crop: where the perceptual loss looks; None in a step without it.
    """
    config, gaussians, image = run.config, run.optimizer.gaussians, forward.out.image
    terms = {"the image loss": image_loss(image, truth, config)}
    if forward.triangle_scale is not None:
        terms["the position and scale loss"] = binding_loss(gaussians, forward.triangle_scale, forward.out.radii, config)
    if config.lambda_opacity:
        terms["the opacity loss"] = opacity_loss(gaussians, config)
    if forward.features and config.lambda_features:
        terms["the loss of mouth and eyes"] = features_loss(image, truth, config, forward.features)
    if run.lpips is not None and crop is not None:
        crops = [crop, *forward.features]
        terms["the perceptual loss"] = torch.stack(
            [perceptual_loss(run.lpips, image, truth, config, part) for part in crops]
        ).sum()  # fmt: skip
    if run.neighbours is not None and run.tuner is not None and forward.dynamic_offset is not None:
        beside = run.tuner.offsets_beside(forward.row)
        terms["the loss of the dynamic offset"] = offset_loss(
            forward.dynamic_offset, beside, run.neighbours, config
        ).to(image.device)  # fmt: skip
    return terms


def image_loss(image: Tensor, truth: Tensor, config: TrainConfig) -> Tensor:
    """(1 - lambda) L1 + lambda (1 - SSIM) of two images (3,H,W)."""
    l1, ssim = l1_and_ssim(image, truth)
    return (1.0 - config.lambda_dssim) * l1 + config.lambda_dssim * (1.0 - ssim)


def features_loss(image: Tensor, truth: Tensor, config: TrainConfig, features: Sequence[Crop]) -> Tensor:
    """The image loss on crops of two images (3,H,W) again, weighted as if each of their pixels counted that much more."""
    whole = image.shape[1] * image.shape[2]
    parts = []
    for crop in features:
        seen, true_part = image[crop].contiguous(), truth[crop].contiguous()
        parts.append(image_loss(seen, true_part, config) * (seen.shape[1] * seen.shape[2] / whole))
    return config.lambda_features * torch.stack(parts).sum()


def binding_loss(gaussians: Gaussians, triangle_scale: Tensor, radii: Tensor, config: TrainConfig) -> Tensor:
    """What it costs the visible Gaussians to lie far from their triangles and to be large beside them.

    Args:
        triangle_scale: (F,) metres per triangle unit.  radii: (N,) int32 pixels, 0 where not visible.
    """
    assert gaussians.binding is not None
    free = Free(config.threshold_xyz, config.threshold_scale, config.metric_xyz, config.metric_scale)
    position, scale = local_losses(
        gaussians.means, gaussians.log_scales, gaussians.binding, triangle_scale.detach(), radii, free
    )  # fmt: skip
    return config.lambda_xyz * position + config.lambda_scale * scale


def opacity_loss(gaussians: Gaussians, config: TrainConfig) -> Tensor:
    """What semi-transparency costs: 0 for opacities of 0 and 1, most at 1/2."""
    opacities = gaussians.opacities
    return config.lambda_opacity * (4.0 * opacities * (1.0 - opacities)).mean()


def random_crop(height: int, width: int, generator: torch.Generator) -> Crop:
    """A crop of an image of this size at a random place."""
    top, left = (int(torch.randint(max(size - CROP, 0) + 1, (), generator=generator)) for size in (height, width))
    return slice(None), slice(top, top + CROP), slice(left, left + CROP)


def perceptual_loss(lpips: Lpips, image: Tensor, truth: Tensor, config: TrainConfig, crop: Crop) -> Tensor:
    """LPIPS of two images (3,H,W) on a crop."""
    return config.lambda_perceptual * lpips.distance(image[crop].cpu(), truth[crop].cpu()).to(image.device)


def offset_loss(offset: Tensor, beside: Tensor, neighbours: Neighbours, config: TrainConfig) -> Tensor:
    """What a dynamic offset costs: its length, its change over time, its roughness over the mesh. 0 where it is 0.

    Args:
        offset: (V,3) of the step's timestep, metres.
        beside: (n,V,3) of the timesteps around it, as they are.
        neighbours: of the head's vertices.
    """
    around = torch.cat([offset[None], beside])
    # norm() has the gradient 0 at 0, where a square root has none
    deviation = (around - around.mean(0)).norm(dim=0).mean() / len(around) ** 0.5
    loss = config.lambda_dynamic_offset * offset.norm(dim=1).mean()
    loss = loss + config.lambda_dynamic_offset_std * deviation
    return loss + config.lambda_laplacian * laplacian(offset, neighbours).norm(dim=1).mean()
