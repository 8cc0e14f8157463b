"""Which of the tracked pictures train an avatar, which test it, and which are left out and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from taichi_avatars.faces.following import FaceOverTime

SURE = 0.8  # presence
MOST_TRAINING, MOST_TEST = 300, 100
OUTLIER = 3.0  # times the median residual
SOFT = 0.5  # of the median sharpness
RADIANS, UNITS = 0.2, 0.7  # a turn and an expression that differ as much


@dataclass(frozen=True, eq=False)
class Choice:
    """Of T pictures.

    Attributes:
        use: (T,) "train", "test", "tracked" (as good, but others show the same) or "dropped".
        why: (T,) reason of what was dropped, else "".
    """

    use: list[str]
    why: list[str]

    def rows(self, use: str) -> np.ndarray:
        return np.array([k for k, value in enumerate(self.use) if value == use], int)


def choose(seen: FaceOverTime, residual: np.ndarray, frames: np.ndarray, n_pose: int, test: float) -> Choice:
    """The last part is for the test; of the rest those that differ most, in pose and expression, are for training.

    Args:
        residual: (T,) pixels; frames: (T,P) parameters: rotation first, expressions from `n_pose` on.
        test: share of the pictures, from the end.
    """
    count = len(residual)
    usable = np.isfinite(residual)
    limit = OUTLIER * np.median(residual[usable]) if usable.any() else 0.0
    sharp = SOFT * np.nanmedian(seen.sharpness) if usable.any() else 0.0
    why = ["" for _ in range(count)]
    for k in range(count):
        if seen.presence[k] == 0:
            why[k] = "no face"
        elif seen.presence[k] < SURE or not usable[k]:
            why[k] = "hardly a face"
        elif residual[k] > limit:
            why[k] = "landmarks do not fit"
        elif seen.sharpness[k] < sharp:
            why[k] = "blurred"
    good = np.array([not reason for reason in why])
    border = round((1 - test) * count)
    use = np.where(good, "tracked", "dropped").astype(object)
    before, after = np.nonzero(good[:border])[0], border + np.nonzero(good[border:])[0]
    features = np.concatenate([frames[:, :3] / RADIANS, frames[:, n_pose:] / UNITS], 1)
    use[before[most_different(features[before], MOST_TRAINING)]] = "train"
    use[after[np.linspace(0, len(after) - 1, min(len(after), MOST_TEST)).round().astype(int)]] = "test"
    return Choice([str(u) for u in use], why)


def most_different(features: np.ndarray, count: int) -> np.ndarray:
    """Rows, sorted, each of which was the farthest from those chosen before; the first is the nearest to the mean."""
    if len(features) <= count:
        return np.arange(len(features))
    chosen = [int(np.linalg.norm(features - features.mean(0), axis=1).argmin())]
    distance = np.full(len(features), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.sort(chosen)
