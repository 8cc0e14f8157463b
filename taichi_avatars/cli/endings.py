"""The summary at the end of the commands that do everything: facts in two columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Names in bold and the fact for each; paths may contain what rich would take for markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="bold"), Text(value))
    return grid


def decibels(value: float | None) -> str:
    """A PSNR, or a dash."""
    return "-" if value is None else f"{value:.2f} dB"
