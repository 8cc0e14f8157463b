"""The texture atlas: MakeHuman's islands moved, turned and scaled into one square that only the head uses."""

from __future__ import annotations

import numpy as np

# part -> (lower left corner, scale, quarter turns counter-clockwise); the island keeps its shape and its outside.
PLACES: dict[str, tuple[tuple[float, float], float, int]] = {
    "skin": ((0.02, 0.475), 1.43, 3),
    "nape": ((0.50, 0.16), 1.43, 0),
    "mouth_inside": ((0.50, 0.26), 1.3, 0),
    "eye_socket_right": ((0.75, 0.31), 1.3, 0),
    "eye_socket_left": ((0.86, 0.31), 1.3, 0),
    "tongue": ((0.75, 0.10), 3.0, 0),
    "teeth_upper": ((0.27, 0.14), 3.5, 0),
    "teeth_lower": ((0.27, 0.04), 3.5, 0),
}
# Eyeballs get two discs each: the angle from the pole is the distance from the centre, 90 degrees at the rim.
EYE_DISCS = {
    "eye_right": {"front": ((0.13, 0.34), 0.10), "back": ((0.08, 0.12), 0.05)},
    "eye_left": {"front": ((0.36, 0.34), 0.10), "back": ((0.20, 0.12), 0.05)},
}


def pack(uv: np.ndarray, uv_quads: dict[str, np.ndarray], quads: dict[str, np.ndarray], vertices: np.ndarray):
    """New texture coordinates (U, 2), v up, in [0, 1], and part -> (Q, 4) ids into them."""
    coordinates: list[np.ndarray] = []
    ids: dict[str, np.ndarray] = {}
    start = 0
    for part, q in uv_quads.items():
        if part in EYE_DISCS:
            points, local = eye_discs(vertices, quads[part], EYE_DISCS[part])
        else:
            used, local = np.unique(q, return_inverse=True)
            local = local.reshape(q.shape)
            points = np.empty((len(used), 2))
            # MakeHuman cuts a strip of the nape out with the back's island, far from the head's.
            strip = uv[used, 0] < 0.6 if part == "skin" else np.zeros(len(used), bool)
            points[~strip] = place(uv[used[~strip]], *PLACES[part])
            if strip.any():
                points[strip] = place(uv[used[strip]], *PLACES["nape"])
        coordinates.append(points)
        ids[part] = local + start
        start += len(points)
    return np.concatenate(coordinates), ids


def place(points: np.ndarray, corner: tuple[float, float], scale: float, turns: int) -> np.ndarray:
    for _ in range(turns):
        points = np.stack([-points[:, 1], points[:, 0]], 1)
    return (points - points.min(0)) * scale + corner


def eye_discs(vertices: np.ndarray, quads: np.ndarray, discs: dict) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates of one eyeball: points (P, 2) and ids (Q, 4)."""
    used, local = np.unique(quads, return_inverse=True)
    local = local.reshape(quads.shape)
    d = vertices[used] - vertices[used].mean(0)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    around = d[:, :2] / np.maximum(np.linalg.norm(d[:, :2], axis=1, keepdims=True), 1e-9)
    angle = np.arccos(d[:, 2:]) / (np.pi / 2)
    (centre, radius), (back_centre, back_radius) = discs["front"], discs["back"]
    front = np.array(centre) + radius * angle * around
    back = np.array(back_centre) + back_radius * (2 - angle) * around * [-1, 1]
    behind = d[local, 2].mean(1) < 0
    seen, ids = np.unique(local + len(used) * behind[:, None], return_inverse=True)
    return np.concatenate([front, back])[seen], ids.reshape(quads.shape)
