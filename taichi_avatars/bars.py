"""How long work shows how far it has come: whoever starts it says what a bar is. The command line has one of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Bar(Protocol):
    """Is told how far one stage of the work has come."""

    def update(self, done: int, total: int | None = None, **figures: str) -> None: ...


OpenBar = Callable[[str, int, str], AbstractContextManager[Bar]]  # what, how many or 0 where not known yet, of which unit
