"""Which views and expressions a video shows, whether it is sharp and well lit, and what else to film."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taichi_avatars.faces.following import FaceOverTime

SURE = 0.8  # presence
# Degrees to either side, up and down, that an avatar should be seen from; the share of the way that counts as there.
WIDE_YAW, WIDE_PITCH, ENOUGH = 30.0, 12.0, 0.7
BLURRED, DARK, BRIGHT, CLIPPED = 0.045, 0.18, 0.85, 0.25
SMALL_FACE = 120.0  # pixels from forehead to chin
SHORT = 10.0  # seconds
FEW_FACES = 0.8  # share of pictures
# What makes a face move, and how far it should (the blendshape network's strengths, over the whole video).
EXPRESSIONS = {
    "an open mouth": ("jawOpen", 0.35),
    "a smile": ("mouthSmileLeft", 0.4),
    "rounded lips (o, u)": ("mouthPucker", 0.4),
    "closed eyes": ("eyeBlinkLeft", 0.4),
    "raised brows": ("browOuterUpLeft", 0.15),
}


@dataclass(frozen=True)
class Coverage:
    """What T pictures of a face show.

    Attributes:
        seconds: length.
        share: of the pictures, that show the face.
        face: height of the face, pixels.
        yaw: degrees to the person's right (negative) and left; pitch: up (negative) and down. Smallest and largest.
        expressions: by name, how strong they get.
        sharpness, brightness, clipped: medians, see `faces.look`; blurred: share of the pictures.
        lacks: what to film in addition, a line each.
    """

    seconds: float
    share: float
    face: float
    yaw: tuple[float, float]
    pitch: tuple[float, float]
    expressions: dict[str, float]
    sharpness: float
    brightness: float
    clipped: float
    blurred: float
    lacks: list[str]


def turn_angles(rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yaw (to the person's left) and pitch (downwards) in degrees (T,) of rotations (T,3,3) in a world that the camera looks
    into along -z."""
    forward = rotations[:, :, 2]
    return np.degrees(np.arctan2(forward[:, 0], forward[:, 2])), np.degrees(np.arcsin(-forward[:, 1].clip(-1, 1)))


def coverage(
    seen: FaceOverTime, seconds: float, face: float, yaw: np.ndarray, pitch: np.ndarray, strengths: dict[str, np.ndarray]
) -> Coverage:
    """Sums up what was seen.

    Args:
        seconds: length of the video.
        face: height of the face, pixels.
        yaw, pitch: (T,) degrees, NaN where there is no face.
        strengths: (T,) of the network's blendshapes by name, NaN likewise.
    """
    there = seen.presence >= SURE
    reached = {name: _high(strengths[unit][there]) for name, (unit, _) in EXPRESSIONS.items()}
    result = Coverage(
        seconds=round(seconds, 2),
        share=round(float(there.mean()), 3),
        face=round(face, 1),
        yaw=_range(yaw[there]),
        pitch=_range(pitch[there]),
        expressions=reached,
        sharpness=_median(seen.sharpness[there]),
        brightness=_median(seen.brightness[there]),
        clipped=_median(seen.clipped[there]),
        blurred=round(float((seen.sharpness[there] < BLURRED).mean()) if there.any() else 1.0, 3),
        lacks=[],
    )
    result.lacks.extend(missing(result))
    return result


def missing(c: Coverage) -> list[str]:
    """What to film in addition, or instead, in plain words."""
    wanted: list[tuple[bool, str]] = [
        (
            c.share < FEW_FACES,
            f"the face is seen in {c.share:.0%} of the pictures only: keep it in view, and no hand before it",
        ),
        (c.face < SMALL_FACE, f"the face is {c.face:.0f} pixels high: come closer, or film at a higher resolution"),
        (c.seconds < SHORT, f"it lasts {c.seconds:.0f} seconds: film about 30"),
        (
            -c.yaw[0] < ENOUGH * WIDE_YAW,
            f"the head turns to its right by {max(-c.yaw[0], 0):.0f} degrees only: turn slowly to 45",
        ),
        (c.yaw[1] < ENOUGH * WIDE_YAW, f"the head turns to its left by {max(c.yaw[1], 0):.0f} degrees only: turn slowly to 45"),
        (c.pitch[1] - c.pitch[0] < 2 * ENOUGH * WIDE_PITCH, "the head hardly nods: look slowly up and down by 20 degrees"),
        (c.blurred > 0.3, f"{c.blurred:.0%} of the pictures are blurred: more light, slower movements, a clean lens"),
        (c.brightness < DARK, "the face is dark: turn it towards a window or a lamp"),
        (c.brightness > BRIGHT or c.clipped > CLIPPED, "parts of the face are black or white: softer light, less of it"),
    ]
    wanted += [(c.expressions[name] < enough, f"not seen: {name}") for name, (_, enough) in EXPRESSIONS.items()]
    return [text for lacking, text in wanted if lacking]


def _range(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return 0.0, 0.0
    low, high = np.quantile(values, [0.01, 0.99])
    return round(float(low), 1), round(float(high), 1)


def _high(values: np.ndarray) -> float:
    return round(float(np.quantile(values, 0.98)), 3) if len(values) else 0.0


def _median(values: np.ndarray) -> float:
    return round(float(np.median(values)), 3) if len(values) else 0.0
