"""The time of each stage of a training step or a frame.

The trainer and the ops know nothing of it: Python's profile hook reports every function call and return, and the file of a
function determines its stage. Everything inside a stage, torch's own work and kernels too, belongs to it, unless it is a
stage of its own.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import taichi_avatars
from taichi_avatars.kernels.tiles import TILE
from taichi_avatars.timing.launches import Launch, recorded_launches

ROOT = Path(taichi_avatars.__file__).parent
OTHER = "rest of Python"  # the loop, the trainer's own code, small tensor work between the stages
# Stage of a function, by the beginning of its file's path and, where it matters, by its name; the first that fits.
STAGES: list[tuple[str, str | None, str]] = [
    ("scene/images", None, "waiting for images"),
    ("training/flame_tuning", "step", "Adam"),
    ("training/flame_tuning", None, "FLAME"),
    ("head/", None, "FLAME"),
    ("ops/skinning", None, "FLAME"),
    ("ops/frames", None, "frames"),
    ("ops/binding", None, "binding"),
    ("avatar/gaussians", None, "activations"),
    ("ops/checks", None, "checks of arguments"),
    ("ops/projection", None, "projection"),
    ("ops/tiles", None, "tiles"),
    ("ops/splat", None, "splat"),
    ("ops/image_loss", None, "loss"),
    ("ops/local_losses", None, "loss"),
    ("training/losses", None, "loss"),
    ("training/optimizer", None, "Adam"),
    ("avatar/density", None, "density"),
]
BACKWARD = "backward"  # called by autograd; appended to the stage's name as a second word
AUTOGRAD = "torch's backward"  # between the stages: torch's activations, losses and sums
ORDER = list(dict.fromkeys(stage for _, name, stage in STAGES if name is None))


class Span(NamedTuple):
    """One interval in a stage. begin, end: seconds; own: without other stages inside it."""

    stage: str
    begin: float
    end: float
    own: float


@dataclass
class Recording:
    """A recording of some training steps or frames.

    Attributes:
        units: begin and end of each, seconds; a unit begins where the previous one ended.
        spans: intervals in stages, in the order in which they ended.
        launches: each with the stage that launched it.
        pairs: of a Gaussian and a pixel in the tile lists, one number per unit.
    """

    units: list[tuple[float, float]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    launches: list[tuple[Launch, str]] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)


class Recorder:
    """Records calls of one function, and everything from the end of one to the end of the next.

    Args:
        unit: the function: `trainer.step`, `Avatar.render`.
        count: calls to record.
        skip: calls before them, which warm up.

    Only the thread that enters it is recorded. On CUDA autograd runs in its own thread: its work counts as
    "torch's backward", and only its kernels are distinguished.
    """

    def __init__(self, unit: Callable[..., object], count: int, skip: int = 0) -> None:
        self.recording = Recording()
        self.skipped: list[tuple[float, float]] = []  # units that were not recorded, to measure the cost of recording
        self._unit, self._count, self._skip = inspect.unwrap(unit).__code__, count, skip
        self._known: dict[CodeType, str | None] = {}
        self._stack: list[tuple[str, FrameType, float]] = []
        self._inside: list[float] = []  # seconds of stages nested inside those on the stack
        self._began, self._warm = 0.0, False
        self._kernels = ExitStack()

    def __enter__(self) -> Recorder:
        if not self._skip:
            self._begin()
        self._began = time.perf_counter()
        sys.setprofile(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def done(self) -> bool:
        return len(self.recording.units) >= self._count

    def _begin(self) -> None:
        self._warm = True
        self._kernels.enter_context(recorded_launches(self._launched))

    def _stop(self) -> None:
        sys.setprofile(None)
        self._kernels.close()

    def _watch(self, frame: FrameType, event: str, result: Any) -> None:
        if event == "call":
            code = frame.f_code
            if code not in self._known:
                self._known[code] = stage_of(code)
            stage = self._known[code]
            if stage is not None and not (self._stack and _same(self._stack[-1][0], stage)):
                self._stack.append((stage, frame, time.perf_counter()))
                self._inside.append(0.0)
        elif event == "return":
            if self._stack and self._stack[-1][1] is frame:
                self._leave(result)
            if frame.f_code is self._unit:
                self._unit_ended()

    def _leave(self, result: Any) -> None:
        stage, _, begin = self._stack.pop()
        end = time.perf_counter()
        own = end - begin - self._inside.pop()
        if self._inside:
            self._inside[-1] += end - begin
        if self._warm:
            self.recording.spans.append(Span(stage, begin, end, own))
            if hasattr(result, "tile_end"):
                self.recording.pairs.append(int(result.tile_end[-1]) * TILE * TILE)

    def _unit_ended(self) -> None:
        (self.recording.units if self._warm else self.skipped).append((self._began, time.perf_counter()))
        if self.done:
            self._stop()
        elif not self._warm and len(self.skipped) == self._skip:
            self._begin()
        self._began = time.perf_counter()

    def _launched(self, launch: Launch) -> None:
        self.recording.launches.append((launch, self._stack[-1][0] if self._stack else OTHER))


def stage_of(code: CodeType) -> str | None:
    """The stage of a function; None if it belongs to its caller's."""
    path = Path(code.co_filename)
    if code.co_name == BACKWARD and path.name == "_tensor.py":
        return AUTOGRAD
    if not path.is_relative_to(ROOT):
        return None
    inside = path.relative_to(ROOT).as_posix()
    for begin, name, stage in STAGES:
        if inside.startswith(begin) and name in (None, code.co_name):
            return f"{stage} {BACKWARD}" if code.co_name == BACKWARD else stage
    return None


def _same(outer: str, inner: str) -> bool:
    """Whether a stage continues in a function of its own file: helpers of a backward pass are part of it."""
    return outer.removesuffix(f" {BACKWARD}") == inner.removesuffix(f" {BACKWARD}")
