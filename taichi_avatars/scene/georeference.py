"""Scenes in georeferenced coordinates (UTM, ...): millions of metres from their origin, where float32 has steps of 25 cm.

Such a scene is centred in float64 before any of it becomes float32. Its `Origin` is the offset: everything
written with 64 bits (PLY, npz, cameras, camera paths) is in the scene's own coordinates again.
"""

from __future__ import annotations

import numpy as np

Origin = tuple[float, float, float]

NOWHERE: Origin = (0.0, 0.0, 0.0)
FAR = 100.0  # largest distance of a scene's centre from the origin, in sizes of the scene: float32 then errs by less than 1e-5
LABEL = "origin"  # of the comment in a PLY


def origin_of(positions: np.ndarray) -> Origin:
    """The centre of positions (P,3) that are far from their origin, in whole metres if they extend over more than one.

    (0, 0, 0) for any other scene, whose coordinates stay as they are.
    """
    if not len(positions):
        return NOWHERE
    middle = np.median(positions.astype(np.float64), axis=0)
    size = float(np.median(np.abs(positions - middle).max(1)))
    if float(np.abs(middle).max()) <= FAR * max(size, 1.0 / FAR):
        return NOWHERE
    x, y, z = (np.rint(middle) if size > 1.0 else middle).tolist()
    return x, y, z


def as_comment(origin: Origin) -> str:
    """The comment of a PLY that stores an origin, bit-exactly."""
    return " ".join([LABEL, *map(repr, origin)])


def from_comments(comments: list[str]) -> Origin | None:
    """The origin in a PLY's comments; None if there is none."""
    for comment in comments:
        words = comment.split()
        if words[:1] == [LABEL] and len(words) == 4:
            try:
                x, y, z = map(float, words[1:])
            except ValueError:
                continue
            if np.isfinite([x, y, z]).all():
                return x, y, z
    return None
