"""The teeth against the table of the file format, written out."""

import numpy as np
import pytest

from taichi_avatars.head.flame_files import HeadArrays
from taichi_avatars.head.teeth import LOWER, UPPER, add_teeth

ROWS = {"UR": 0, "LR": 15, "UE": 30, "LE": 45, "URB": 60, "UEB": 75, "LRB": 90, "LEB": 105}
TABLE = [  # strip: i < 7 | i >= 7; a trailing + is i + 1
    ("UR UE+ UE, UR UR+ UE+", "UR UR+ UE, UR+ UE+ UE"),
    ("URB UEB UEB+, URB UEB+ URB+", "URB UEB URB+, URB+ UEB UEB+"),
    ("UEB UE UEB+, UEB+ UE UE+", "UEB UE UE+, UEB UE+ UEB+"),
    ("LE LE+ LR, LE+ LR+ LR", "LE LR+ LR, LE LE+ LR+"),
    ("LRB LEB+ LEB, LRB LRB+ LEB+", "LRB LRB+ LEB, LRB+ LEB+ LEB"),
    ("LEB LEB+ LE, LEB+ LE+ LE", "LEB LE+ LE, LEB LEB+ LE+"),
]


def corner(text: str, i: int) -> int:
    return 5023 + ROWS[text.rstrip("+")] + i + text.endswith("+")


@pytest.fixture(scope="module")
def heads() -> tuple[HeadArrays, HeadArrays]:
    g = np.random.default_rng(0)
    bare = HeadArrays(
        v_template=g.normal(size=(5023, 3)).astype(np.float32) * 0.1,
        shapedirs=g.normal(size=(5023, 3, 4)).astype(np.float32),
        exprdirs=g.normal(size=(5023, 3, 3)).astype(np.float32),
        posedirs=g.normal(size=(5023, 3, 36)).astype(np.float32),
        joints=g.random((5023, 5)).astype(np.float32),
        weights=g.random((5023, 5)).astype(np.float32),
        faces=g.integers(0, 5023, (9976, 3)),
    )
    return bare, add_teeth(bare)


def test_faces(heads) -> None:
    want = []
    for left, right in TABLE:
        for i in range(14):
            for triangle in (left if i < 7 else right).split(", "):
                want.append([corner(c, i) for c in triangle.split()])
    assert len(want) == 168
    np.testing.assert_array_equal(heads[1].faces[9976:], want)


def test_vertices(heads) -> None:
    bare, full = heads
    upper, lower = bare.v_template[UPPER].astype(float), bare.v_template[LOWER].astype(float)
    d = np.mean([np.linalg.norm(u - l) for u, l in zip(upper, lower, strict=True)])
    middle = (upper + lower) / 2
    middle[:, 1] = middle[:, 1].mean()
    middle[:, 2] -= 1.5 * d
    rows = {"UE": middle + np.array([0, 0.1 * d, 0]), "LE": middle - np.array([0, 0.1 * d, 0.4 * d])}
    rows["UR"], rows["LR"] = rows["UE"] + np.array([0, 2 * d, 0]), rows["LE"] - np.array([0, 2 * d, 0])
    for name in ("UE", "LE", "UR", "LR"):
        rows[name + "B"] = rows[name] - [0, 0, d]
    for name, start in ROWS.items():
        np.testing.assert_allclose(full.v_template[5023 + start : 5038 + start], rows[name], atol=1e-6)


def test_what_moves_them(heads) -> None:
    bare, full = heads
    teeth = slice(5023, 5143)
    assert not full.exprdirs[teeth].any() and not full.posedirs[teeth].any() and not full.joints[teeth].any()
    mean = (bare.shapedirs[UPPER] + bare.shapedirs[LOWER]) / 2
    for name, start in ROWS.items():
        rows = slice(5023 + start, 5038 + start)
        np.testing.assert_array_equal(full.shapedirs[rows], mean)
        np.testing.assert_array_equal(full.weights[rows], np.eye(5)[[1 if name[0] == "U" else 2] * 15])
    assert np.array_equal(full.weights[:5023], bare.weights)
