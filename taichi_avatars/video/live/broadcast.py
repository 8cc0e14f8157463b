"""Renders a live avatar and passes every picture to its outputs."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.files.png import as_uint8
from taichi_avatars.motion.live.performer import Performer
from taichi_avatars.motion.live.source import Source
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.video.live.frame import LiveFrame, Output

KEPT = 4096  # pictures whose latency is kept


@dataclass
class Shown:
    """Statistics of a broadcast.

    Attributes:
        pictures: number drawn.
        seconds: duration.
        latencies: of the last pictures with a new packet, seconds from its arrival to the finished picture.
    """

    pictures: int = 0
    seconds: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def latency(self, share: float) -> float | None:
        """Quantile of the latencies, seconds."""
        return float(np.quantile(self.latencies, share)) if self.latencies else None


class Broadcast:
    """One live performance.

    Args:
        avatar: with its Gaussians on the kernels' device.
        source: not started yet.
        fps: pictures per second, at most.
    """

    def __init__(
        self,
        avatar: Avatar,
        performer: Performer,
        source: Source,
        camera: Camera,
        outputs: Sequence[Output],
        *,
        fps: float,
        background: tuple[float, float, float],
    ) -> None:
        self._avatar, self._performer, self._source = avatar, performer, source
        self._camera, self._outputs, self._period = camera, outputs, 1.0 / fps
        self._background = torch.tensor(background, dtype=torch.float32)
        self._news, self._stop = threading.Event(), threading.Event()
        self.shown = Shown()
        self._newest = 0.0  # arrival of the newest packet that was drawn

    def stop(self) -> None:
        """Stops it from another thread."""
        self._stop.set()
        self._news.set()

    def run(self, seconds: float | None = None, on_picture: Callable[[Shown], None] | None = None) -> Shown:
        """Runs until the source ends, `stop`, Ctrl-C, or for some seconds; closes the outputs."""
        failed = True
        began = time.monotonic()
        try:
            self._performer.news = self._news.set
            self._source.start(self._performer.take)
            with suppress(KeyboardInterrupt):  # the way to end it
                self._loop(began, seconds, on_picture)
            failed = False
        finally:
            self.shown.seconds = time.monotonic() - began
            self._source.close()
            self._close(failed)
        return self.shown

    def _close(self, failed: bool) -> None:
        first: BaseException | None = None
        for output in self._outputs:
            try:
                output.close(failed=failed)
            except BaseException as error:  # the others end, too
                first = first or error
        if first is not None and not failed:
            raise first

    def _loop(self, began: float, seconds: float | None, on_picture: Callable[[Shown], None] | None) -> None:
        due, last = began, None
        while not self._stop.is_set():
            if (ahead := due - time.monotonic()) > 0.0:
                self._stop.wait(ahead)
            self._news.wait(self._period)  # a face that arrives now need not wait for the next iteration
            self._news.clear()
            now = time.monotonic()
            due = max(due + self._period, now)
            last = self._draw(now, last)
            for output in self._outputs:
                output.show(last, now)
            if on_picture is not None:
                on_picture(self.shown)
            if self._source.ended or (seconds is not None and now - began >= seconds):
                return

    def _draw(self, now: float, last: LiveFrame | None) -> LiveFrame:
        """The picture of a moment; the last one if nothing has moved."""
        rig, pose = self._performer.rig, self._performer.pose(now)
        row = rig.placed(np.zeros(rig.size)) if pose is None else pose.row
        if last is not None and np.array_equal(row, last.row) and last.moving == (pose is not None):
            return last
        rendering = self._avatar.render(self._camera, flame=rig.pose(row), background=self._background)
        age = 0.0 if pose is None else now - pose.arrival
        frame = LiveFrame(as_uint8(rendering.image), rendering, self._background, row, pose is not None, age)
        self.shown.pictures += 1
        if pose is not None and pose.arrival > self._newest:
            self._newest = pose.arrival
            self.shown.latencies.append(time.monotonic() - pose.arrival)
        return frame
