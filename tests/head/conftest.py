"""A small head with FLAME's structure, as the arrays of a FLAME file."""

import numpy as np
import pytest


def head_keys(n_vertices: int = 30, n_faces: int = 40, components: int = 9, seed: int = 0) -> dict[str, np.ndarray]:
    g = np.random.default_rng(seed)
    weights = g.random((n_vertices, 5)) ** 4
    regressor = g.random((5, n_vertices)) * (g.random((5, n_vertices)) < 0.5)
    return {
        "v_template": g.normal(size=(n_vertices, 3)) * 0.1,
        "shapedirs": g.normal(size=(n_vertices, 3, components)) * 0.01,
        "posedirs": g.normal(size=(n_vertices, 3, 36)) * 0.01,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": np.stack([g.permutation(n_vertices)[:3] for _ in range(n_faces)]).astype(np.uint32),
    }


@pytest.fixture
def make_keys():
    """Makes the arrays of a head of any size."""
    return head_keys


@pytest.fixture
def keys() -> dict[str, np.ndarray]:
    """30 vertices, 40 faces, 5 identity and 4 expression components."""
    return {**head_keys(), "n_shape": np.array(5), "n_expr": np.array(4)}


@pytest.fixture
def head_path(tmp_path, keys):
    path = tmp_path / "head.npz"
    np.savez(path, **keys)
    return path
