"""How sharp a face is in a picture, and how it is exposed."""

from __future__ import annotations

from dataclasses import dataclass

from taichi_avatars.faces.regions import Picture, Region, cut_out

PIXELS = 112  # of the cut-out face
MIDDLE = slice(22, 90)  # its inner part: the face without hair and background
DARK, BRIGHT = 0.04, 0.97


@dataclass(frozen=True)
class Look:
    """Attributes:
    sharpness: mean change of brightness from a pixel to the mean of its neighbours, of the contrast in the face; the face
        is scaled to a fixed size before. About 0.1 where it is sharp, below 0.045 where it is blurred.
    brightness: mean, 0 to 1.
    clipped: share of pixels that are black or white.
    """

    sharpness: float
    brightness: float
    clipped: float


def look_of(picture: Picture, region: Region) -> Look:
    """Of the face in a region."""
    gray = cut_out(picture, region, PIXELS)[0].mean(0)[MIDDLE, MIDDLE]
    around = 0.25 * (gray[2:, 1:-1] + gray[:-2, 1:-1] + gray[1:-1, 2:] + gray[1:-1, :-2])
    change = float((gray[1:-1, 1:-1] - around).abs().mean())
    clipped = float(((gray < DARK) | (gray > BRIGHT)).float().mean())
    return Look(change / max(float(gray.std()), 0.02), float(gray.mean()), clipped)
