"""Progress of long work, reported to whatever the caller provides. The command line provides a progress bar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Bar(Protocol):
    """Receives the progress of one stage of the work."""

    def update(self, done: int, total: int | None = None, **figures: str) -> None: ...


OpenBar = Callable[[str, int, str], AbstractContextManager[Bar]]  # description, number of units (0 if not known yet), unit
