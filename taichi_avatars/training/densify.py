"""Density control in a run: Gaussians are added where the image asks for them, and those that do nothing removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.density import contribution_mask, prune_mask
from taichi_avatars.scene.views import View
from taichi_avatars.training import features
from taichi_avatars.training.blending import blended

if TYPE_CHECKING:
    from taichi_avatars.training.run import Run

LOOKED_AT = 80  # views at most, from which contributions are summed


def control_density(run: Run) -> None:
    """Does what the schedule asks for after the steps done so far.

    To be called as the next step begins: a densification or a reset costs several dB, from which an avatar recovers until the
    next one. What is evaluated and saved after a step should be as far from the last one as it can be.
    """
    if run.schedule.densifies(run.iteration):
        _densify(run)
    if run.schedule.resets(run.iteration, run.config.white_background):
        run.optimizer.reset_opacities()
        run.was_reset = True
    if share := run.schedule.prunes(run.iteration, run.config.prune_share):
        worth = contributions(run.avatar, run.capture.train)
        if run.head is not None and run.optimizer.gaussians.binding is not None and run.config.lambda_features:
            worth *= features.worths(run.head).to(worth.device)[run.optimizer.gaussians.binding]
        keep = contribution_mask(run.optimizer.gaussians, worth, share)
        run.optimizer.replace(keep)
        run.density.restart(len(run.optimizer.gaussians))


def contributions(avatar: Avatar, views: Sequence[View]) -> Tensor:
    """What each Gaussian gives to the images for what it costs, (N,): its blend weights against the width of what it covers.

    The weights, alpha times transmittance, are summed over the pixels of a view; a Gaussian's width in pixels stands for the
    pairs that compositing has to look at. Their cubes are summed over views (`LOOKED_AT`, spread evenly over all): teeth, which
    few views show, count by what they give there.
    """
    gaussians = avatar.gaussians
    total = torch.zeros(len(gaussians), dtype=torch.float32, device=runtime.device())
    opacities = gaussians.opacities.detach()
    for view in views[:: -(-len(views) // LOOKED_AT)]:
        ones = torch.ones(3, view.camera.height, view.camera.width, dtype=torch.float32, device=total.device)
        (weight,), radii = blended(avatar, view, opacities, [ones])
        total += (weight[:, 0] / (1.0 + radii)) ** 3
    return total


def _densify(run: Run) -> None:
    config, optimizer, extent = run.config, run.optimizer, run.capture.extent
    keep, added = run.density.densify(
        optimizer.gaussians,
        _world_scales(run),
        extent,
        threshold=config.densify_grad_threshold,
        dense=config.percent_dense,
        limit=config.max_gaussians,
    )
    optimizer.replace(keep, added)
    optimizer.replace(prune_mask(optimizer.gaussians, _world_scales(run) if run.was_reset else None, extent))
    run.density.restart(len(optimizer.gaussians))


def _world_scales(run: Run) -> Tensor:
    """(N,3), metres, on the head at rest."""
    gaussians = run.optimizer.gaussians
    scales = gaussians.log_scales.detach().exp()
    if run.triangle_scale is None or gaussians.binding is None:
        return scales
    return scales * run.triangle_scale[gaussians.binding, None]
