"""A jitter buffer: restores the order and timing in which observations were sent.

A sender's time stamps have an arbitrary origin. The recent packet that travelled fastest ties them to our clock; the delay of
the others relative to it is their lateness. Playback lags by the lateness of most packets, but by no more than LONGEST.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from typing import NamedTuple

import numpy as np

LONGEST = 0.1  # seconds; maximum delay of playback
PUNCTUAL = 0.95  # fraction of the packets that the buffer waits for
WINDOW = 4.0  # seconds over which lateness is measured
MOST = 512  # maximum number of packets kept
RISING, SINKING = (
    0.5,
    0.05,
)  # change of delay in seconds per second: motion slows down to half speed, or runs faster by a twentieth
LONGEST_GAP = 0.25  # maximum seconds between two observations that are interpolated
JUMP = 1.0  # seconds of lateness that indicate that a sender's clock was reset
MOST_JUMPS = 3  # in JUMPS_OVER seconds: with more, a clock is unusable
JUMPS_OVER = 10.0
CHECK_EVERY, WRONG_RATE = 1.0, 0.2  # seconds; maximum drift of a sender's clock


class Observation(NamedTuple):
    """A row of numbers, when it was sent (sender's clock), and when it arrived (ours)."""

    stamp: float
    row: np.ndarray
    arrival: float


class Sample(NamedTuple):
    """The interpolated state at a moment.

    Attributes:
        row: observations interpolated at this moment.
        arrival: of the newest of them.
        lag: seconds since it was sent, beyond the travel time of the fastest packet.
    """

    row: np.ndarray
    arrival: float
    lag: float


class JitterBuffer:
    """Takes rows as they arrive, returns the row of a moment. Times in seconds; not thread-safe.

    Attributes:
        delay: the current delay.
        late: observations that came too late to be shown.
    """

    def __init__(self) -> None:
        self.late = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything, for another sender."""
        self._trusted = True
        self._jumps: deque[float] = deque(maxlen=MOST_JUMPS)
        self._restart()

    def _restart(self) -> None:
        self.delay = 0.0
        self._held: list[Observation] = []
        self._offsets: deque[tuple[float, float]] = deque(maxlen=MOST)
        self._base: float | None = None
        self._shown: float | None = None
        self._asked: float | None = None
        self._checked: tuple[float, float] | None = None

    def add(self, row: np.ndarray, stamp: float | None, arrival: float) -> None:
        """Adds an observation.

        Args:
            stamp: None if the sender has no clock; then arrival counts.
        """
        if stamp is None or not self._trusted:
            stamp = arrival
        elif self._base is not None and not self._plausible(stamp, arrival):
            stamp = stamp if self._trusted else arrival
        self._offsets.append((arrival, arrival - stamp))
        while self._offsets[0][0] < arrival - WINDOW:
            self._offsets.popleft()
        self._base = min(offset for _, offset in self._offsets)
        if self._shown is not None and self._held and stamp <= self._held[0].stamp:  # a later one has already been shown
            self.late += 1
            return
        insort(self._held, Observation(stamp, row, arrival), key=lambda one: one.stamp)
        if len(self._held) > MOST:
            del self._held[0]

    def _plausible(self, stamp: float, arrival: float) -> bool:
        """Whether a sender's clock is continuous; starts over if not, and ignores the clock if that happens repeatedly."""
        assert self._base is not None
        if abs(arrival - stamp - self._base) > JUMP:
            if len(self._jumps) == MOST_JUMPS and arrival - self._jumps[0] < JUMPS_OVER:
                self._trusted = False
            self._jumps.append(arrival)
            self._restart()
            return False
        if self._checked is None:
            self._checked = stamp, arrival
        elif (passed := arrival - self._checked[1]) > CHECK_EVERY:
            rate = (stamp - self._checked[0]) / passed
            self._checked = stamp, arrival
            if abs(rate - 1.0) > WRONG_RATE:
                self._trusted = False
                self._restart()
                return False
        return True

    def at(self, now: float) -> Sample | None:
        """The state at a moment; None before the first observation. Moments increase from call to call."""
        if self._base is None or not self._held:
            return None
        self._adapt(now)
        moment = now - self._base - self.delay
        moment = moment if self._shown is None else max(moment, self._shown)
        self._shown, self._asked = moment, now
        after = bisect_right(self._held, moment, key=lambda one: one.stamp)
        before = self._held[max(after - 1, 0)]
        following = self._held[after] if 0 < after < len(self._held) else before
        del self._held[: max(after - 1, 0)]
        gap = following.stamp - before.stamp
        share = (moment - before.stamp) / gap if 0.0 < gap < LONGEST_GAP else 0.0
        row = before.row + share * (following.row - before.row) if share > 0.0 else before.row
        newest = following if share > 0.0 else before
        return Sample(row, newest.arrival, now - self._base - max(before.stamp, min(moment, newest.stamp)))

    def _adapt(self, now: float) -> None:
        assert self._base is not None
        late = sorted(offset - self._base for _, offset in self._offsets)
        wanted = min(late[min(int(PUNCTUAL * len(late)), len(late) - 1)], LONGEST)
        step = 0.0 if self._asked is None else max(now - self._asked, 0.0)
        if wanted > self.delay:
            self.delay = min(wanted, self.delay + RISING * step)
        else:
            self.delay = max(wanted, self.delay - SINKING * step)
