"""Where faces are in a picture: BlazeFace (Bazarevsky et al. 2019) on the whole picture, then on ever smaller tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from taichi_avatars.faces.networks import load_networks
from taichi_avatars.faces.regions import Picture, Region, cut_out, overlaps

SAME_FACE = 0.3  # intersection over union from which two detections are one face
LOGIT_LIMIT = 100.0
BATCH = 16
RIGHT_EYE, LEFT_EYE = 0, 1  # among the keypoints
FACE_IN_REGION = 1.5  # side of the region that the landmarks are looked for in, of the face's box
FINEST = 3
SMALLEST_TILE = 40  # pixels


@dataclass(frozen=True, eq=False)
class Detection:
    """A face that was found.

    Attributes:
        score: 0 to 1.
        box: (4,) left, top, right, bottom, pixels of the picture.
        keypoints: (6,2) the person's right eye, left eye, nose, mouth, right ear, left ear, pixels.
    """

    score: float
    box: np.ndarray
    keypoints: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box, pixels."""
        return float((self.box[2:] - self.box[:2]).max())

    def region(self) -> Region:
        """The square, level with the eyes, that the landmarks are looked for in."""
        (x, y), across = 0.5 * (self.box[:2] + self.box[2:]), self.keypoints[LEFT_EYE] - self.keypoints[RIGHT_EYE]
        return Region(float(x), float(y), FACE_IN_REGION * self.size, math.atan2(across[1], across[0]))


def find_faces(picture: Picture, threshold: float = 0.5, coarsest: int = 0, finest: int = FINEST) -> list[Detection]:
    """Faces by falling score.

    Level 0 sees a face that fills a tenth of the picture's longer side or more; levels 1, 2 and 3 cut the picture into
    overlapping squares whose side is the shorter side, its half and its quarter.

    Args:
        threshold: least score.
        coarsest, finest: levels. Those up to `coarsest` are always looked at, finer ones as long as nothing is found.
    """
    found: list[Detection] = []
    for level in range(finest + 1):
        tiles = tiles_of(picture.shape[1], picture.shape[0], level)
        for first in range(0, len(tiles), BATCH):
            found += _detect(picture, tiles[first : first + BATCH], threshold)
        if found and level >= coarsest:
            break
    return _merge(found)


def tiles_of(width: int, height: int, level: int) -> list[Region]:
    """Squares that cover a picture, each overlapping its neighbours by half at least."""
    if level == 0:
        return [Region(0.5 * width, 0.5 * height, max(width, height))]
    side = min(width, height) / 2 ** (level - 1)
    if side < SMALLEST_TILE:
        return []  # a face in it would be too small for its landmarks, and the tiles of a narrow picture have no end
    if level == 1 and max(width, height) < 1.2 * side:
        return []  # level 0 was the same

    def centres(length: int) -> np.ndarray:
        return np.linspace(0.5 * side, length - 0.5 * side, math.ceil(2 * (length - side) / side - 1e-9) + 1)

    return [Region(float(x), float(y), side) for y in centres(height) for x in centres(width)]


@cache
def anchors() -> np.ndarray:
    """(896,2) places in the picture, 0 to 1, that the network's boxes are relative to."""
    rows = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        rows.append(np.repeat(np.stack([(x.ravel() + 0.5) / cells, (y.ravel() + 0.5) / cells], 1), each, 0))
    return np.concatenate(rows)


def _detect(picture: Picture, tiles: list[Region], threshold: float) -> list[Detection]:
    network = load_networks().detector
    pictures = torch.cat([cut_out(picture, tile, network.size) for tile in tiles])
    results = network(pictures * 2 - 1)
    scores = torch.sigmoid(results["scores"][..., 0].clamp(-LOGIT_LIMIT, LOGIT_LIMIT)).numpy()
    boxes = results["boxes"].numpy().astype(np.float64) / network.size
    found = []
    for tile, score, box in zip(tiles, scores, boxes, strict=True):
        for k in np.nonzero(score > threshold)[0]:
            centre, half = box[k, :2] + anchors()[k], 0.5 * box[k, 2:4]
            corners = tile.to_picture(np.stack([centre - half, centre + half])).ravel()
            keypoints = tile.to_picture(box[k, 4:].reshape(6, 2) + anchors()[k])
            found.append(Detection(float(score[k]), corners, keypoints))
    return found


def _merge(found: list[Detection]) -> list[Detection]:
    """Detections that overlap become one, at the mean of them by score: steadier than the best alone."""
    left = sorted(found, key=lambda d: -d.score)
    merged = []
    while left:
        boxes = np.stack([d.box for d in left])
        same = overlaps(left[0].box, boxes) > SAME_FACE
        same[0] = True
        group = [d for d, is_same in zip(left, same, strict=True) if is_same]
        weights = np.array([d.score for d in group]) / sum(d.score for d in group)
        box = np.tensordot(weights, np.stack([d.box for d in group]), 1)
        keypoints = np.tensordot(weights, np.stack([d.keypoints for d in group]), 1)
        merged.append(Detection(left[0].score, box, keypoints))
        left = [d for d, is_same in zip(left, same, strict=True) if not is_same]
    return merged
