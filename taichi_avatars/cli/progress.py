"""Progress of long work: a bar on a terminal, occasional lines without one. Both on stderr."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_SECONDS = 2.5  # between two lines without a terminal: with what lies between two bars, no five seconds pass in silence


class Progress:
    """Rate, figures chosen by the caller, and the time left.

    Args:
        what: the work, in words.
        total: number of units; 0 if not known yet.
        unit: what is counted, in the plural: "steps".
    """

    def __init__(self, what: str, total: int, unit: str, *, quiet: bool = False) -> None:
        self.what, self.total, self.unit, self.quiet = what, total, unit, quiet
        self.first: tuple[int, float] | None = None  # units done when counting began, and when: preparation does not count
        self.last_line = time.monotonic()
        self.bar: Bar | None = None
        self.task: TaskID | None = None
        self.over = threading.Event()

    def __enter__(self) -> Progress:
        self.last_line = time.monotonic()
        if not self.quiet and sys.stderr.isatty():
            self.bar = _bar()
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total or None, figures="")
        elif not self.quiet:
            threading.Thread(target=self._wait_aloud, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        if self.bar is not None:
            self.bar.stop()

    def _wait_aloud(self) -> None:
        """Says every few seconds that a silent stage is still running."""
        began = time.monotonic()
        while not self.over.wait(0.5):
            now = time.monotonic()
            if now - self.last_line >= LINE_SECONDS:
                self.last_line = now
                print(f"{self.what}  running for {_clock(now - began)}", file=sys.stderr, flush=True)

    def update(self, done: int, total: int | None = None, **figures: str) -> None:
        """Reports `done` finished units. Figures are shown as "name value"."""
        self.total = total or self.total
        if self.quiet:
            return
        now = time.monotonic()
        self.first = self.first or (done, now)
        rate = (done - self.first[0]) / max(now - self.first[1], 1e-9)
        speed = [f"{rate:.{_digits(rate)}f} {self.unit}/s"] if rate else []
        shown = "  ".join([*speed, *(f"{name} {value}" for name, value in figures.items())])
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done, total=self.total or None, figures=shown)
        elif now - self.last_line >= LINE_SECONDS or done == self.total:
            self.last_line = now
            left = f"  {_clock((self.total - done) / rate)} left" if rate and done < self.total else ""
            print(f"{self.what}  {done}/{self.total or '?'}  {shown}{left}", file=sys.stderr, flush=True)


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = ("{task.description}", BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
    return Bar(*columns, TimeRemainingColumn(compact=True), TextColumn("left"), console=Console(stderr=True))


def _digits(rate: float) -> int:
    return 0 if rate >= 100 else 1 if rate >= 10 else 2


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
