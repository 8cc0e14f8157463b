"""Timing of a recording: SMPTE time codes, and resampling of rows to an even grid of frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import NamedTuple

import numpy as np

from taichi_avatars.errors import UserError

RATES = (24, 25, 30, 48, 50, 60, 100, 120)  # frames per second of a time code
UNKNOWN_RATE = 60  # of the Live Link Face app, if the codes do not tell
DROPPED = {30: 2, 60: 4, 120: 8}  # numbers that drop-frame codes skip in nine minutes of ten, to keep clock time
NTSC = 1000.0 / 1001.0  # frames counted by a drop-frame code
HALF_A_DAY, DAY = 43_200, 86_400  # seconds
LATE = 1.0  # seconds: a row that comes after one that much younger belongs to another recording
MOST_FRAMES = 1_000_000  # four hours at 60 a second


class Code(NamedTuple):
    """A time code: seconds of the day, the frame in its second with its fraction, and whether it is written as drop-frame."""

    second: int
    frame: float
    drops: bool


def parse(text: str, where: str) -> Code:
    """A time code "HH:MM:SS:FF.part"; a semicolon or a dot before the frame marks a drop-frame code.

    Raises:
        UserError: if it is not one; `where` locates it.
    """
    drops = ";" in text
    parts = text.replace(";", ":").split(":")
    try:
        hours, minutes, seconds, frame = parts
        return Code(3600 * int(hours) + 60 * int(minutes) + int(seconds), float(frame.replace(",", ".")), drops)
    except ValueError:
        raise UserError(f"{where}: Timecode {text!r} is not HH:MM:SS:FF; export it again") from None


def seconds(codes: Sequence[Code]) -> list[float]:
    """Times of time codes, from the first on; rows that share a code are spread over its frame. They may cross midnight."""
    rate = frame_rate(codes)
    drops = DROPPED.get(rate, 0) if any(code.drops for code in codes) or _skips(codes, rate) else 0
    counted: list[float] = []  # frames
    days = 0
    for before, code in pairwise([codes[0], *codes]):
        days += before.second - code.second > HALF_A_DAY
        minutes = code.second // 60 + days * DAY // 60
        number = (code.second + days * DAY) * rate + code.frame - drops * (minutes - minutes // 10)
        counted.append(number)
    spread: list[float] = []
    step = _step(counted)
    for value, rows in groupby(counted):
        shared = len(list(rows))
        spread += [value + step * k / shared for k in range(shared)]
    true_rate = rate * NTSC if drops else rate
    return [(frame - spread[0]) / true_rate for frame in spread]


def frame_rate(codes: Sequence[Code]) -> int:
    """Frames per second of the codes: in a recording that crosses a full second, the step across it equals all others."""
    highest = max(code.frame for code in codes)
    possible = [rate for rate in RATES if highest < rate]
    if not possible or len({code.second for code in codes}) == 1:
        return UNKNOWN_RATE
    step = _step([code.second * possible[0] + code.frame for code in codes])
    over = [(a.frame, b.frame) for a, b in pairwise(codes) if b.second == a.second + 1]
    if not over or not step:
        return possible[0]
    return min(possible, key=lambda rate: median(abs(rate - before + after - step) for before, after in over))


def _step(frames: Sequence[float]) -> float:
    """The most common distance of a row from the next, frames; 0 if there is none."""
    steps = sorted(b - a for a, b in pairwise(frames) if b > a)
    return steps[(len(steps) - 1) // 2] if steps else 0.0


def _skips(codes: Sequence[Code], rate: int) -> bool:
    """Whether every minute that rows cross without a gap lacks the numbers that a drop-frame code skips."""
    left_out = DROPPED.get(rate)
    if left_out is None:
        return False
    passed = [(a, b) for a, b in pairwise(codes) if b.second == a.second + 1 and b.second % 60 == 0 and b.second % 600]
    return bool(passed) and all(a.frame >= rate - 1 and left_out <= b.frame < left_out + 1 for a, b in passed)


class Even(NamedTuple):
    """Rows on an even grid.

    Attributes:
        values: (T,C).
        fps: frames per second.
        filled: how many of the T frames were not recorded and are interpolated.
    """

    values: np.ndarray
    fps: float
    filled: int


def _in_order(times: np.ndarray) -> np.ndarray:
    """The order (N,) of rows in which times go back only where a new recording begins."""
    starts = np.flatnonzero(np.diff(times) <= -LATE) + 1
    recordings = np.split(np.arange(len(times)), starts)
    return np.concatenate([rows[np.argsort(times[rows], kind="stable")] for rows in recordings])


def evenly(times: Sequence[float], values: np.ndarray, default: float) -> Even:
    """Rows (N,C) at their times, resampled to evenly spaced frames over the elapsed time.

    A row goes to the frame that is nearest in time. A frame without one, as a hot phone drops them, is interpolated linearly.
    If every frame has its row, the rows are unchanged.

    Args:
        times: seconds. A step back of a second or more begins a new recording, which is appended to the previous one; rows that
            are less late are sorted in.
        default: frames per second if the times do not tell.
    """
    if not len(times):
        return Even(values, default, 0)
    order = _in_order(np.asarray(times, np.float64))
    values = values[order]
    steps = np.diff(np.asarray(times, np.float64)[order])
    forward = np.sort(steps[steps > 0])
    if not len(forward):
        return Even(values, default, 0)
    step = float(forward[(len(forward) - 1) // 2])
    steps = np.where(steps < 0, step, steps)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    frames = float(np.rint(steps / step).sum())
    step = at[-1] / frames if frames else step
    fps = min(120.0, max(1.0, round(1.0 / step, 3)))
    slots = np.rint(at * fps).astype(np.int64)
    count = int(slots[-1]) + 1
    if count == len(values) and bool((np.diff(slots) == 1).all()):
        return Even(values, fps, 0)
    if count > MOST_FRAMES:
        raise UserError(f"its rows lie {at[-1]:.0f} seconds apart, which makes {count} frames; split the recording")
    even = np.stack([np.interp(np.arange(count) / fps, at, column) for column in values.T], 1)
    even[slots] = values
    return Even(even.astype(values.dtype), fps, count - len(np.unique(slots)))
