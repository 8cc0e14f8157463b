"""The viewer's tab of live motion: statistics of the source, and its processing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from taichi_avatars.head.pose import HeadPose
from taichi_avatars.motion.live.performer import Performer
from taichi_avatars.motion.live.source import Source
from taichi_avatars.viewer.panel import number

if TYPE_CHECKING:
    import viser

MOST_SMOOTHING = 4.0
TICK = 0.02  # seconds between poses if none arrives: the last one settles, or fades
SAID_EVERY = 0.5  # seconds


class LiveTab:
    """Controls of live motion, and the current pose. Everything but the clicks runs on the drawing thread.

    Attributes:
        version: changes with the pose.
        pose: the current one; None while the tab is switched off or nothing has arrived.

    Args:
        act: called with the action of a click and the browser that clicked.
        wake: called when there is something new to draw.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        performer: Performer,
        source: Source,
        act: Callable[[str, int | None], None],
        wake: Callable[[], None],
    ) -> None:
        self._performer, self._source = performer, source
        self.version = 0
        self.pose: HeadPose | None = None
        self._row: np.ndarray | None = None
        self._arrival = 0.0
        self._latencies: deque[float] = deque(maxlen=120)
        self._said = ""
        self._said_at, self._faces = time.monotonic(), 0
        self._on = gui.add_checkbox("Live", True)
        self._text = gui.add_markdown("")
        neutral = gui.add_button("This is my neutral face")
        forget = gui.add_button("Forget neutral face")
        amount = min(performer.filter.amount, MOST_SMOOTHING)
        self._smoothing = gui.add_slider("Smoothing", min=0.0, max=MOST_SMOOTHING, step=0.1, initial_value=amount)
        neutral.on_click(lambda event: act("neutral", event.client_id))
        forget.on_click(lambda event: act("forget neutral", event.client_id))
        self._on.on_update(lambda _: wake())
        performer.news = wake
        source.start(performer.take)

    @property
    def due(self) -> float | None:
        """Seconds until another pose should be drawn; None if nothing moves."""
        return None if self.pose is None else TICK

    def advance(self, now: float) -> bool:
        """Takes the pose of this moment; returns whether it has changed."""
        self._performer.filter.amount = number(self._smoothing.value, 0.0, MOST_SMOOTHING, 1.0)
        pose = self._performer.pose(now) if self._on.value is True else None
        row = None if pose is None else pose.row
        if row is None and self._row is None:
            return False
        if row is not None and self._row is not None and np.array_equal(row, self._row):
            return False
        self._row = row
        self.pose = None if row is None else self._performer.rig.pose(row)
        self.version += 1
        if pose is not None and pose.arrival > self._arrival:
            self._arrival = pose.arrival
        return True

    def drawn(self) -> None:
        """Called when a picture of the pose is finished."""
        if self._arrival:
            self._latencies.append(time.monotonic() - self._arrival)
            self._arrival = 0.0

    def calibrate(self) -> bool:
        return self._performer.calibrate()

    def forget_neutral(self) -> None:
        self._performer.forget_neutral()

    def show(self, now: float) -> None:
        """Shows statistics of the source, no more often than people can read."""
        passed = now - self._said_at
        if passed < SAID_EVERY:
            return
        traffic = self._source.traffic
        rate = (traffic.faces - self._faces) / passed
        self._said_at, self._faces = now, traffic.faces
        text = self._describe(rate)
        if text != self._said:
            self._said = self._text.content = text

    def _describe(self, rate: float) -> str:
        traffic, performer = self._source.traffic, self._performer
        if self._source.failure is not None:
            return f"**Ended**: {self._source.failure}"
        if not traffic.faces:
            lines = [f"**Waiting** for {self._source.name}"]
        else:
            lines = [f"**{rate:.0f} faces per second** from {traffic.sender or self._source.name}"]
            if self._latencies:
                lines[0] += f", in the picture after {1000.0 * median(self._latencies):.0f} ms"
        if performer.delay >= 0.001 or performer.late:
            lines.append(f"network: {1000.0 * performer.delay:.0f} ms held back, {performer.late:,} came too late")
        if traffic.refused or traffic.others or traffic.skipped:
            lines.append(f"not taken: {traffic.refused + traffic.skipped:,} broken, {traffic.others:,} of other senders")
        if performer.calibrated:
            lines.append("relative to the neutral face")
        if (remark := performer.rig.face_map.remark) is not None:
            lines.append(remark)
        return "  \n".join(lines)

    def close(self) -> None:
        self._source.close()
