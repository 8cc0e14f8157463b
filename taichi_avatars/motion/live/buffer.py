"""Puts observations back into the order and the distances in which they were sent, whatever the network made of them.

A sender's time stamps count from anywhere. The packet that travelled fastest lately ties them to our clock; how much later than
that the others come is their lateness. What is shown lags by as much as most of them are late, and by no more than LONGEST.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from typing import NamedTuple

import numpy as np

LONGEST = 0.1  # seconds that what is shown may be held back
PUNCTUAL = 0.95  # share of the packets that the buffer waits for
WINDOW = 4.0  # seconds over which lateness is measured
MOST = 512  # packets of which anything is kept
RISING, SINKING = 0.5, 0.05  # seconds of delay per second: motion slows down to half, or runs faster by a twentieth
LONGEST_GAP = 0.25  # seconds between two observations that are blended into one another
JUMP = 1.0  # seconds of lateness that mean that a sender's clock was reset
MOST_JUMPS = 3  # in JUMPS_OVER seconds: more, and such a clock is good for nothing
JUMPS_OVER = 10.0
CHECK_EVERY, WRONG_RATE = 1.0, 0.2  # seconds; how far from ours the speed of a sender's clock may be


class Observation(NamedTuple):
    """A row of numbers, when it was sent (sender's clock), and when it arrived (ours)."""

    stamp: float
    row: np.ndarray
    arrival: float


class Sample(NamedTuple):
    """What is to be shown at a moment.

    Attributes:
        row: observations blended at this moment.
        arrival: of the newest of them.
        lag: seconds since it was sent, beyond what the fastest packet took.
    """

    row: np.ndarray
    arrival: float
    lag: float


class JitterBuffer:
    """Takes rows as they arrive, gives the row of a moment. Times in seconds; not for several threads at once.

    Attributes:
        delay: that is held back now.
        late: observations that came too late to be shown.
    """

    def __init__(self) -> None:
        self.late = 0
        self.reset()

    def reset(self) -> None:
        """Forgets everything: another sender follows."""
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
        """Takes an observation.

        Args:
            stamp: None where the sender has no clock: then arrival counts.
        """
        if stamp is None or not self._trusted:
            stamp = arrival
        elif self._base is not None and not self._plausible(stamp, arrival):
            stamp = stamp if self._trusted else arrival
        self._offsets.append((arrival, arrival - stamp))
        while self._offsets[0][0] < arrival - WINDOW:
            self._offsets.popleft()
        self._base = min(offset for _, offset in self._offsets)
        if self._shown is not None and self._held and stamp <= self._held[0].stamp:  # a later one is shown already
            self.late += 1
            return
        insort(self._held, Observation(stamp, row, arrival), key=lambda one: one.stamp)
        if len(self._held) > MOST:
            del self._held[0]

    def _plausible(self, stamp: float, arrival: float) -> bool:
        """Whether a sender's clock goes on as it did; starts over where it does not, and stops believing it if that goes on."""
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
        """What is to be shown now; None before the first observation. Moments grow from call to call."""
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
