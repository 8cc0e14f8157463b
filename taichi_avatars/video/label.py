"""A label on films: that their content is synthetic."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHARE, SMALLEST = 0.035, 11  # height of the letters: fraction of the image's, and minimum in pixels
PAPER, INK = (0, 0, 0, 150), (255, 255, 255, 255)


def labelled(picture: np.ndarray, text: str | None) -> np.ndarray:
    """(H,W,3) uint8 with a line of text in the lower left corner; the image unchanged if there is none."""
    if not text:
        return picture
    image = Image.fromarray(picture)
    font = ImageFont.load_default(max(SMALLEST, round(SHARE * image.height)))
    pen = ImageDraw.Draw(image, "RGBA")
    left, top, right, bottom = pen.textbbox((0, 0), text, font)
    gap = round(0.4 * (bottom - top)) + 1
    x, y = gap, image.height - (bottom - top) - 3 * gap
    pen.rectangle((x, y, x + right - left + 2 * gap, y + bottom - top + 2 * gap), PAPER)
    pen.text((x + gap - left, y + gap - top), text, INK, font)
    return np.asarray(image)
