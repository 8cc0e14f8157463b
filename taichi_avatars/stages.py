"""Stages shared by the demonstration and `create`: training, scores, output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bars import OpenBar
from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.comparison import Row
from taichi_avatars.evaluation.lpips import Lpips
from taichi_avatars.evaluation.scores import Scores, evaluate, of_features
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.scene.capture import Capture
from taichi_avatars.scene.images import Background
from taichi_avatars.scene.views import View
from taichi_avatars.training.events import Event, Progress
from taichi_avatars.training.trainer import train


def train_shown(
    config: TrainConfig,
    capture: Capture,
    head: FlameModel,
    model: Path,
    open_bar: OpenBar,
    *,
    what: str = "train",
    resume: bool = False,
) -> Avatar:
    """Trains with a bar. what: its name.  resume: see `training.trainer.train`."""
    with open_bar(what, config.iterations, "steps") as bar:

        def on_event(event: Event) -> None:
            if isinstance(event, Progress):
                bar.update(event.iteration, loss=f"{event.loss:.4f}", PSNR=f"{event.psnr:.1f}", Gaussians=f"{event.gaussians}")

        return train(config, capture, head, model, on_event, resume=resume)


def score_shown(
    held: Mapping[str, tuple[Avatar, Sequence[View]]],
    background: Background,
    open_bar: OpenBar,
    perceptual: Sequence[Lpips] = (),
) -> dict[str, Scores]:
    """Measures avatars on views, each pair under its name, with one bar for all."""
    scores: dict[str, Scores] = {}
    with open_bar("evaluate", sum(len(views) for _, views in held.values()), "views") as bar:
        done = 0

        def on_view(*_: object) -> None:
            nonlocal done
            done += 1
            bar.update(done)

        for name, (avatar, views) in held.items():
            crops = of_features(avatar)
            scores[name] = evaluate(avatar, views, background, perceptual=perceptual, crops=crops, on_view=on_view)
    return scores


def lower_case(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics under their names in JSON output."""
    return {metric.lower(): value for metric, value in metrics.items()}


def rows_of(views: Sequence[View], kind: str, places: Sequence[float]) -> list[Row]:
    """Rows of a comparison: views at these positions, as fractions of their number."""
    return [Row(views[int(at * len(views))], kind) for at in places]
