"""Everything between a source and an image: faces arrive on one thread, and another asks for the pose of a moment."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from taichi_avatars.motion.live.buffer import JitterBuffer
from taichi_avatars.motion.live.face import Face
from taichi_avatars.motion.live.rig import FaceRig
from taichi_avatars.motion.live.smoothing import OneEuro

PATIENCE = 0.5  # seconds without a face before it begins to fade
FADING, RETURNING = 1.0, 0.2  # seconds of the fade to the neutral face and back
NEUTRAL_OVER = 0.5  # seconds whose mean is taken as the neutral face
SETTLING = 1.0  # seconds after a new sender's start when --relative does so


@dataclass(frozen=True, eq=False)
class LivePose:
    """A pose to be drawn.

    Attributes:
        row: of the avatar at its own place, see `rig.FaceRig`.
        arrival: of the newest packet in it (time.monotonic).
        lag: seconds behind the sender, beyond the travel time of the fastest packet.
        presence: 1 while there is a face, 0 once it has faded.
    """

    row: np.ndarray
    arrival: float
    lag: float
    presence: float


class Performer:
    """Takes faces, returns poses. `take` and `pose` may be called from different threads.

    Args:
        smoothing: see `OneEuro`.
        relative: whether a new sender's first second is its neutral face.

    Attributes:
        news: called after every face, on the thread that took it.
    """

    def __init__(self, rig: FaceRig, *, smoothing: float = 1.0, relative: bool = False) -> None:
        self.rig, self._relative = rig, relative
        self.news: Callable[[], None] = lambda: None
        self.filter = OneEuro(smoothing)
        self._lock = threading.Lock()
        self._buffer = JitterBuffer()
        self._weights = True
        self._seen: float | None = None  # when a face was last seen
        self._began: float | None = None  # when this sender's first face came
        self._neutral: np.ndarray | None = None
        self._settled = False
        self._recent: deque[tuple[float, np.ndarray]] = deque(maxlen=256)
        self._presence, self._asked = 0.0, 0.0
        self._last: tuple[np.ndarray, float, float] | None = None

    @property
    def delay(self) -> float:
        """Current delay of the jitter buffer, seconds."""
        return self._buffer.delay

    @property
    def late(self) -> int:
        """Observations that came too late to be shown."""
        return self._buffer.late

    @property
    def calibrated(self) -> bool:
        """Whether a neutral face is subtracted."""
        return self._neutral is not None

    def take(self, face: Face, arrival: float, new_sender: bool) -> None:
        """Takes an observation from a source."""
        row = self.rig.row(face) if face.found else None
        weights = face.flame is None
        with self._lock:
            if new_sender or (face.found and weights != self._weights):
                self._buffer.reset()
                self._began, self._settled = None, False
                if face.found:
                    self._weights = weights
                if new_sender:
                    self._neutral = None
                self._recent.clear()
            if row is not None:
                self._seen = arrival
                self._began = arrival if self._began is None else self._began
                self._buffer.add(row, face.time, arrival)
        self.news()

    def calibrate(self) -> bool:
        """Makes the face of the last half second the neutral one; False if there was none."""
        with self._lock:
            return self._calibrate()

    def forget_neutral(self) -> None:
        """Drops the neutral face again."""
        with self._lock:
            self._neutral = None

    def _calibrate(self) -> bool:
        if not self._recent:
            return False
        last = self._recent[-1][0]
        self._neutral = np.mean([row for moment, row in self._recent if moment > last - NEUTRAL_OVER], axis=0)
        return True

    def pose(self, now: float) -> LivePose | None:
        """The pose of a moment; None before the first face. Moments increase from call to call."""
        with self._lock:
            sample = self._buffer.at(now)
            if sample is not None:
                row = self.filter(sample.row, now)
                self._last = row, sample.arrival, sample.lag
                self._recent.append((now, row))
            if self._last is None:
                return None
            row, arrival, lag = self._last
            there = self._seen is not None and now - self._seen < PATIENCE
            if self._relative and there and not self._settled and self._began is not None and now - self._began > SETTLING:
                self._settled = self._calibrate()
            neutral, weights = self._neutral, self._weights
            step = max(now - self._asked, 0.0)
            self._asked = now
            change = step / RETURNING if there else -step / FADING
            self._presence = min(max(self._presence + change, 0.0), 1.0)
            presence = self._presence
        row = self.rig.finished(row, neutral, weights=weights)
        return LivePose(self.rig.placed(presence * row), arrival, lag, presence)
