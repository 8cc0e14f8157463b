"""The one-euro filter (Casiez, Roussel, Vogel 2012): strong while something rests, without lag while it moves."""

from __future__ import annotations

import math

import numpy as np

CUTOFF = 3.0  # Hz at rest
BETA = 5.0  # Hz more for each unit (a whole weight, a radian) per second
SPEED_CUTOFF = 5.0  # Hz, for the speed: with the paper's 1 Hz it notices a beginning movement too late
LONGEST_STEP = 0.25  # seconds after which nothing is left of what was before


class OneEuro:
    """Smooths a row of values, each by its own speed.

    Args:
        amount: 1 as described; 2 cuts off at half the frequency, 0 leaves values as they are.
    """

    def __init__(self, amount: float) -> None:
        self.amount = amount
        self._value: np.ndarray | None = None
        self._speed = np.zeros(0)
        self._time = 0.0

    def reset(self) -> None:
        self._value = None

    def __call__(self, values: np.ndarray, now: float) -> np.ndarray:
        """The smoothed values; times grow from call to call, seconds."""
        step = now - self._time
        if self.amount <= 0.0 or self._value is None or step > LONGEST_STEP or len(values) != len(self._value):
            self._value, self._speed, self._time = values, np.zeros_like(values), now
            return values
        if step <= 0.0:
            return self._value
        speed = (values - self._value) / step
        self._speed = self._speed + _share(SPEED_CUTOFF, step) * (speed - self._speed)
        cutoff = CUTOFF / self.amount + BETA * np.abs(self._speed)
        self._value = self._value + _share(cutoff, step) * (values - self._value)
        self._time = now
        return self._value


def _share(cutoff: np.ndarray | float, step: float) -> np.ndarray | float:
    """Of the new value that a low-pass filter of this frequency lets through after a step of time."""
    part = 2.0 * math.pi * cutoff * step
    return part / (part + 1.0)
