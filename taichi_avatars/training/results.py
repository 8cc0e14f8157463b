"""What a run gives beside its steps: events, scores of held-out views, the avatar and its checkpoints, reports of failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from taichi_avatars import ranks
from taichi_avatars.avatar.iterations import PLY_NAME, iteration_folder
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.scene.views import View
from taichi_avatars.training import checkpoint, diagnosis, exchange
from taichi_avatars.training.description import describe
from taichi_avatars.training.events import Evaluated, Event, Progress, Resumed, Saved
from taichi_avatars.training.log import RunLog
from taichi_avatars.training.run import Run

REPORT_EVERY = 10  # steps
EVALUATED_VIEWS = 32  # of each split during training; `eval` takes all


class Results:
    """Everything that a run writes and tells. Of several processes the first one writes and tells.

    Args:
        model: folder for the avatar, log and checkpoints.
        on_event: told of every event that is logged.
        resumed: the event with which a run begins that does not start from scratch.
    """

    def __init__(self, run: Run, model: Path, on_event: Callable[[Event], None] | None, resumed: Resumed | None) -> None:
        self._run, self._model, self._on_event = run, model, on_event
        self._log = RunLog(model, resume=resumed is not None) if ranks.is_first() else None
        self._began, self._first, self._psnr = time.perf_counter(), run.iteration, 0.0
        self._resumed = resumed

    def begin(self) -> None:
        """Before the first step: describes the run; writes an avatar whose run was killed just before that."""
        run = self._run
        if ranks.is_first():
            describe(self._model, run.config, run.capture)
        if self._resumed is not None:
            self._tell(self._resumed)
            if run.iteration >= run.config.iterations and not (self._avatar_folder() / PLY_NAME).is_file():
                self.save()

    def after_step(self, loss: float, error: float) -> None:
        """Reports, evaluates and saves where that is due. loss, error: of the step; the second is its mean squared error."""
        run, config = self._run, self._run.config
        self._psnr = _running(self._psnr, error, run.iteration - self._first)
        if run.iteration % REPORT_EVERY == 0 or run.iteration == config.iterations:
            count, seconds = len(run.optimizer.gaussians), time.perf_counter() - self._began
            self._tell(Progress(run.iteration, config.iterations, loss, self._psnr, count, seconds))
        if self._due(config.test_iterations):
            self._evaluate()
        if self._due(config.save_iterations):
            exchange.check_sameness(run)
            self.save()
        if run.iteration in config.checkpoint_iterations and ranks.is_first():
            checkpoint.save(self._model / checkpoint.KEPT.format(run.iteration), run)

    def save(self) -> None:
        """Writes the checkpoint and the avatar as they are now."""
        if not ranks.is_first():
            return
        diagnosis.check_parameters(self._run)
        checkpoint.save_last(self._model, self._run)  # before the avatar: without a state to resume from it is a dead end
        ply = self._run.avatar.save(self._avatar_folder(), full_flame_param=self._run.config.full_flame_param)
        self._tell(Saved(self._run.iteration, ply))

    def failure(self, problem: diagnosis.StepError | diagnosis.ElsewhereError) -> UserError:
        """The error with which the run ends after a step that failed, in all of its processes; its inputs are kept."""
        if isinstance(problem, diagnosis.ElsewhereError):
            return exchange.agreed(None)
        report = diagnosis.keep_report(self._model, self._run, problem)
        return exchange.agreed(
            UserError(
                f"{problem} at step {self._run.iteration} ({problem.view.name}); nothing of this step was saved, its inputs "
                f"are in {report}: check this image, lower the learning rates, or resume from the last checkpoint with --resume"
            )
        )

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _tell(self, event: Event) -> None:
        if self._log is None:
            return
        self._log(event)
        if self._on_event is not None:
            self._on_event(event)

    def _due(self, steps: list[int]) -> bool:
        """Whether something that is asked for after these steps, or else every interval, is due now; at the end always."""
        now, config = self._run.iteration, self._run.config
        return now == config.iterations or (now in steps if steps else now % config.interval == 0)

    def _evaluate(self) -> None:
        run = self._run
        for split in ("val", "test"):
            views: list[View] = getattr(run.capture, split)
            if views:
                some = views[:: -(-len(views) // EVALUATED_VIEWS)]
                mean = evaluate(run.avatar, some, run.background).mean
                self._tell(Evaluated(run.iteration, split, mean["PSNR"], mean["SSIM"]))

    def _avatar_folder(self) -> Path:
        return iteration_folder(self._model, self._run.iteration)


def _running(psnr: float, error: float, count: int) -> float:
    """Mean over about the last 100 of `count` steps."""
    latest = -10.0 * torch.tensor(max(error, 1e-10), dtype=torch.float32).log10().item()
    share = max(1.0 / count, 0.01)
    return psnr + share * (latest - psnr)
