"""The one-euro filter (Casiez, Roussel, Vogel 2012): strong at rest, without lag in motion."""

from __future__ import annotations

import math

import numpy as np

CUTOFF = 3.0  # Hz at rest
BETA = 5.0  # Hz more for each unit (a whole weight, a radian) per second
SPEED_CUTOFF = 5.0  # Hz, for the speed: with the paper's 1 Hz it detects the onset of a movement too late
LONGEST_STEP = 0.25  # seconds after which the history is dropped


class OneEuro:
    """Smooths a row of values, each by its own speed.

    Args:
        amount: 1 as described; 2 halves the cutoff frequency, 0 leaves values unchanged.
    """

    def __init__(self, amount: float) -> None:
        self.amount = amount
        self._value: np.ndarray | None = None
        self._speed = np.zeros(0)
        self._time = 0.0

    def reset(self) -> None:
        self._value = None

    def __call__(self, values: np.ndarray, now: float) -> np.ndarray:
        """The smoothed values; times increase from call to call, seconds."""
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
    """Weight of the new value in a low-pass filter with this cutoff after a time step."""
    part = 2.0 * math.pi * cutoff * step
    return part / (part + 1.0)
