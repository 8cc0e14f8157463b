"""A chart of a summary: one bar per stage, with the part spent in kernels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from taichi_avatars.files.atomic import atomic_path

SCALE = 2  # pixels per unit of all lengths below
WIDTH, MARGIN, LABEL, FIGURES = 900, 24, 190, 130
ROW, BAR, GAP = 22, 14, 30
TITLE, TEXT, SMALL = 17, 13, 11
INK, FAINT, PAPER, GRID = "#1c2430", "#6b7686", "#ffffff", "#e4e8ee"
KERNEL, OTHER = "#2f6fde", "#f0a63c"


def write_chart(path: Path | str, summaries: Mapping[str, Mapping[str, Any]]) -> None:
    """Draws summaries (see `report.summary`), each with its title, one below the other into a PNG."""
    height = 2 * MARGIN + sum(_height(values) for values in summaries.values())
    image = Image.new("RGB", (SCALE * WIDTH, SCALE * height), PAPER)
    draw = ImageDraw.Draw(image)
    y = MARGIN
    for title, values in summaries.items():
        _draw(draw, y, title, values)
        y += _height(values)
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def _height(values: Mapping[str, Any]) -> int:
    return 2 * GAP + ROW * len(values["stages"]) + GAP


def _draw(draw: ImageDraw.ImageDraw, top: int, title: str, values: Mapping[str, Any]) -> None:
    left, right = MARGIN + LABEL, WIDTH - MARGIN - FIGURES
    _text(draw, MARGIN, top, title, TITLE, INK)
    legend = f"{values['ms']:.1f} ms each, {values['launches']:.0f} launches"
    _text(draw, MARGIN, top + 24, legend, SMALL, FAINT)
    for x, colour, name in ((left + 170, KERNEL, "kernels"), (left + 250, OTHER, "torch and Python")):
        _box(draw, x, top + 27, 10, 8, colour)
        _text(draw, x + 15, top + 24, name, SMALL, FAINT)
    longest = max((stage["ms"] for stage in values["stages"]), default=1.0)
    unit = (right - left) / max(longest, 1e-9)
    first = top + 2 * GAP
    bottom = first + ROW * len(values["stages"])
    step = _round_step(longest)
    for tick in range(int(longest / step) + 1):
        x = left + tick * step * unit
        draw.line([(SCALE * x, SCALE * (first - 4)), (SCALE * x, SCALE * bottom)], fill=GRID, width=SCALE)
        _text(draw, x, bottom + 3, f"{tick * step:g}", SMALL, FAINT, anchor="ma")
    for row, stage in enumerate(values["stages"]):
        y = first + ROW * row
        kernel = min(stage["kernel_ms"], stage["ms"])
        _text(draw, left - 10, y, stage["stage"], TEXT, INK, anchor="ra")
        _box(draw, left, y + 1, kernel * unit, BAR, KERNEL)
        _box(draw, left + kernel * unit, y + 1, (stage["ms"] - kernel) * unit, BAR, OTHER)
        figures = f"{stage['ms']:.2f} ms   {100 * stage['share']:.0f}%"
        _text(draw, left + stage["ms"] * unit + 8, y, figures, TEXT, FAINT)


def _box(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, colour: str) -> None:
    if width > 0:
        draw.rectangle([SCALE * x, SCALE * y, SCALE * (x + width), SCALE * (y + height)], fill=colour)


def _text(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, colour: str, anchor: str = "la") -> None:
    draw.text((SCALE * x, SCALE * y), text, fill=colour, font=ImageFont.load_default(SCALE * size), anchor=anchor)


def _round_step(longest: float) -> float:
    """Spacing of the grid lines, milliseconds: 1, 2 or 5 times a power of ten, for about six lines."""
    power = 10.0 ** len(str(int(longest))) / 1000.0
    return next(power * factor for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if longest / (power * factor) <= 8)
