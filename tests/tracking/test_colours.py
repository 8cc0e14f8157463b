"""How much of a pixel a head covers, decided by colours: on a disc whose coverage is known."""

import numpy as np
import pytest

from taichi_avatars.faces.regions import Region
from taichi_avatars.tracking import colours
from taichi_avatars.tracking.colours import FADE, Zones, alpha_by_colour

SIZE, CELLS, RADIUS = 240, 80, 70.0
CELL = 0.002  # metres of a cell, which is three pixels wide
FRONT, BACK = np.array([190.0, 140.0, 110.0]), np.array([60.0, 110.0, 90.0])


def away(count: int) -> np.ndarray:
    """Distance from the middle of the picture, in its pixels."""
    at = (np.arange(count) + 0.5) * SIZE / count - 0.5 * SIZE
    return np.hypot(at[:, None], at)


def scene(front, back, too_large: float, neck: bool = False):
    """The true coverage of a disc; its picture; zones and segmentation of a disc whose radius is too large by some pixels."""
    covered = (RADIUS + 0.5 - away(SIZE)).clip(0, 1).astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=3.0, size=(SIZE, SIZE, 3))
    picture = covered[..., None] * front + (1 - covered[..., None]) * back + noise
    distance = (away(CELLS) - RADIUS - too_large) * CELL * CELLS / SIZE
    zones = Zones(distance < -0.012, distance > 0.012, distance, np.full(distance.shape, neck), CELL)
    segmented = (1 / (1 + np.exp((away(256) - RADIUS - too_large) / 2))).astype(np.float32)
    region = Region(0.5 * SIZE, 0.5 * SIZE, SIZE)
    return covered, alpha_by_colour(picture.clip(0, 255).astype(np.uint8), zones, segmented, region)


@pytest.mark.parametrize("too_large", [-4.0, 0.0, 6.0])
def test_the_edge_is_found_where_the_colours_change(too_large):
    covered, alpha = scene(FRONT, BACK, too_large)
    edge = abs(away(SIZE) - RADIUS) < 12
    assert np.abs(alpha - covered)[edge].mean() < 0.03
    assert alpha[away(SIZE) < RADIUS - 2].min() > 0.9 and alpha[away(SIZE) > RADIUS + 2].max() < 0.1


def test_where_colours_are_alike_silhouette_and_segmentation_decide():
    _, alpha = scene(FRONT, FRONT, 6.0)
    half = np.sqrt((alpha > 0.5).sum() / np.pi)  # of a disc: its radius
    three_pixels = CELL * CELLS / SIZE
    assert RADIUS + 6.0 <= half < RADIUS + 6.0 + 2 * FADE / three_pixels
    assert np.ptp(alpha[abs(away(SIZE) - RADIUS - 2.0) < 0.7]) < 0.05  # as smooth as those are


def test_shade_at_the_neck_is_no_collar(monkeypatch):
    """The outermost 15 pixels of the disc lie in shade, before clothes that are nearer to their lightness than to their hue."""
    shade = np.where(away(SIZE) > RADIUS - 15, 0.7, 1.0)[..., None]
    ring = (away(SIZE) > RADIUS - 10) & (away(SIZE) < RADIUS - 3)
    clothes = np.array([90.0, 80.0, 70.0])
    _, neck = scene(shade * FRONT, clothes, 0.0, neck=True)
    monkeypatch.setattr(colours, "SHADED", 1.0)
    _, without = scene(shade * FRONT, clothes, 0.0, neck=True)
    assert neck[ring].mean() > 0.7 and without[ring].mean() < 0.5
    assert neck[away(SIZE) > RADIUS + 3].max() < 0.1
