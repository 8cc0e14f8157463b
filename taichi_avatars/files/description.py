"""What was found under a path, and what is wrong with it: what `info` collects and every reader can add to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from taichi_avatars.errors import UserError


@dataclass
class Description:
    """What was found under a path.

    Attributes:
        kind: what it is, in words.
        facts: name -> value, in the order in which a reader wants them.
        notes: what is worth knowing and needs nothing done.
        problems: one line each: file, what is wrong, what to do. Whole means there are none.
    """

    path: str
    kind: str
    facts: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def problem(self, where: Path | str, what: str, remedy: str) -> None:
        """Records what is wrong with a file, and what to do about it."""
        self.problems.append(f"{where}: {what}; {remedy}")

    def add(self, error: UserError) -> None:
        """Records the error of something that was tried."""
        self.problems.append(str(error))

    def check(self, check: Callable[[], object]) -> None:
        """Calls `check` and records the error that it raises."""
        try:
            check()
        except UserError as problem:
            self.add(problem)
