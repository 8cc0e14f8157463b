"""The description of a path and its problems, collected by `info`; every reader can add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from taichi_avatars.errors import UserError


@dataclass
class Description:
    """The description of a path.

    Attributes:
        kind: what it is, in words.
        facts: name -> value, in order of display.
        notes: worth knowing, but no action needed.
        problems: one line each: file, what is wrong, what to do. "Whole" means that there are none.
    """

    path: str
    kind: str
    facts: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def problem(self, where: Path | str, what: str, remedy: str) -> None:
        """Records a problem of a file, and its remedy."""
        self.problems.append(f"{where}: {what}; {remedy}")

    def add(self, error: UserError) -> None:
        """Records a caught error."""
        self.problems.append(str(error))

    def check(self, check: Callable[[], object]) -> None:
        """Calls `check` and records the error that it raises."""
        try:
            check()
        except UserError as problem:
            self.add(problem)
