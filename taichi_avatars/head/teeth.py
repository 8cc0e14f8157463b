"""Two rows of teeth for FLAME, which has none: strips that follow the lips (GaussianAvatars, section 3.3).

The order of the new vertices and faces is part of the file format: bindings in PLY files index it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from taichi_avatars.head.flame_files import FLAME_VERTICES, HeadArrays

RING = 15
UPPER = [1713, 1715, 1716, 1735, 1696, 1694, 1657, 3543, 2774, 2811, 2813, 2850, 2833, 2832, 2830]
LOWER = [1576, 1577, 1773, 1774, 1795, 1802, 1865, 3503, 2948, 2905, 2898, 2881, 2880, 2713, 2712]
NECK, JAW = 1, 2  # the joints of the upper and the lower row

UPPER_ROOT, LOWER_ROOT, UPPER_EDGE, LOWER_EDGE, UPPER_ROOT_BACK, UPPER_EDGE_BACK, LOWER_ROOT_BACK, LOWER_EDGE_BACK = range(8)

# Each strip has an outer row o and an inner row n; a corner is the row and its offset from tooth i. First the two
# triangles left of the middle (i < 7), then those right of it, so that the diagonals mirror each other.
_STRIPS = [
    (UPPER_ROOT, UPPER_EDGE, ["o0 n1 n0", "o0 o1 n1"], ["o0 o1 n0", "o1 n1 n0"]),
    (UPPER_ROOT_BACK, UPPER_EDGE_BACK, ["o0 n0 n1", "o0 n1 o1"], ["o0 n0 o1", "o1 n0 n1"]),
    (UPPER_EDGE_BACK, UPPER_EDGE, ["o0 n0 o1", "o1 n0 n1"], ["o0 n0 n1", "o0 n1 o1"]),
    (LOWER_EDGE, LOWER_ROOT, ["o0 o1 n0", "o1 n1 n0"], ["o0 n1 n0", "o0 o1 n1"]),
    (LOWER_ROOT_BACK, LOWER_EDGE_BACK, ["o0 n1 n0", "o0 o1 n1"], ["o0 o1 n0", "o1 n1 n0"]),
    (LOWER_EDGE_BACK, LOWER_EDGE, ["o0 o1 n0", "o1 n1 n0"], ["o0 n1 n0", "o0 o1 n1"]),
]


def add_teeth(head: HeadArrays) -> HeadArrays:
    """The same head with 120 more vertices and 168 more triangles. It must have FLAME's topology."""
    assert isinstance(head.joints, np.ndarray)  # FLAME's
    upper, lower = head.v_template[UPPER].astype(np.float64), head.v_template[LOWER].astype(np.float64)
    vertices = _vertices(upper, lower).astype(np.float32)
    count = len(vertices)
    ring = (head.shapedirs[UPPER] + head.shapedirs[LOWER]) / 2
    weights = np.zeros((count, head.weights.shape[1]), np.float32)
    is_upper = np.repeat([row in (UPPER_ROOT, UPPER_EDGE, UPPER_ROOT_BACK, UPPER_EDGE_BACK) for row in range(8)], RING)
    weights[is_upper, NECK] = 1
    weights[~is_upper, JAW] = 1
    faces = _faces() + FLAME_VERTICES
    ids = np.arange(FLAME_VERTICES, FLAME_VERTICES + count)
    return replace(
        head,
        v_template=np.concatenate([head.v_template, vertices]),
        shapedirs=np.concatenate([head.shapedirs, np.tile(ring, (8, 1, 1))]),
        exprdirs=_extend(head.exprdirs, count),
        posedirs=None if head.posedirs is None else _extend(head.posedirs, count),
        joints=_extend(head.joints, count),
        weights=np.concatenate([head.weights, weights]),
        faces=np.concatenate([head.faces, faces]),
        uv=None if head.uv is None else _extend(head.uv, len(faces)),
        regions={**head.regions, "teeth_upper": ids[is_upper], "teeth_lower": ids[~is_upper]},
    )


def _extend(array: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((count, *array.shape[1:]), array.dtype)])


def _vertices(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """(120,3): eight rows of 15, in the order of the constants above."""
    d = np.linalg.norm(upper - lower, axis=1).mean()
    y, z = np.array([0, d, 0]), np.array([0, 0, d])
    middle = (upper + lower) / 2
    middle[:, 1] = middle[:, 1].mean()
    middle = middle - 1.5 * z
    upper_edge, lower_edge = middle + 0.1 * y, middle - 0.1 * y - 0.4 * z
    front = [upper_edge + 2 * y, lower_edge - 2 * y, upper_edge, lower_edge]
    upper_root, lower_root = front[0], front[1]
    return np.concatenate([*front, upper_root - z, upper_edge - z, lower_root - z, lower_edge - z])


def _faces() -> np.ndarray:
    """(168,3), counted from the first tooth vertex."""
    faces = []
    for outer, inner, left, right in _STRIPS:
        start = {"o": outer * RING, "n": inner * RING}
        for i in range(RING - 1):
            for triangle in left if i < (RING - 1) // 2 else right:
                faces.append([start[corner[0]] + i + int(corner[1]) for corner in triangle.split()])
    return np.array(faces, np.int64)
