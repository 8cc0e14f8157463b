"""The viewer of a training run: it draws between two steps, on the training thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from taichi_avatars import ranks
from taichi_avatars.training.events import Evaluated, Event, Progress
from taichi_avatars.viewer.subject import subject_of
from taichi_avatars.viewer.viewer import Viewer

if TYPE_CHECKING:
    from taichi_avatars.training.run import Run

SHARE = 0.04  # fraction of the time that pictures may take while nothing moves
MOST_POINTS = 400  # of a curve; beyond that every second one is dropped
CURVES_EVERY = 1.0  # seconds


class LiveViewer:
    """Shows a run during training, can pause it, and draws its curves.

    `between_steps` and `on_event` are for `training.trainer.train`. Training with it is bit-identical to training without.

    Args:
        folder: for films.
        ready: called with the address once browsers may connect.
    """

    def __init__(self, folder: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
        self._folder, self._host, self._port, self._ready = folder, host, port, ready
        self._viewer: Viewer | None = None
        self._curves: _Curves | None = None
        self._paused = False
        self._quiet_until = 0.0

    def on_event(self, event: Event) -> None:
        if self._curves is not None and isinstance(event, Progress | Evaluated):
            self._curves.note(event)

    def between_steps(self, run: Run) -> None:
        """Draws the pictures that browsers are due; blocks while the run is paused."""
        viewer = self._viewer or self._open(run)
        if not viewer.busy:
            return
        viewer.subject.show(run.avatar)
        viewer.version = run.iteration
        while True:
            spent = viewer.turn(news=time.monotonic() >= self._quiet_until)
            if spent:
                self._quiet_until = time.monotonic() + spent * (1.0 / SHARE - 1.0)
            if self._curves is not None:
                self._curves.show(self._paused)
            if not self._paused:
                return
            viewer.wait()

    def close(self) -> None:
        if self._viewer is not None:
            self._viewer.close()

    def _open(self, run: Run) -> Viewer:
        subject = subject_of(run.avatar, run.capture, None, background=run.background, name=self._folder.name)
        self._viewer = viewer = Viewer(subject, self._folder / "viewer", host=self._host, port=self._port)
        self._curves = _Curves(viewer, self._toggle)
        self._ready(viewer.address)
        return viewer

    def _toggle(self) -> None:
        self._paused = not self._paused


class _Curves:
    """The tab of a run: progress, loss and PSNR, and the button that pauses it."""

    def __init__(self, viewer: Viewer, toggle: Callable[[], None]) -> None:
        import viser.uplot as uplot

        gui = viewer.server.gui
        self._loss: list[tuple[float, float]] = []
        self._psnr: list[tuple[float, float]] = []
        self._scores: dict[str, Evaluated] = {}
        self._last: Progress | None = None
        self._shown_at = 0.0
        with viewer.panel.tabs.add_tab("Training"):
            self._text = gui.add_markdown("")
            # Other processes would wait for this one, but not as long as a user may pause.
            self._button = None if ranks.together() else gui.add_button("Pause training")
            empty = np.zeros(1), np.zeros(1)
            plots = []
            for title, color in (("Loss", "#e06c75"), ("PSNR, dB", "#61afef")):
                series = uplot.Series(label="step"), uplot.Series(label=title, stroke=color, width=2)
                scales = {"x": uplot.Scale(time=False), "y": uplot.Scale(auto=True)}
                plots.append(gui.add_uplot(empty, series, title=title, scales=scales, height=170))
            self._plots = plots
        if self._button is not None:
            self._button.on_click(lambda _: viewer.post(toggle))

    def note(self, event: Progress | Evaluated) -> None:
        if isinstance(event, Evaluated):
            self._scores[event.split] = event
            return
        self._last = event
        for curve, value in ((self._loss, event.loss), (self._psnr, event.psnr)):
            curve.append((event.iteration, value))
            if len(curve) > MOST_POINTS:
                del curve[1:-1:2]

    def show(self, paused: bool) -> None:
        label = "Continue training" if paused else "Pause training"
        if self._button is not None and self._button.label != label:
            self._button.label = label
        now = time.monotonic()
        if self._last is None or now - self._shown_at < CURVES_EVERY:
            return
        self._shown_at = now
        step = self._last
        lines = [f"Step **{step.iteration:,}** of {step.iterations:,}, {step.gaussians:,} Gaussians, {step.seconds:.0f} s"]
        lines += [f"{split}: {score.psnr:.2f} dB at step {score.iteration:,}" for split, score in self._scores.items()]
        self._text.content = "  \n".join(lines)
        for plot, curve in zip(self._plots, (self._loss, self._psnr), strict=True):
            if len(curve) > 1:
                steps, values = zip(*curve, strict=True)
                plot.data = np.array(steps, float), np.array(values, float)
