"""The file of the built-in head: complete, consistent, and a face whose lids close and whose mouth opens."""

import json
from pathlib import Path

import numpy as np
import pytest

import taichi_avatars

PATH = Path(taichi_avatars.__file__).parent / "assets" / "builtin_head.npz"
REGIONS = [
    "skin",
    "face",
    "lips",
    "eyelids",
    "eyelids_left",
    "eyelids_right",
    "eye_left",
    "eye_right",
    "iris_left",
    "iris_right",
    "pupil_left",
    "pupil_right",
    "scalp",
    "ears",
    "ears_left",
    "ears_right",
    "neck",
    "mouth_inside",
    "eye_socket_left",
    "eye_socket_right",
    "teeth_upper",
    "teeth_lower",
    "tongue",
    "brows",
    "brows_left",
    "brows_right",
]
PARTS = [
    "skin",
    "mouth_inside",
    "eye_socket_left",
    "eye_socket_right",
    "tongue",
    "teeth_upper",
    "teeth_lower",
    "eye_left",
    "eye_right",
]


@pytest.fixture(scope="module")
def head() -> dict[str, np.ndarray]:
    with np.load(PATH, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def unit(head: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Displacements (V, 3) of one facial unit."""
    return head["shapedirs"][:, :, 40 + head["expression_names"].tolist().index(name)].astype(np.float64)


def regressor(head: dict[str, np.ndarray]) -> np.ndarray:
    dense = np.zeros((5, len(head["v_template"])))
    for row, (start, end) in enumerate(zip(head["J_indptr"][:-1], head["J_indptr"][1:], strict=True)):
        dense[row, head["J_indices"][start:end]] = head["J_data"][start:end]
    return dense


def test_shapes_and_size(head):
    count, triangles = len(head["v_template"]), len(head["f"])
    assert PATH.stat().st_size < 3_000_000
    assert (int(head["n_shape"]), int(head["n_expr"]), str(head["name"])) == (40, 52, "builtin-1")
    assert head["shapedirs"].shape == (count, 3, 92)
    assert head["weights"].shape == (count, 5)
    assert head["kintree_table"].tolist() == [[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]
    assert head["ft"].shape == head["f"].shape == (triangles, 3)
    assert set(head["f"].ravel().tolist()) == set(range(count))
    assert set(head["ft"].ravel().tolist()) == set(range(len(head["vt"])))
    assert head["vt"].min() >= 0 and head["vt"].max() <= 1
    for key, value in head.items():
        assert value.dtype.kind in "US" or np.isfinite(value).all(), key


def test_names_are_arkits(head, shared):
    names = json.loads((shared / "data/arkit_motion.json").read_text())["names"]
    assert head["expression_names"].tolist() == names


def test_weights_and_regressor_sum_to_one(head):
    np.testing.assert_allclose(head["weights"].sum(1), 1, atol=1e-6)  # float32
    assert head["weights"].min() >= 0
    np.testing.assert_allclose(regressor(head).sum(1), 1, atol=1e-5)
    for region, joint in (("teeth_upper", 1), ("teeth_lower", 2), ("tongue", 2), ("eye_left", 3), ("eye_right", 4)):
        assert (head["weights"][head[f"region_{region}"], joint] == 1).all()


def test_joints_lie_where_they_should_and_expressions_leave_them(head):
    root, neck, jaw, left, right = regressor(head) @ head["v_template"]
    assert root[1] < neck[1] < jaw[1] < left[1]
    assert np.abs([root[0], neck[0], jaw[0]]).max() < 2e-3  # metres: in the middle
    assert left[0] > 0.02 and right[0] < -0.02
    moved = np.einsum("jv,vce->jce", regressor(head), head["shapedirs"][:, :, 40:].astype(np.float64))
    assert np.abs(moved).max() < 1e-4  # a tenth of a millimetre


def test_regions(head):
    count = len(head["v_template"])
    for name in REGIONS:
        ids = head[f"region_{name}"]
        assert len(ids) and ids.min() >= 0 and ids.max() < count and len(set(ids.tolist())) == len(ids), name
        if name.endswith(("_left", "_right")):
            assert ((head["v_template"][ids, 0] > 0) == name.endswith("_left")).all(), name
    parts = np.concatenate([head[f"region_{name}"] for name in PARTS])
    assert sorted(parts.tolist()) == list(range(count))


@pytest.mark.parametrize("part", ["tongue", "eye_left", "eye_right"])
def test_closed_parts_are_seen_from_outside(head, part):
    faces = head["f"][np.isin(head["f"], head[f"region_{part}"]).all(1)]
    a, b, c = np.moveaxis(head["v_template"][faces] - head["v_template"][head[f"region_{part}"]].mean(0), 1, 0)
    assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0


def test_atlas_is_not_mirrored(head):
    a, b, c = np.moveaxis(head["vt"][head["ft"]], 1, 0)
    u, v = b - a, c - a
    assert (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] > 0).all()


def test_eyeballs_are_round_and_still(head):
    for side in ("left", "right"):
        ball = head[f"region_eye_{side}"]
        radius = np.linalg.norm(head["v_template"][ball] - head["v_template"][ball].mean(0), axis=1)
        assert np.ptp(radius) < 0.06 * radius.mean()
        assert not head["shapedirs"][ball, :, 40:].any()
        pupil = head["v_template"][head[f"region_pupil_{side}"]].mean(0)
        assert pupil[2] > head["v_template"][head[f"region_iris_{side}"]].mean(0)[2]


def visible_eye(head: dict[str, np.ndarray], vertices: np.ndarray, side: str) -> float:
    """Share of the front of an eyeball that no triangle of the skin hides from a viewer far in front."""
    centre = vertices[head[f"region_eye_{side}"]].mean(0)
    grid = np.stack(np.meshgrid(np.linspace(-0.013, 0.013, 40), np.linspace(-0.013, 0.013, 40)), -1).reshape(-1, 2)
    skin = head["f"][np.isin(head["f"], head["region_skin"]).all(1)]
    a, b, c = np.moveaxis(vertices[skin], 1, 0)
    near = (np.abs(a - centre)[:, :2].max(1) < 0.05) & (a[:, 2] > centre[2])
    a, b, c = a[near, :2], b[near, :2], c[near, :2]
    p = grid[:, None] + centre[:2]

    def side_of(s: np.ndarray, e: np.ndarray) -> np.ndarray:
        return (e - s)[:, 0] * (p - s)[..., 1] - (e - s)[:, 1] * (p - s)[..., 0]

    sides = np.stack([side_of(a, b), side_of(b, c), side_of(c, a)])
    return float(1 - ((sides >= 0).all(0) | (sides <= 0).all(0)).any(1).mean())


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_blink_closes_its_own_eye(head, seed, side):
    shape = np.zeros(40) if seed is None else np.random.default_rng(seed).normal(size=40)
    open_eyes = head["v_template"] + head["shapedirs"][:, :, :40].astype(np.float64) @ shape
    closed = open_eyes + unit(head, f"eyeBlink{side.capitalize()}")
    other = "right" if side == "left" else "left"
    assert visible_eye(head, open_eyes, side) > 0.1
    assert visible_eye(head, closed, side) < 0.002
    assert visible_eye(head, closed, other) > 0.1


def test_jaw_open_opens_the_mouth_and_takes_the_lower_teeth(head):
    jaw_open = unit(head, "jawOpen")
    upper, lower = head["region_teeth_upper"], head["region_teeth_lower"]
    assert jaw_open[lower, 1].min() < -0.02 and jaw_open[lower, 1].max() < -0.005
    assert np.abs(jaw_open[upper]).max() < 1e-3
    lips = head["region_lips"]
    assert np.ptp((head["v_template"] + jaw_open)[lips, 1]) > np.ptp(head["v_template"][lips, 1]) + 0.02


def test_teeth_are_behind_the_lips(head):
    lips = head["v_template"][head["region_lips"]]
    for row in ("teeth_upper", "teeth_lower"):
        assert head["v_template"][head[f"region_{row}"], 2].max() < lips[:, 2].max() - 0.003


def test_identities_are_people(head):
    shapes = np.random.default_rng(0).normal(size=(30, 40))
    people = head["v_template"] + np.einsum("vck,nk->nvc", head["shapedirs"][:, :, :40].astype(np.float64), shapes)
    height = np.ptp(people[:, head["region_skin"], 1], axis=1)
    width = np.ptp(people[:, head["region_scalp"], 0], axis=1)
    assert height.min() > 0.2 and height.max() < 0.33
    assert width.min() > 0.11 and width.max() < 0.2
    assert height.std() > 0.004
