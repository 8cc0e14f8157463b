"""What the commands that tell a whole story end with: facts in two columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Names in bold, and what there is to say of each; paths may hold what rich would take for markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in rows:
        grid.add_row(Text(name, style="bold"), Text(value))
    return grid


def decibels(value: float | None) -> str:
    """A PSNR, or that there is none."""
    return "-" if value is None else f"{value:.2f} dB"
