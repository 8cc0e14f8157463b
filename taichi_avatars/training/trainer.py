"""Training: one readable path from a captured image to a step of Adam, and the loop around it. Nothing here prints."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from taichi_avatars import ops, ranks, runtime
from taichi_avatars.avatar.avatar import PLY_NAME, Avatar, to_world
from taichi_avatars.avatar.density import DensityControl, observation
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.lpips import load_lpips
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.laplacian import Neighbours
from taichi_avatars.scene.capture import Capture
from taichi_avatars.scene.images import DEFAULT_CACHE_BYTES, ImageStream
from taichi_avatars.scene.views import View
from taichi_avatars.training import checkpoint, diagnosis, exchange, losses
from taichi_avatars.training.densify import control_density
from taichi_avatars.training.description import describe
from taichi_avatars.training.events import Evaluated, Event, Progress, Resumed, Saved
from taichi_avatars.training.flame_tuning import FlameTuner
from taichi_avatars.training.folder import locked
from taichi_avatars.training.interrupts import held_back, noted, sigterm_as_ctrl_c
from taichi_avatars.training.log import RunLog
from taichi_avatars.training.optimizer import GaussianAdam
from taichi_avatars.training.schedule import Schedule
from taichi_avatars.training.start import PAINTED_FROM, carve, paint, spread

REPORT_EVERY = 10  # steps
EVALUATED_VIEWS = 32  # of each split during training; `eval` takes all


class Run:
    """Everything that a training run changes.

    Attributes:
        iteration: steps done.
        optimizer: the Gaussians and their Adam.
        triangle_scale: (F,) metres per triangle unit, of the head at rest; None for an unbound scene.
        tuner: FLAME parameters of the timesteps; None for an unbound scene.
        density: what was collected since the last densification.
        lpips: the perceptual loss's network, where that has a weight.
        was_reset: whether opacities have been reset, after which huge Gaussians are pruned too.
        asked_to_stop: signals that have come to this process; where it is one of several.
        stops: whether the last step is one after which all processes stop.
    """

    def __init__(self, config: TrainConfig, capture: Capture, head: FlameModel | None) -> None:
        if capture.points is not None:
            config = config.for_static_scene()
        config = config.for_processes(ranks.size())
        self.config, self.capture, self.head = config, capture, head
        self.schedule = Schedule.of(config)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.background = (1.0, 1.0, 1.0) if config.white_background else (0.0, 0.0, 0.0)
        self.stream = ImageStream(
            capture.train,
            self.background,
            seed=config.seed,
            cache_bytes=DEFAULT_CACHE_BYTES // ranks.on_this_machine(),
            part=ranks.rank(),
            parts=ranks.size(),
        )
        self.tuner: FlameTuner | None = None
        self.rest, self.neighbours, self.triangle_scale = None, None, None
        if head is not None and capture.flame is not None:
            timesteps = {view.timestep for view in capture.train}
            visits = config.iterations * config.views_per_step / len(timesteps)
            self.tuner = FlameTuner(_sequence(capture, config), config, visits, head.num_vertices)
            self.neighbours = Neighbours(head.faces, head.num_vertices) if config.tunes_offset else None
            self.rest = self.tuner.sequence.rest(head)
            vertices = head.pose(self.rest).vertices
            self.triangle_scale = ops.triangle_frames(vertices, head.faces).scale.to(runtime.device())
            if config.schedule == "fast":
                gaussians = spread(vertices, head.faces, _begins_with(config), config.sh_degree, self.generator)
            else:
                gaussians = Gaussians.on_triangles(head.num_faces, config.sh_degree, self.generator)
        elif capture.points is not None:
            gaussians = Gaussians.from_points(*capture.points, config.sh_degree)
        else:
            raise UserError(f"{capture.path}: has neither FLAME parameters nor points to start from")
        self.lpips = load_lpips("alex") if config.lambda_perceptual else None
        self.iteration = 0
        self.was_reset = False
        self.asked_to_stop: list[int] = []
        self.stops = False
        self._begin_with(gaussians)

    def _begin_with(self, gaussians: Gaussians) -> None:
        self.optimizer = GaussianAdam(gaussians, self.config)
        self.density = DensityControl(len(gaussians), self.generator)

    def paint(self) -> None:
        """Gives the Gaussians of a fast run what some of its images tell: colours, and in a Blender scene their places."""
        config, views = self.config, self.capture.train
        if config.schedule != "fast" or self.capture.kind == "colmap":
            return
        some = torch.randperm(len(views), generator=self.generator)[:PAINTED_FROM].tolist()
        shown = [views[i] for i in some]
        if self.head is not None:
            self.optimizer.gaussians.sh_base.data.copy_(paint(self.avatar, shown, self.background))
        elif carved := carve(shown, _begins_with(config), config.sh_degree, self.background, self.generator):
            self._begin_with(carved)

    @property
    def avatar(self) -> Avatar:
        sequence = self.tuner.sequence if self.tuner else None
        return Avatar(self.optimizer.gaussians, self.head, sequence, self.capture.origin)


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
        resume: go on from the folder's checkpoint.
        start_checkpoint: go on from this one, which `checkpoint_iterations` kept, perhaps in another folder.

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
            log = RunLog(model, resume=begun is not None) if ranks.is_first() else None
            with noted() if ranks.together() else nullcontext([]) as run.asked_to_stop:
                _loop(run, model, log, on_event, between_steps, begun)
    finally:
        run.stream.close()
    return run.avatar


def _loop(
    run: Run,
    model: Path,
    log: RunLog | None,
    on_event: Callable[[Event], None] | None,
    between_steps: Callable[[Run], None] | None,
    begun: Resumed | None,
) -> None:
    config = run.config

    def tell(event: Event) -> None:
        if log is None:
            return
        log(event)
        if on_event is not None:
            on_event(event)

    began, first, psnr, whole = time.perf_counter(), run.iteration, 0.0, True
    try:
        if ranks.is_first():
            describe(model, config, run.capture)
        if begun is not None:
            tell(begun)
            if run.iteration >= config.iterations and not (_avatar_folder(run, model) / PLY_NAME).is_file():
                _save(run, model, tell)  # killed between the last checkpoint and its avatar
        while run.iteration < config.iterations:
            if between_steps is not None:
                between_steps(run)
            batch = [next(run.stream) for _ in range(config.views_per_step)]
            with held_back():
                whole = False
                try:
                    loss, error = step(run, batch)
                except diagnosis.StepError as problem:  # of a loss, a gradient, or what an op was given
                    raise exchange.agreed(_reported(model, run, problem)) from problem
                except diagnosis.ElsewhereError:
                    raise exchange.agreed(None) from None
                whole = True
            if run.stops:
                raise KeyboardInterrupt
            psnr = _running(psnr, error, run.iteration - first)
            if run.iteration % REPORT_EVERY == 0 or run.iteration == config.iterations:
                count = len(run.optimizer.gaussians)
                tell(Progress(run.iteration, config.iterations, loss, psnr, count, time.perf_counter() - began))
            if _due(run, config.test_iterations):
                _evaluate(run, tell)
            if _due(run, config.save_iterations):
                exchange.check_sameness(run)
                _save(run, model, tell)
            if run.iteration in config.checkpoint_iterations and ranks.is_first():
                checkpoint.save(model / checkpoint.KEPT.format(run.iteration), run)
    except KeyboardInterrupt:
        if whole:  # half a step could neither be used nor gone on from
            _save(run, model, tell)
        raise
    finally:
        if log is not None:
            log.close()


def _reported(model: Path, run: Run, problem: diagnosis.StepError) -> UserError:
    """What went wrong in a step, where, and what was kept of it."""
    report = diagnosis.keep_report(model, run, problem)
    return UserError(
        f"{problem} at step {run.iteration} ({problem.view.name}); nothing of this step was saved, its inputs are in {report}: "
        "check this image, lower the learning rates, or go on from the last checkpoint with --resume"
    )


def _due(run: Run, steps: list[int]) -> bool:
    """Whether something that is asked for after these steps, or else every interval, is to be done now; at last always."""
    now, config = run.iteration, run.config
    return now == config.iterations or (now in steps if steps else now % config.interval == 0)


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
    own, problem = exchange.Sight(), None
    for view, truth in batch:
        crop = None
        if run.lpips is not None and schedule.perceives(run.iteration):
            crop = losses.random_crop(view.camera.height, view.camera.width, run.generator)  # of all views in all processes
        if truth is None or problem is not None:
            continue
        try:
            own += _look(run, view, truth.to(runtime.device()), crop, 1.0 / len(batch))
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


def _look(run: Run, view: View, truth: Tensor, crop: losses.Crop | None, share: float) -> exchange.Sight:
    """From one view to gradients, which are added to those of the step's other views. share: of its loss in the step's."""
    config, schedule = run.config, run.schedule
    gaussians = run.optimizer.gaussians

    # camera + timestep -> FLAME parameters -> vertices -> triangle frames -> Gaussians in the world
    if run.tuner is not None and run.head is not None and run.rest is not None and gaussians.binding is not None:
        assert view.timestep is not None
        row = run.tuner.sequence.row(view.timestep)
        pose = run.tuner.pose(row)
        mesh = run.head.pose(
            run.rest, pose.expr, pose.rotation, pose.neck, pose.jaw, pose.eyes, pose.translation, pose.dynamic_offset
        )  # fmt: skip
        vertices, offset = mesh.vertices, pose.dynamic_offset
    else:
        row, vertices, offset = 0, None, None
    world, frames = to_world(gaussians, vertices, run.head)

    # -> splats -> image -> loss
    sh, degree = (gaussians.sh_base, gaussians.sh_rest), schedule.sh_degree(run.iteration, config.sh_degree)
    out = ops.rasterize(
        *world, gaussians.opacities, sh, camera=view.camera, background=run.background, sh_degree=degree
    )  # fmt: skip
    terms = {"the image loss": losses.image_loss(out.image, truth, config)}
    if frames is not None:
        terms["the position and scale loss"] = losses.binding_loss(gaussians, frames.scale, out.radii, config)
    if config.lambda_opacity:
        terms["the opacity loss"] = losses.opacity_loss(gaussians, config)
    if run.lpips is not None and crop is not None:
        terms["the perceptual loss"] = losses.perceptual_loss(run.lpips, out.image, truth, config, crop)
    if run.neighbours is not None and run.tuner is not None and offset is not None:
        cost = losses.offset_loss(offset, run.tuner.offsets_beside(row), run.neighbours, config)
        terms["the loss of the dynamic offset"] = cost.to(out.image.device)
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
    return exchange.Sight(value, (out.image.detach() - truth).square().mean().item(), observed)


def _begins_with(config: TrainConfig) -> int:
    return min(config.start_gaussians, config.max_gaussians)


def _sequence(capture: Capture, config: TrainConfig):
    from dataclasses import replace

    assert capture.flame is not None
    return replace(capture.flame, static_offset=None) if config.disable_flame_static_offset else capture.flame


def _running(psnr: float, error: float, count: int) -> float:
    """Mean over about the last 100 of `count` steps."""
    latest = -10.0 * torch.tensor(max(error, 1e-10)).log10().item()
    share = max(1.0 / count, 0.01)
    return psnr + share * (latest - psnr)


def _evaluate(run: Run, tell: Callable[[Event], None]) -> None:
    for split in ("val", "test"):
        views: list[View] = getattr(run.capture, split)
        if views:
            spread = views[:: -(-len(views) // EVALUATED_VIEWS)]
            mean = evaluate(run.avatar, spread, run.background).mean
            tell(Evaluated(run.iteration, split, mean["PSNR"], mean["SSIM"]))


def _save(run: Run, model: Path, tell: Callable[[Event], None]) -> None:
    if not ranks.is_first():
        return
    diagnosis.check_parameters(run)
    checkpoint.save_last(model, run)  # before the avatar: without a state to go on from, an avatar is a dead end
    ply = run.avatar.save(_avatar_folder(run, model), full_flame_param=run.config.full_flame_param)
    tell(Saved(run.iteration, ply))


def _avatar_folder(run: Run, model: Path) -> Path:
    return model / "point_cloud" / f"iteration_{run.iteration}"
