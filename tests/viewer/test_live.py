"""Watching a training: it shows what is trained, and changes nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import torch
from viewer.visitor import Visitor

from taichi_avatars import FlameModel
from taichi_avatars.config import TrainConfig
from taichi_avatars.scene.capture import Capture
from taichi_avatars.training.trainer import train
from taichi_avatars.viewer.live import LiveViewer

STEPS = 120


def config() -> TrainConfig:
    return TrainConfig(iterations=STEPS, interval=60, start_gaussians=10_000, seed=3)


def test_a_watched_training_is_bit_for_bit_the_same(capture: Capture, head: FlameModel, tmp_path: Path) -> None:
    alone = train(config(), capture, head, tmp_path / "alone")

    seen: dict[str, object] = {}
    steps: list[int] = []
    came = threading.Event()

    def watch(address: str) -> None:
        try:
            look(Visitor(address))
        finally:
            came.set()
            live._paused = False  # whatever failed: the training must end

    def look(visitor: Visitor) -> None:
        came.set()
        visitor.wait_for(lambda: visitor.pictures > 0, "a picture")
        visitor.click("Pause training")
        visitor.wait_for(lambda: label(visitor) == "Continue training", "it is paused")
        at = len(steps)
        time.sleep(0.5)
        seen["paused"] = len(steps) - at
        count = visitor.pictures
        visitor.set("Gaussians", "alpha")  # controls work while it is paused
        visitor.wait_for(lambda: visitor.pictures > count, "another picture")
        first = visitor.rested()
        visitor.set("Gaussians", "splats")
        visitor.rested()
        early = visitor.picture()
        visitor.click("Pause training")
        visitor.wait_for(lambda: plot(visitor, "Loss") > 3 and "val" in text(visitor), "curves and scores")
        seen.update(alpha=first, early=early, late=visitor.picture(), text=text(visitor))
        visitor.close()

    def label(visitor: Visitor) -> str:
        return visitor.controls["Pause training"]["props"]["label"]

    def plot(visitor: Visitor, title: str) -> int:
        return len(visitor.controls[title]["props"]["data"][0])

    def text(visitor: Visitor) -> str:
        return visitor.texts[-1]

    watcher: list[threading.Thread] = []

    def ready(address: str) -> None:
        watcher.append(threading.Thread(target=watch, args=(address,)))
        watcher[0].start()
        came.wait(30)

    live = LiveViewer(tmp_path / "watched", "127.0.0.1", 0, ready)

    def between(run: object) -> None:
        live.between_steps(run)  # pyright: ignore[reportArgumentType]
        steps.append(run.iteration)  # pyright: ignore[reportAttributeAccessIssue]
        if watcher[0].is_alive():
            time.sleep(0.02)  # so that there is something left to watch

    watched = train(config(), capture, head, tmp_path / "watched", live.on_event, between_steps=between)
    watcher[0].join(60)
    live.close()
    assert seen["paused"] == 0
    assert "Step" in seen["text"] and "val" in seen["text"]  # pyright: ignore[reportOperatorIssue]
    assert not np.array_equal(seen["early"], seen["late"])  # pyright: ignore[reportArgumentType]
    for name, values in alone.gaussians.parameters().items():
        assert torch.equal(values, watched.gaussians.parameters()[name]), name
    assert alone.sequence is not None and watched.sequence is not None
    assert torch.equal(alone.sequence.expr, watched.sequence.expr)


def test_nobody_who_looks_costs_nothing(capture: Capture, head: FlameModel, tmp_path: Path) -> None:
    drawn: list[float] = []
    live = LiveViewer(tmp_path / "model", "127.0.0.1", 0, lambda address: None)

    def between(run: object) -> None:
        live.between_steps(run)  # pyright: ignore[reportArgumentType]
        viewer = live._viewer
        assert viewer is not None
        drawn.append(0.0 if viewer._drawn is None else 1.0)

    train(
        TrainConfig(iterations=5, interval=5, start_gaussians=10_000), capture, head, tmp_path / "model", between_steps=between
    )
    live.close()
    assert drawn == [0.0] * 5
