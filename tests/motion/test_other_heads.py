"""ARKit weights on a head whose expressions have other names: they do what they do on the built-in head."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from head.gnm_layout import gnm_arrays

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion import face_map as module
from taichi_avatars.motion.face_map import GAZE_SIDEWAYS, JAW_ALONE, columns, face_map
from taichi_avatars.motion.sources import load_motion

MILLIMETRE = 1e-3
FRAMES = ({"jawOpen": 0.8}, {"mouthSmileLeft": 1.0, "mouthSmileRight": 0.7}, {"eyeBlinkLeft": 1.0}, {"eyeLookInLeft": 1.0})


def nameless() -> dict[str, np.ndarray]:
    """The built-in head in GNM's layout: no jaw joint, and expressions that GNM's file numbers."""
    arrays = gnm_arrays()
    return arrays | {"expression_names": np.array([f"region_{k:03d}" for k in range(len(arrays["expression_names"]))])}


def saved(path: Path, arrays: dict[str, np.ndarray]) -> FlameModel:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return FlameModel.load(path)


@pytest.fixture(scope="module")
def gnm(tmp_path_factory: pytest.TempPathFactory) -> FlameModel:
    return saved(tmp_path_factory.mktemp("heads") / "gnm_head.npz", nameless())


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    names = sorted({name for frame in FRAMES for name in frame})
    frames = [{"weights": [frame.get(name, 0.0) for name in names], "time": i / 30} for i, frame in enumerate(FRAMES)]
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"names": names, "frames": frames, "head_pose": [[0.0, 0.2, 0.0]] * len(frames)}))
    return path


def test_recorded_weights_move_it_as_they_move_the_built_in_head(gnm: FlameModel, weights: Path) -> None:
    own = FlameModel.builtin()
    there, here = load_motion(weights, own), load_motion(weights, gnm)
    assert there.remark is None and here.remark is not None and "as they move the built-in one" in here.remark
    assert here.sequence.jaw_pose is None
    still = replace(there.sequence, expr=torch.zeros_like(there.sequence.expr), jaw_pose=torch.zeros(len(FRAMES), 3))
    skin = own.regions["skin"]
    for row, frame in enumerate(FRAMES):
        start, wanted = (motion.mesh(own, row).vertices[skin] for motion in (still, there.sequence))
        error, moved = here.sequence.mesh(gnm, row).vertices[skin] - wanted, wanted - start
        assert float(error.norm()) < 0.3 * float(moved.norm()), frame
        assert float(moved.norm(dim=1).max()) > MILLIMETRE, frame
    assert float(here.sequence.eyes_pose[3, 1]) == pytest.approx(-GAZE_SIDEWAYS)  # pyright: ignore[reportOptionalSubscript]


def test_the_map_is_computed_once(gnm: FlameModel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = face_map(gnm)
    monkeypatch.setattr(module, "expression_units", None)
    assert face_map(gnm) is first and not first.bounded


def test_a_file_goes_before_it(gnm: FlameModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "map.npz", names=["jawOpen"], expr=np.full((1, gnm.n_expr), 0.25, np.float32))
    mapped = face_map(gnm, tmp_path / "map.npz")
    place = columns(gnm.n_expr)["expr"]
    assert (mapped.matrix[mapped.names.index("jawOpen"), place] == 0.25).all()
    assert not mapped.matrix[mapped.names.index("mouthSmileLeft"), place].any()


def test_a_head_of_another_unit_has_its_joints_moved_and_says_why(tmp_path: Path, weights: Path) -> None:
    arrays = nameless()
    large = {key: 100 * value for key, value in arrays.items() if key.endswith(("_basis", "_positions"))}
    head = saved(tmp_path / "centimetres.npz", arrays | large)
    mapped = face_map(head)
    assert mapped.remark is not None and "100 times as large" in mapped.remark and "move its eyes, neck" in mapped.remark
    assert not mapped.matrix[:, columns(head.n_expr)["expr"]].any()
    with pytest.raises(UserError, match="or a GNM head with eyes, in metres"):
        load_motion(weights, head)


def test_flame_heads_without_names_keep_their_own_map(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = FlameModel.builtin()
    monkeypatch.setattr(head, "expression_names", None)
    mapped = face_map(head)
    assert mapped.matrix[mapped.names.index("jawOpen"), columns(head.n_expr)["jaw"]][0] == np.float32(JAW_ALONE)
    with pytest.raises(UserError, match="ARKit weights need a head"):
        load_motion(weights, head)
