"""The built-in subject on other heads: who it is, what it does, and what a capture of it holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from head.gnm_layout import gnm_arrays
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.head.correspondence import correspond
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.head.stand_in import stand_in
from taichi_avatars.inspection.info import describe
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.synthetic.identity import identity
from taichi_avatars.synthetic.motion import performance

MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """The built-in head without a jaw joint in GNM's layout, without names of expressions."""
    arrays = gnm_arrays()
    return arrays | {
        "expression_names": np.array([f"lower_face_region_{k:03d}" for k in range(len(arrays["expression_names"]))])
    }


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")

    def save(name: str, arrays: dict[str, np.ndarray]) -> FlameModel:
        np.savez(folder / name, **arrays)  # pyright: ignore[reportArgumentType]
        return FlameModel.load(folder / name)

    return save


@pytest.fixture(scope="module")
def gnm(arrays, save) -> FlameModel:
    return save("gnm_head.npz", arrays)


@pytest.fixture(scope="module")
def cast(gnm):
    return stand_in(gnm)


def moved(arrays: dict[str, np.ndarray], turn: np.ndarray, shift: np.ndarray | float = 0.0) -> dict[str, np.ndarray]:
    """A head file whose head lies in space in another way."""
    out = {key: arrays[key] @ turn.T.astype(np.float32) for key in arrays if key.endswith(("_basis", "_positions"))}
    for key in ("template_vertex_positions", "template_joint_positions"):
        out[key] = (out[key] + shift).astype(np.float32)
    return arrays | out


def test_vertices_are_found_on_the_same_face_in_another_place(head, arrays, save):
    """Moved, a little larger, nodding, wider by two of its own identity components, and without names for its lips."""
    a = 0.15
    nod = 1.05 * np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    wider = 1.2 * arrays["vertex_identity_basis"][0] - 0.8 * arrays["vertex_identity_basis"][3]
    joints = 1.2 * arrays["joint_identity_basis"][0] - 0.8 * arrays["joint_identity_basis"][3]
    other = arrays | {
        "template_vertex_positions": arrays["template_vertex_positions"] + wider,
        "template_joint_positions": arrays["template_joint_positions"] + joints,
    }
    found = correspond(save("moved.npz", moved(other, nod, np.array([0.3, -1.5, 0.1]))), head)
    placed = found.values(head.v_template.numpy())
    off = np.linalg.norm(placed - head.v_template.numpy(), axis=1)
    face = head.regions["face"].numpy()
    assert np.median(off[face]) < 0.6 * MILLIMETRE and np.quantile(off[face], 0.95) < 3 * MILLIMETRE
    # Its size is also that of an identity component.
    np.testing.assert_allclose(found.turn / np.cbrt(np.linalg.det(found.turn)), nod / 1.05, atol=0.01)


def test_the_same_person_has_the_same_face(head, gnm, cast):
    shape = identity(head, 3).shape
    got = gnm(cast.shape(shape)).vertices - head(shape).vertices
    assert float(got.norm(dim=1).square().mean().sqrt()) < 0.3 * MILLIMETRE
    assert float((head(shape).vertices - head.v_template).norm(dim=1).max()) > 5 * MILLIMETRE


def test_units_are_the_components_of_their_names(arrays, save, cast):
    named = stand_in(save("named.npz", arrays | {"expression_names": gnm_arrays()["expression_names"]}))
    torch.testing.assert_close(named.units[:52], torch.eye(55)[:52], rtol=0, atol=0)
    torch.testing.assert_close(named.units[52:], cast.units[52:], rtol=0, atol=0)


def test_expressions_without_a_jaw_joint_move_as_the_built_in_head_does(head, cast):
    motion = performance(head, 6.0, 2.5, 1, "train")
    carried = cast.motion(motion)
    assert carried.jaw_pose is None and carried.expr.shape == (15, cast.head.n_expr)
    still = head.v_template
    moves, errors = [], []
    for row in range(0, 15, 3):
        standing = {"rotation": torch.zeros(15, 3), "translation": torch.zeros(15, 3)}
        there = replace(motion, neck_pose=torch.zeros(15, 3), **standing).mesh(head, row).vertices
        here = replace(carried, neck_pose=torch.zeros(15, 3), **standing).mesh(cast.head, row).vertices
        moves.append((there - still).norm(dim=1))
        errors.append((there - here).norm(dim=1))
    skin = head.regions["skin"]
    assert float(torch.cat([m[skin] for m in moves]).max()) > 12 * MILLIMETRE
    assert float(torch.cat([e[skin] for e in errors]).square().mean().sqrt()) < 0.4 * MILLIMETRE


