"""Where the outline of the head model is in pictures, and where a segmentation says that it should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.matte import MARGINS
from taichi_avatars.tracking.points import HeadPoints
from taichi_avatars.tracking.silhouettes import Silhouette

BINS = 72  # directions from the middle of the head in which its outline is looked for, the farthest in each
NEARER = 0.85  # of its neighbours' distance, at which an edge is no outline but lies inside
INWARDS, STEP = 0.02, 0.001  # metres: how far inside the mesh the outline is looked for, and how finely
HALF = 0.5  # alpha
CHUNK = 32  # frames at a time
BORDER = 2.0  # pixels from the picture's border where an outline is only that of the picture
# How far outside the mesh the outline of each part may be, metres. The neck's is that of clothes and hair.
REACH = {"skin": 0.01, "ears": 0.015, "scalp": MARGINS["scalp"]}


@dataclass(frozen=True, eq=False)
class Contours:
    """K points on the outline of the head in each of T frames, as it was when they were looked for.

    Attributes:
        points: in each frame.
        normal: (T,K,2) of the outline, outwards, in the picture.
        target: (T,K) pixels along it where the picture has its outline.
        sigma: (T,K) standard deviation, pixels.
        weight: (T,K) 0 where nothing was found.
    """

    points: HeadPoints
    normal: Tensor
    target: Tensor
    sigma: Tensor
    weight: Tensor

    def of_frames(self, rows: slice) -> Contours:
        """Those of some frames."""
        each = ("normal", "target", "sigma", "weight")
        return Contours(self.points.some(rows), *(getattr(self, name)[rows] for name in each))

    def residuals(self, pixels: Tensor) -> Tensor:
        """(T,K) in standard deviations, of the points' places (T,K,2) in the picture."""
        return ((pixels * self.normal).sum(2) - self.target) / self.sigma


