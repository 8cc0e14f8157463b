"""Training: one readable path from a captured image to a step of Adam, and the loop around it. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from taichi_avatars import ops, ranks, runtime
from taichi_avatars.avatar.avatar import Avatar, to_world
from taichi_avatars.avatar.density import observation
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.crops import boxes
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.scene.capture import Capture
from taichi_avatars.scene.images import over
from taichi_avatars.scene.views import View
from taichi_avatars.training import checkpoint, diagnosis, exchange, losses
from taichi_avatars.training.densify import control_density
from taichi_avatars.training.events import Event, Resumed
from taichi_avatars.training.folder import locked
from taichi_avatars.training.interrupts import HalfStepInterrupt, held_back, noted, sigterm_as_ctrl_c
from taichi_avatars.training.results import Results
from taichi_avatars.training.run import Run


def train(
    config: TrainConfig,
    capture: Capture,
    head: FlameModel | None,
    model: Path | str,
    on_event: Callable[[Event], None] | None = None,
    *,
    between_steps: Callable[[Run], None] | None = None,
    resume: bool = False,
    start_checkpoint: Path | str | None = None,
) -> Avatar:
    """Trains an avatar (or, without a head, a static scene) and writes it into a model folder.

    Inside `ranks.started` the processes share the views of each step; all end with the same avatar, the first one writes it.

    Args:
        model: folder for the avatar, log and checkpoint.
        on_event: told of progress, evaluations and saves; of the first process.
        between_steps: called before every step with the run, which it may look at but not change: a viewer.
        resume: continue from the folder's checkpoint.
        start_checkpoint: continue from this one, which `checkpoint_iterations` kept, perhaps in another folder.

    Returns:
        The trained avatar.

    Raises:
        UserError: where capture or checkpoint cannot be used, a file cannot be written, or the loss is no longer finite.
        KeyboardInterrupt: passed on after the step was finished and everything was saved; at once if it comes twice.
    """
    model = Path(model)
    run = Run(config, capture, head)
    try:
        with locked(model) if ranks.is_first() else nullcontext(), sigterm_as_ctrl_c():
            begun = None
            if not resume and start_checkpoint is None:
                run.paint()
            elif ranks.is_first():
                path = checkpoint.load_last(model, run) if resume else checkpoint.load(Path(start_checkpoint or ""), run)
                begun = Resumed(path, run.iteration)
            checkpoint.share(run)
            results = Results(run, model, on_event, begun)
            with noted() if ranks.together() else nullcontext([]) as run.asked_to_stop:
                _loop(run, results, between_steps)
    finally:
        run.stream.close()
    return run.avatar


def _loop(run: Run, results: Results, between_steps: Callable[[Run], None] | None) -> None:
    try:
        results.begin()
        while run.iteration < run.config.iterations:
            if between_steps is not None:
                between_steps(run)
            batch = [next(run.stream) for _ in range(run.config.views_per_step)]
            with held_back():
                loss, error = step(run, batch)
            if run.stops:
                raise KeyboardInterrupt
            results.after_step(loss, error)
    except (diagnosis.StepError, diagnosis.ElsewhereError) as problem:
        raise results.failure(problem) from problem
    except HalfStepInterrupt:
        raise
    except KeyboardInterrupt:
        results.save()
        raise
    finally:
        results.close()


def step(run: Run, batch: Sequence[tuple[View, Tensor | None]]) -> tuple[float, float]:
    """One training step on some views. Returns the means of their losses and mean squared errors.

    Args:
        batch: views and their images, which other processes have where there is none.

    Raises:
        diagnosis.StepError: where a view's loss or gradient is not finite, or an op refuses what it is given.
        diagnosis.ElsewhereError: where that happened in another process alone.
    """
    config, schedule = run.config, run.schedule
    control_density(run)
    run.iteration += 1
    own, problem = exchange.StepSums(), None
    for view, truth in batch:
        crop = None
        if run.lpips is not None and schedule.perceives(run.iteration):
            crop = losses.random_crop(view.camera.height, view.camera.width, run.generator)  # of all views in all processes
        if truth is None or problem is not None:
            continue
        try:
            own += _view_gradients(run, view, truth.to(runtime.device()), crop, 1.0 / len(batch))
        except UserError as error:
            problem = diagnosis.StepError(view, truth, error)
    failed, run.stops = ranks.anywhere(problem is not None, bool(run.asked_to_stop))
    if failed:
        raise problem or diagnosis.ElsewhereError

    # the sums over all views -> Adam, and what density control will ask
    seen, flame_gradients = exchange.of_all_views(run, [view for view, _ in batch], own)
    if run.tuner is not None:
        run.tuner.step(flame_gradients, run.iteration / config.iterations)
    if seen.observed is not None:
        run.density.observe(seen.observed)
    rates = config.position_lr_init, config.position_lr_final
    share = schedule.rate_share(run.iteration, config.lr_final_share)
    run.optimizer.step(schedule.position_lr(run.iteration, *rates) * run.capture.extent, share)
    return seen.loss / len(batch), seen.error / len(batch)


def _view_gradients(run: Run, view: View, truth: Tensor, crop: losses.Crop | None, share: float) -> exchange.StepSums:
    """From one view to gradients, which are added to those of the step's other views. share: of its loss in the step's."""
    config, schedule = run.config, run.schedule
    gaussians = run.optimizer.gaussians

    # camera + timestep -> FLAME parameters -> vertices -> triangle frames -> Gaussians in the world
    if run.tuner is not None and run.head is not None and run.shaped is not None and gaussians.binding is not None:
        assert view.timestep is not None
        row = run.tuner.sequence.row(view.timestep)
        pose = run.tuner.pose(row)
        mesh = run.head.pose(run.shaped, pose)
        vertices, offset = mesh.vertices, pose.dynamic_offset
    else:
        row, vertices, offset = 0, None, None
    world, frames = to_world(gaussians, vertices, run.head)

    # -> splats -> image -> loss
    background = run.behind() if len(truth) == 4 else run.background
    truth = over(truth, background)
    sh, degree = (gaussians.sh_base, gaussians.sh_rest), schedule.sh_degree(run.iteration, config.sh_degree)
    out = ops.rasterize(
        *world, gaussians.opacities, sh, camera=view.camera, background=background, sh_degree=degree
    )  # fmt: skip
    features = () if vertices is None else _features(run, view, vertices)
    forward = losses.Forward(out, None if frames is None else frames.scale, row, offset, features)
    terms = losses.loss_terms(run, forward, truth, crop)
    loss = torch.stack(list(terms.values())).sum()
    value = loss.item()
    diagnosis.check_loss(value, terms)

    # -> the same stages backwards
    loss.backward(torch.full_like(loss, share))
    diagnosis.check_gradients(run)
    observed = None
    if run.iteration < schedule.densify_until:
        assert out.mean2d_grad is not None
        observed = observation(out.mean2d_grad / share, out.radii)  # every view counts as if it were alone
    return exchange.StepSums(value, (out.image.detach() - truth).square().mean().item(), observed)


def _features(run: Run, view: View, vertices: Tensor) -> Sequence[losses.Crop]:
    """Mouth and eyes in a view, where they have a weight of their own."""
    if run.head is None or not run.config.lambda_features:
        return ()
    return list(boxes(run.head, vertices.detach(), view.camera).values())
