"""How far a person's hair stands off the head model, in every direction, over many pictures.

Hair goes with the head. What the segmentation takes for hair in a few pictures only, while the head passes in front of it, is
something else: a poster, a lamp, another person.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.tracking.matte import HALF, MARGINS, Matting, connected, onto
from taichi_avatars.tracking.silhouettes import Silhouette

DIRECTIONS = 160  # evenly over the sphere
USUAL = 0.3  # quantile over the pictures that show a direction in the outline
SPARE = 0.003  # metres beyond that, for strands: how far the hair stands off is in the fitted mesh already
FEWEST = 3  # pictures that must show it
NEIGHBOURS = 4  # known directions nearest to one, whose largest thickness counts


@dataclass(eq=False)
class HairSurvey:
    """Collects what pictures show of a head's outline.

    Attributes:
        matting: with the widest margins.
    """

    matting: Matting
    _seen: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._directions = _sphere(DIRECTIONS)
        self._of_triangle = (_from_middle(self.matting.head) @ self._directions.T).argmax(1)

    def look(self, silhouette: Silhouette, vertices: Tensor, camera: Camera) -> None:
        """Takes one picture of the fitted head (V,3) in."""
        outline = self.matting.outline(vertices, camera)
        if outline is None:
            return
        scale = outline.camera.width / camera.width
        alpha = onto(silhouette.alpha, silhouette.region.scaled(scale), outline.inside.shape)
        beyond = ~outline.inside & (outline.distance <= MARGINS["scalp"])
        alpha = connected(np.where(beyond | outline.inside, alpha, 0), outline.inside)
        found = np.full(DIRECTIONS, np.nan)
        edge = outline.inside & np.logical_not(ndimage.binary_erosion(outline.inside))
        found[self._of_triangle[outline.triangle[edge]]] = 0.0
        hair = beyond & (alpha > HALF)
        place = self._of_triangle[outline.triangle[hair]]
        np.fmax.at(found, place, outline.distance[hair])
        self._seen.append(found)

    def margins(self) -> Tensor:
        """(F,) metres by which the matte may leave each triangle."""
        widest = self.matting.margin
        if not self._seen:
            return widest
        scalp = (widest == MARGINS["scalp"]).numpy()
        directions = np.unique(self._of_triangle[scalp])
        seen = np.stack(self._seen)[:, directions]
        known = np.isfinite(seen).sum(0) >= FEWEST
        if not known.any():
            return widest
        usual = np.nanquantile(seen[:, known], USUAL, axis=0)
        nearness = self._directions @ self._directions[directions[known]].T
        near = np.argsort(-nearness, axis=1)[:, :NEIGHBOURS]
        spread = usual[near].max(1) + SPARE
        own = torch.from_numpy(spread[self._of_triangle].astype(np.float32))
        return torch.where(torch.from_numpy(scalp), own.minimum(widest), widest)


def _from_middle(head: FlameModel) -> np.ndarray:
    """(F,3) directions of the triangles from the middle of the scalp."""
    centres = head.v_template[head.faces].mean(1) - head.v_template[head.regions["scalp"]].mean(0)
    return torch.nn.functional.normalize(centres, dim=1).numpy()


def _sphere(count: int) -> np.ndarray:
    """(N,3) unit vectors, evenly spread: Fibonacci's spiral."""
    at = np.arange(count) + 0.5
    height, turn = 1 - 2 * at / count, np.pi * (1 + 5**0.5) * at
    around = np.sqrt(1 - height**2)
    return np.stack([around * np.cos(turn), height, around * np.sin(turn)], 1)
