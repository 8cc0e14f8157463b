"""Makes taichi_avatars/assets/landmark_places.npz: where on the built-in head the network puts its landmarks.

    python tools/landmark_places [OUT]

For every landmark it takes the point of the surface whose picture is nearest to what the network says, over pictures of
many people, turned and with expressions. The people of tests and demonstrations (seeds below 100) are not among them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pictures import Observations, observe

from taichi_avatars import FlameModel
from taichi_avatars.faces.landmarks import COUNT, LEFT_IRIS, RIGHT_IRIS

SEEDS, PICTURES = range(100, 112), 14
ROBUST = 0.02  # of the face's size: an error at which a picture begins to count less
FACING = 0.15  # cosine from which a place counts as seen
SEEN = 0.25  # least share of pictures
WORST = 0.022  # of the face's size: a landmark less certain than that is left out
OUT = Path(__file__).parents[2] / "taichi_avatars/assets/landmark_places.npz"


def grid(steps: int) -> np.ndarray:
    """Barycentric coordinates (N,3) all over a triangle."""
    return np.array([[i, j, steps - i - j] for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps


def cost(errors: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """Geman-McClure's mean of errors (N,...), of the face's size, over the pictures in which a place is seen."""
    seen = facing > FACING
    squared = (errors / ROBUST) ** 2
    mean = (seen * squared / (1 + squared)).sum(0) / np.maximum(seen.sum(0), 1)
    return np.where(seen.mean(0) >= SEEN, mean, 1.0)


def place(data: Observations, landmark: int, faces: np.ndarray, vertices: np.ndarray) -> tuple[int, np.ndarray, float]:
    """Triangle, barycentric coordinates, and the error per axis as a share of the face's size."""
    target, size = data.landmarks[:, landmark], data.size[:, None]
    distance = np.linalg.norm(data.vertices[:, vertices] - target[:, None], axis=2) / size
    best = vertices[np.argsort(cost(distance, data.facing[:, vertices]))[:6]]
    chosen = (2.0, 0, np.zeros(3), 1.0)
    for face in np.nonzero(np.isin(faces, best).any(1))[0]:
        points = np.einsum("gk,nkc->ngc", GRID, data.vertices[:, faces[face]])
        facing = np.einsum("gk,nk->ng", GRID, data.facing[:, faces[face]])
        errors = np.linalg.norm(points - target[:, None], axis=2) / size
        costs = cost(errors, facing)
        k = int(costs.argmin())
        if costs[k] < chosen[0]:
            seen = facing[:, k] > FACING
            spread = np.sqrt((np.minimum(errors[seen, k], 3 * ROBUST) ** 2).mean() / 2)
            chosen = (float(costs[k]), int(face), GRID[k], float(spread))
    return chosen[1:]


GRID = grid(12)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    head = FlameModel.builtin()
    data = observe(head, SEEDS, PICTURES)
    print(f"{len(data.size)} of {len(SEEDS) * PICTURES} pictures show a face that the network is sure of")
    faces, ears = head.faces.numpy(), head.regions["ears"].numpy()
    skin = np.isin(faces, np.setdiff1d(head.regions["skin"].numpy(), ears)).all(1)
    kept: list[tuple[int, int, np.ndarray, float]] = []
    for landmark in range(COUNT):
        if landmark >= RIGHT_IRIS and landmark not in (RIGHT_IRIS, LEFT_IRIS):
            continue
        side = {RIGHT_IRIS: "right", LEFT_IRIS: "left"}.get(landmark)
        allowed = skin if side is None else np.isin(faces, head.regions[f"pupil_{side}"].numpy()).any(1)
        # Numbers of triangles are those of the whole head, so others are hidden rather than left out.
        triangle, barycentric, sigma = place(data, landmark, np.where(allowed[:, None], faces, -1), np.unique(faces[allowed]))
        if sigma < WORST:
            kept.append((landmark, triangle, barycentric, sigma))
    numbers, triangles, barycentric, sigma = (np.array(column) for column in zip(*kept, strict=True))
    print(f"{len(kept)} landmarks, error per axis: median {np.median(sigma):.4f}, largest {sigma.max():.4f} of the face's size")
    np.savez_compressed(
        out,
        landmark=numbers.astype(np.int32),
        triangle=triangles.astype(np.int32),
        barycentric=barycentric.astype(np.float32),
        sigma=sigma.astype(np.float32),
    )
    print(f"{out}: {out.stat().st_size / 1e3:.1f} kB")


if __name__ == "__main__":
    main()
