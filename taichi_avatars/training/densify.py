"""Density control in a run: Gaussians are added where the image asks for them, and those that do nothing removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from taichi_avatars.avatar.density import prune_mask

if TYPE_CHECKING:
    from taichi_avatars.training.run import Run


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
