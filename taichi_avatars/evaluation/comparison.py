"""A comparison image of an avatar: held-out views in rows; ground truth, avatar, error and mesh side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.overlay import shaded_head
from taichi_avatars.evaluation.scores import psnr
from taichi_avatars.files.png import as_uint8, write_png
from taichi_avatars.scene.images import Background, load_image
from taichi_avatars.scene.views import View

COLUMNS = ("ground truth", "avatar", "error", "mesh")
FULL_ERROR = 0.25  # mean absolute error of a pixel's channels at the end of the colour map
# Colours of the error from none to FULL_ERROR: black, violet, red, orange, pale yellow (evenly spaced).
HEAT = ((8, 8, 14), (72, 20, 104), (176, 42, 92), (240, 112, 48), (252, 190, 60), (252, 252, 190))
GAP, MARGIN, HEADING, FOOTING, CAPTION = 10, 22, 40, 44, 150
PAPER, INK, FAINT = (250, 250, 248), (28, 30, 34), (120, 124, 130)


@dataclass(frozen=True)
class Row:
    """One row of the image: a held-out view and a description of what it is held out for."""

    view: View
    kind: str


@torch.no_grad()
def write_comparison(path: Path | str, avatar: Avatar, rows: Sequence[Row], background: Background) -> Path:
    """Renders held-out views beside their images and writes the labelled comparison.

    Args:
        path: a .png.
        rows: views of a capture; all images are shown at the size of the first.

    Raises:
        UserError: if there are no rows, or an image cannot be read.
    """
    if not rows:
        raise UserError(f"{path}: there are no held-out views to compare with; the capture needs a val or a test split")
    width, height = rows[0].view.camera.width, rows[0].view.camera.height
    columns = COLUMNS if avatar.head is not None else COLUMNS[:3]
    size = (
        2 * MARGIN + CAPTION + len(columns) * (width + GAP) - GAP,
        MARGIN + HEADING + len(rows) * (height + GAP) - GAP + FOOTING + MARGIN,
    )
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    for column, title in enumerate(columns):
        x = MARGIN + CAPTION + column * (width + GAP) + width // 2
        pen.text((x, MARGIN + 10), title, INK, _font(20), anchor="mm")
    for index, row in enumerate(rows):
        y = MARGIN + HEADING + index * (height + GAP)
        pictures, value = _pictures(avatar, row.view, load_image(row.view, background), background)
        for column, picture in enumerate(pictures):
            image = Image.fromarray(as_uint8(picture)).resize((width, height))
            page.paste(image, (MARGIN + CAPTION + column * (width + GAP), y))
        _caption(pen, row, value, y + height // 2)
    _scale(pen, size, len(columns) * (width + GAP) - GAP)
    return write_png(path, np.asarray(page))


def error_colors(error: Tensor) -> np.ndarray:
    """Mean absolute errors (H,W) as colours (H,W,3) uint8."""
    stops = np.asarray(HEAT, dtype=np.float64)
    at = (error.clamp(0.0, FULL_ERROR) / FULL_ERROR).double().numpy() * (len(stops) - 1)
    return np.stack([np.interp(at, np.arange(len(stops)), stops[:, k]) for k in range(3)], -1).round().astype(np.uint8)


def _pictures(avatar: Avatar, view: View, truth: Tensor, background: Background) -> tuple[list[Tensor | np.ndarray], float]:
    """The images of a row, and the avatar's PSNR."""
    behind = (float(background[0]), float(background[1]), float(background[2]))
    image = avatar.render(view.camera, timestep=view.timestep, background=behind).image.clamp(0.0, 1.0)
    pictures: list[Tensor | np.ndarray] = [truth, image, error_colors((image - truth).abs().mean(0))]
    if avatar.head is not None:
        pictures.append(shaded_head(avatar, view.camera, view.timestep, background)[0])
    return pictures, psnr(image, truth)


def _caption(pen: ImageDraw.ImageDraw, row: Row, value: float, y: int) -> None:
    when = "" if row.view.timestep is None else f"timestep {row.view.timestep}"
    lines = [(row.kind, 19, INK), (f"{value:.1f} dB", 26, INK), (f"camera {row.view.camera_id}", 15, FAINT), (when, 15, FAINT)]
    y -= 52
    for text, points, color in lines:
        for part in text.split("\n"):
            pen.text((MARGIN, y), part, color, _font(points), anchor="lm")
            y += round(1.4 * points)


def _scale(pen: ImageDraw.ImageDraw, size: tuple[int, int], span: int) -> None:
    """Legend of the error's colours."""
    width, height = 220, 12
    x, y = MARGIN + CAPTION + span - width - 40, size[1] - MARGIN - height - 8
    ramp = error_colors(torch.linspace(0.0, FULL_ERROR, width, dtype=torch.float32)[None].repeat(height, 1))
    for column in range(width):
        red, green, blue = ramp[0, column].tolist()
        pen.line([(x + column, y), (x + column, y + height)], (red, green, blue))
    pen.text((x - 10, y + height // 2), "mean absolute error  0", FAINT, _font(15), anchor="rm")
    pen.text((x + width + 10, y + height // 2), f"{FULL_ERROR:g}", FAINT, _font(15), anchor="lm")


def _font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(points)