class ContourFinder:
    """Finds the outline of a head model.

    Args:
        surface: all its vertices.
    """

    def __init__(self, head: FlameModel, surface: HeadPoints) -> None:
        edges, sides = _edges(head)
        triangles, self.sides = np.unique(sides, return_inverse=True)
        vertices, corners = head.faces[torch.from_numpy(triangles)].unique(return_inverse=True)  # of the outer skin
        self.surface, self.faces = surface.some(vertices), corners.numpy()
        place = torch.zeros(head.num_vertices, dtype=torch.long)
        place[vertices] = torch.arange(len(vertices))
        self.edges = place[edges].numpy()
        reach = torch.full((head.num_vertices,), REACH["skin"])
        for part in ("ears", "scalp"):
            reach[head.regions[part]] = REACH[part]
        reach[head.regions["neck"]] = 0  # what is seen there belongs to hair, shoulders and collars
        self.reach = reach[edges].amin(1).numpy()
        self.middle = place[head.regions["scalp"]].numpy()

    def find(
        self,
        silhouettes: Sequence[Silhouette | None],
        frames: Tensor,
        shape: Tensor,
        focal: float,
        size: tuple[int, int],
        sigma: float,
    ) -> Contours:
        """Points on the outline of T frames, and where the silhouettes have it.

        Args:
            frames: (T,P); shape: (S,), as `HeadPoints` has them.
            focal: pixels; size: (width, height) of the picture.
            sigma: standard deviation of the outline, metres.
        """
        count = len(frames)
        edges = torch.zeros(count, BINS, 2, dtype=torch.long)
        normal, target = torch.zeros(count, BINS, 2), torch.zeros(count, BINS)
        spread, weight = torch.ones(count, BINS), torch.zeros(count, BINS)
        seen_in = torch.tensor([t for t, silhouette in enumerate(silhouettes) if silhouette is not None], dtype=torch.long)
        for t, world in self._placed(frames, shape, seen_in):
            silhouette = silhouettes[t]
            assert silhouette is not None
            pixels = _project(world, focal, np.array(size))
            found = self._outline(pixels)
            if not len(found):
                continue
            normals, scale = self._normals(world, found), focal / -float(world[self.middle, 2].mean())
            places = pixels[self.edges[found]].mean(1)
            off, seen = _crossing(silhouette, places, normals, self.reach[found], scale, np.array(size))
            k = len(found)
            edges[t, :k] = torch.from_numpy(self.edges[found])
            normal[t, :k] = torch.from_numpy(normals).float()
            target[t, :k] = torch.from_numpy((places * normals).sum(1) + off).float()
            spread[t, :k] = sigma * scale
            weight[t, :k] = torch.from_numpy(seen).float()
        points = self.surface.between(edges, torch.full(edges.shape, 0.5))
        return Contours(points, normal, target, spread, weight)

    def _placed(self, frames: Tensor, shape: Tensor, rows: Tensor) -> Iterator[tuple[int, np.ndarray]]:
        """Some rows of the frames, and the vertices (V,3) there."""
        for part in rows.split(CHUNK):
            world = self.surface.place(frames[part], shape).world.numpy()
            yield from zip(part.tolist(), world, strict=True)

    def _outline(self, pixels: np.ndarray) -> np.ndarray:
        """Numbers (K,) of the edges on the outline, of vertices (V,2) in the picture.

        Edges lie on the outline where one of their triangles is seen from the front and one from behind, and nothing is farther
        from the middle of the head.
        """
        x, y = pixels[:, 0][self.faces], pixels[:, 1][self.faces]
        front = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) < (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])  # y is down
        candidates = np.nonzero(front[self.sides[:, 0]] != front[self.sides[:, 1]])[0]
        away = pixels[self.edges[candidates]].mean(1) - pixels[self.middle].mean(0)
        distance = np.linalg.norm(away, axis=1)
        place = ((np.arctan2(away[:, 1], away[:, 0]) / (2 * np.pi) + 0.5) * BINS).astype(int).clip(0, BINS - 1)
        order = np.lexsort((distance, place))
        last = order[np.append(place[order][1:] != place[order][:-1], True)]
        farthest = np.zeros(BINS)
        farthest[place[last]] = distance[last]
        around = np.stack([np.roll(farthest, k) for k in (-2, -1, 0, 1, 2)]).max(0)
        found = candidates[last[distance[last] > NEARER * around[place[last]]]]
        return found[self.reach[found] > 0]

    def _normals(self, world: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """(K,2) of edges on the outline, in the picture."""
        a, b, c = world[self.faces[self.sides[edges]]].transpose(2, 0, 1, 3)
        flat = np.cross(b - a, c - a).sum(1)[:, :2] * np.array([1.0, -1.0])
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def _edges(head: FlameModel) -> tuple[Tensor, np.ndarray]:
    """(E,2) edges of the outer skin that two triangles share, and (E,2) those."""
    faces = head.faces
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    triangle = torch.arange(len(faces)).repeat(3)
    outer = head.region_mask("skin")
    key = ends[:, 0] * head.num_vertices + ends[:, 1]
    order = key.argsort(stable=True)
    key, ends, triangle = key[order], ends[order], triangle[order]
    pair = (key[1:] == key[:-1]).nonzero()[:, 0]
    pair = pair[outer[ends[pair]].all(1)]
    return ends[pair], torch.stack([triangle[pair], triangle[pair + 1]], 1).numpy()


def _project(world: np.ndarray, focal: float, size: np.ndarray) -> np.ndarray:
    """(...,2) pixels of points (...,3) by a camera in the origin that looks along -z, y up."""
    return world[..., :2] * (focal / world[..., 2:]) * np.array([-1.0, 1.0]) + 0.5 * size


def _crossing(
    silhouette: Silhouette, places: np.ndarray, normals: np.ndarray, reach: np.ndarray, scale: float, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (K,) along the normals from places (K,2) to where alpha first falls below a half, and whether that was found."""
    steps = np.arange(-INWARDS, REACH["scalp"] + STEP, STEP) * scale
    alpha = silhouette.at(places[:, None] + steps[:, None] * normals[:, None])
    below = alpha < HALF
    after = below.argmax(1).clip(1)
    rows = np.arange(len(places))
    high, low = alpha[rows, after - 1], alpha[rows, after]
    off = steps[after - 1] + (steps[1] - steps[0]) * (high - HALF) / np.maximum(high - low, 1e-6)
    at = places + off[:, None] * normals
    inside = ((at > BORDER) & (at < size - BORDER)).all(1)
    return off, ~below[:, 0] & below.any(1) & (off < reach * scale) & inside