def test_regions_lie_where_they_do_on_the_built_in_head(head, cast):
    for name in ("lips", "eyelids", "brows", "scalp", "neck", "pupil_left"):
        there, here = set(head.regions[name].tolist()), set(cast.head.regions[name].tolist())
        assert len(there & here) > 0.9 * len(there | here), name
    assert cast.head.regions["tongue"].tolist() == head.regions["tongue"].tolist()


def test_a_jaw_joint_takes_over_what_no_expression_does(head, save, tmp_path):
    """FLAME's keys, without expressions: only the jaw moves, and a mouth opens by it."""
    keys = {
        "v_template": head.v_template.numpy(),
        "shapedirs": head.shapedirs.numpy(),
        "n_shape": np.array(head.n_shape),
        "n_expr": np.array(0),
        "J_regressor": head.rig.regressor.T.numpy(),
        "weights": head.rig.weights.numpy(),
        "f": head.faces.numpy(),
    }
    cast = stand_in(save("silent.npz", keys))
    motion = FlameSequence([0], torch.zeros(40), torch.zeros(1, 52), *(torch.zeros(1, n) for n in (3, 3, 3, 6, 3)))
    motion.expr[0, (head.expression_names or []).index("jawOpen")] = 1.0
    carried = cast.motion(motion)
    assert carried.expr.shape == (1, 0) and carried.jaw_pose is not None
    assert 0.1 < float(carried.jaw_pose[0, 0]) < 0.6 and float(carried.jaw_pose[0, 1:].abs().max()) < 0.01


def test_heads_that_the_subject_cannot_have_are_refused(arrays, save):
    quarter = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    with pytest.raises(UserError, match="turned by 90 degrees"):
        stand_in(save("turned.npz", moved(arrays, quarter)))
    with pytest.raises(UserError, match="100 times as large"):
        stand_in(save("centimetres.npz", moved(arrays, 100 * np.eye(3))))
    weights = arrays["skinning_weights"].copy()
    weights[1] += weights[2] + weights[3]
    blind = arrays | {
        "joint_names": arrays["joint_names"][:2],
        "joint_parent_indices": arrays["joint_parent_indices"][:2],
        "template_joint_positions": arrays["template_joint_positions"][:2],
        "joint_identity_basis": arrays["joint_identity_basis"][:, :2],
        "skinning_weights": weights[:2],
        "pose_correctives_regressor": arrays["pose_correctives_regressor"][:18],
    }
    with pytest.raises(UserError, match="has no eyes, only root, neck"):
        stand_in(save("blind.npz", blind))


def test_a_capture_of_it_is_whole_and_looks_like_the_built_in_one(gnm, tmp_path):
    size = {"width": 66, "height": 96, "timesteps": 1, "test_timesteps": 1, "cameras": 1, "supersample": 2}
    write_capture(tmp_path / "gnm", head=gnm, **size)
    write_capture(tmp_path / "own", **size)
    capture = load_capture(tmp_path / "gnm", head=gnm)
    assert capture.flame is not None and capture.flame.jaw_pose is None and capture.flame.expr.abs().max() > 0
    with np.load(tmp_path / "gnm/flame_param/00000.npz") as values:
        assert "jaw_pose" not in values and values["static_offset"].shape == (1, gnm.num_vertices, 3)
    assert describe(tmp_path / "gnm")["whole"]
    for file in sorted((tmp_path / "own/images").iterdir()):
        here, there = (np.asarray(Image.open(tmp_path / kind / "images" / file.name)) / 255.0 for kind in ("gnm", "own"))
        assert -10 * np.log10(((here - there) ** 2).mean()) > 26
