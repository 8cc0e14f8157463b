"""478 landmarks of one face, with irises, and the region to look for them in the next picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from taichi_avatars.faces.networks import load_networks
from taichi_avatars.faces.regions import Picture, Region, cut_out

TOGETHER = 32  # faces whose expressions are found at once: of more the tensors leave the cache
COUNT = 478
RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263  # the outer ones
FOREHEAD, CHIN = 10, 152
RIGHT_IRIS, LEFT_IRIS = 468, 473  # their centres
FACE_IN_REGION = 1.5
# A region stays where it is as long as the face moves in it by less than this: then noise does not feed on itself.
STILL_MOVE, STILL_GROW, STILL_TURN = 0.02, 0.05, math.radians(2.0)


@dataclass(frozen=True, eq=False)
class FaceLandmarks:
    """Landmarks of a face in a picture.

    Attributes:
        points: (478,3) float32, pixels: x to the right, y down, z (relative to the face's middle) away from the camera.
        presence: how sure the network is that there is a face, 0 to 1.
        region: where they were looked for.
    """

    points: np.ndarray
    presence: float
    region: Region

    def surrounding(self) -> Region:
        """The region that these landmarks lie in the middle of."""
        flat = self.points[:, :2].astype(np.float64)
        across = flat[LEFT_EYE_CORNER] - flat[RIGHT_EYE_CORNER]
        angle = math.atan2(across[1], across[0])
        c, s = math.cos(angle), math.sin(angle)
        turned = flat @ np.array([[c, -s], [s, c]])
        low, high = turned.min(0), turned.max(0)
        x, y = np.array([[c, -s], [s, c]]) @ (0.5 * (low + high))
        return Region(float(x), float(y), FACE_IN_REGION * float((high - low).max()), angle)

    def moved(self) -> float:
        """How far their middle is from the middle of the region, as a share of its size."""
        new = self.surrounding()
        return math.hypot(new.x - self.region.x, new.y - self.region.y) / self.region.size

    def next_region(self) -> Region:
        """Where to look in the next picture: this region still, if the face lies well in it."""
        new, old = self.surrounding(), self.region
        grown = abs(new.size / old.size - 1)
        turned = abs(math.remainder(new.angle - old.angle, math.tau))
        return old if self.moved() < STILL_MOVE and grown < STILL_GROW and turned < STILL_TURN else new


def find_landmarks(picture: Picture, region: Region) -> FaceLandmarks:
    """Landmarks of the face in a region, whether or not there is one."""
    network = load_networks().landmarks
    results = network(cut_out(picture, region, network.size))
    raw = results["landmarks"].numpy().reshape(COUNT, 3).astype(np.float64) / network.size
    points = np.concatenate([region.to_picture(raw[:, :2]), raw[:, 2:] * region.size], 1)
    presence = float(torch.sigmoid(results["presence"].reshape(())))
    return FaceLandmarks(points.astype(np.float32), presence, region)


def find_expressions(points: np.ndarray) -> np.ndarray:
    """Strengths (T,52) in [0, 1] of the network's blendshapes for landmarks (T,478,2 or 3) in pixels."""
    network, flat = load_networks().blendshapes, np.ascontiguousarray(points[..., :2], np.float32)
    parts = (flat[k : k + TOGETHER] for k in range(0, max(len(flat), 1), TOGETHER))
    return np.concatenate([network(torch.from_numpy(part)).numpy() for part in parts])
