"""Whether a video shows one person, by the shape of the bones of the face in each of its scenes."""

from __future__ import annotations

import numpy as np

from taichi_avatars.faces.following import FaceOverTime
from taichi_avatars.faces.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER
from taichi_avatars.tracking.start import RIGID

# Root mean square distance of two scenes' median shapes, of the distance between the eyes. Between halves of eleven videos
# 0.009 to 0.020; between people above this in three of five pairs.
ANOTHER = 0.035
FEWEST = 8  # pictures of a scene by which a face is judged
SAMPLES = 40


def stranger(seen: FaceOverTime, scene: np.ndarray, sure: float) -> int | None:
    """The first picture of a scene whose face is another one's than that of the longest scene; None where there is none.

    Args:
        scene: (T,) number of the scene of each picture.
        sure: presence from which landmarks count.
    """
    there = seen.presence >= sure
    scenes = [rows for number in np.unique(scene) if len(rows := np.nonzero(there & (scene == number))[0]) >= FEWEST]
    if len(scenes) < 2:
        return None
    longest = max(scenes, key=len)
    reference = _centred(seen.points[longest[len(longest) // 2]])
    own = _median_shape(seen.points[longest], reference)
    for rows in scenes:
        shape = _median_shape(seen.points[rows], reference)
        if np.sqrt(((shape - own) ** 2).sum(1).mean()) > ANOTHER:
            return int(rows[0])
    return None


def _centred(points: np.ndarray) -> np.ndarray:
    """(R,3) what expressions hardly move, round its middle, in distances between the eyes."""
    rigid = points[list(RIGID)].astype(np.float64)
    return (rigid - rigid.mean(0)) / np.linalg.norm(points[LEFT_EYE_CORNER] - points[RIGHT_EYE_CORNER])


def _median_shape(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(R,3) of some pictures (T,478,3), each turned and scaled onto the reference."""
    aligned = []
    for one in points[:: max(1, len(points) // SAMPLES)]:
        shape = _centred(one)
        u, _, vt = np.linalg.svd(shape.T @ reference)
        turned = shape @ (u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt)
        aligned.append(turned * ((turned * reference).sum() / (turned**2).sum()))
    return np.median(aligned, axis=0)
