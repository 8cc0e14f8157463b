import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence


@pytest.fixture
def head(head_path) -> FlameModel:
    return FlameModel.load(head_path)


def parameters(count: int = 4, *, n_shape: int = 5, n_expr: int = 4, n_vertices: int = 30) -> dict[str, np.ndarray]:
    g = np.random.default_rng(0)
    sizes = {"expr": n_expr, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    values = {key: g.normal(size=(count, size)).astype(np.float32) for key, size in sizes.items()}
    return {**values, "shape": g.normal(size=n_shape).astype(np.float32),
            "static_offset": g.normal(size=(1, n_vertices, 3)).astype(np.float32) * 0.01}  # fmt: skip


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_what_is_written_is_read(tmp_path, head) -> None:
    one = FlameSequence.load_npz(write(tmp_path / "a.npz", **parameters()), head)
    one.save_npz(tmp_path / "b.npz")
    two = FlameSequence.load_npz(tmp_path / "b.npz", head)
    assert two.timesteps == [0, 1, 2, 3]
    for name in ("shape", "expr", "rotation", "neck_pose", "jaw_pose", "eyes_pose", "translation", "static_offset"):
        assert torch.equal(getattr(one, name), getattr(two, name)), name
    with np.load(tmp_path / "b.npz") as file:
        assert set(file.files) == set(parameters())
        assert file["static_offset"].shape == (1, 30, 3)


def test_timesteps_that_do_not_count_from_zero_are_kept(tmp_path, head) -> None:
    frames = {t: write(tmp_path / f"{t:05d}.npz", **parameters(1)) for t in (12, 3, 40)}
    sequence = FlameSequence.from_frames(frames, head)
    sequence.save_npz(tmp_path / "all.npz")
    again = FlameSequence.load_npz(tmp_path / "all.npz", head)
    assert again.timesteps == [3, 12, 40] and again.row(12) == 1
    with pytest.raises(UserError, match="timestep 5: there is none; the 3 known ones run from 3 to 40"):
        again.row(5)


@pytest.mark.parametrize("leading", [True, False])
def test_frames_with_and_without_a_leading_axis(tmp_path, head, leading: bool) -> None:
    values = parameters(1)
    if leading:
        values["shape"] = values["shape"][None]
        values["dynamic_offset"] = np.ones((1, 30, 3), np.float32)
    else:
        values = {k: v if k == "shape" else v[0] for k, v in values.items()}
        values["dynamic_offset"] = np.ones((30, 3), np.float32)
    sequence = FlameSequence.from_frames({7: write(tmp_path / "7.npz", **values)}, head)
    assert sequence.shape.shape == (5,) and sequence.expr.shape == (1, 4) and sequence.eyes_pose.shape == (1, 6)
    assert sequence.static_offset.shape == (30, 3) and sequence.dynamic_offset.shape == (1, 30, 3)


def test_a_shape_repeated_for_every_timestep_is_one_shape(tmp_path, head) -> None:
    values = parameters(4)
    rows = np.tile(values["shape"], (4, 1))
    sequence = FlameSequence.load_npz(write(tmp_path / "a.npz", **{**values, "shape": rows}), head)
    assert torch.equal(sequence.shape, torch.from_numpy(values["shape"]))
    rows[2, 1] += 0.5
    with pytest.raises(UserError, match=r"a\.npz: shape has 4 rows, and row 2 differs"):
        FlameSequence.load_npz(write(tmp_path / "a.npz", **{**values, "shape": rows}), head)


def test_fewer_coefficients_and_vertices_are_padded_with_zeros(tmp_path, head) -> None:
    path = write(tmp_path / "a.npz", **parameters(2, n_shape=3, n_expr=1, n_vertices=20))
    sequence = FlameSequence.load_npz(path, head)
    assert sequence.shape.shape == (5,) and sequence.expr.shape == (2, 4) and sequence.static_offset.shape == (30, 3)
    assert not sequence.shape[3:].any() and not sequence.expr[:, 1:].any() and not sequence.static_offset[20:].any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_expr": 6}, "expr holds 6 expression components, but the head has 4"),
        ({"n_shape": 300}, "shape holds 300 shape components, but the head has 5"),
        ({"n_vertices": 5143}, "static_offset holds 5143 vertices, but the head has 30"),
    ],
)
def test_more_than_the_head_has_names_both_numbers(tmp_path, head, sizes, message) -> None:
    with pytest.raises(UserError, match=rf"a\.npz: {message}"):
        FlameSequence.load_npz(write(tmp_path / "a.npz", **parameters(**sizes)), head)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neck_pose": None}, r"lacks neck_pose; it holds expr, eyes_pose"),
        ({"jaw_pose": np.zeros((4, 4))}, r"jaw_pose has shape \(4, 4\), want \(T, 3\)"),
        ({"translation": np.zeros((3, 3))}, "translation holds 3 timesteps, expr 4"),
        ({"rotation": np.full((4, 3), np.nan)}, "rotation holds NaN or infinite numbers"),
        ({"rotation": np.array(["a"] * 4)}, "rotation holds no numbers"),
        ({"eyes_pose": np.array([{}] * 4)}, "eyes_pose cannot be read"),
        ({"timesteps": np.array([0, 2, 2, 3])}, "timesteps must be 4 increasing numbers"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, head, change, message) -> None:
    values = {k: v for k, v in {**parameters(), **change}.items() if v is not None}
    with pytest.raises(UserError, match=rf"a\.npz: {message}"):
        FlameSequence.load_npz(write(tmp_path / "a.npz", **values), head)


def test_keys_of_a_tracker_that_are_not_ours_are_left_alone(tmp_path, head) -> None:
    path = write(tmp_path / "a.npz", **parameters(), tex=np.zeros(3), focal_length=np.ones(1))
    assert len(FlameSequence.load_npz(path, head)) == 4


@pytest.mark.parametrize("content", [b"", b"not an npz", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_one_line(tmp_path, head, content) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz: ") as caught:
        FlameSequence.load_npz(path, head)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"gone\.npz: cannot be read"):
        FlameSequence.load_npz(tmp_path / "gone.npz", head)


def test_mesh_is_the_head_at_that_row(tmp_path, head) -> None:
    sequence = FlameSequence.load_npz(write(tmp_path / "a.npz", **parameters()), head)
    want = head(sequence.shape, sequence.expr[2], sequence.rotation[2], sequence.neck_pose[2], sequence.jaw_pose[2],
                sequence.eyes_pose[2], sequence.translation[2], sequence.static_offset)  # fmt: skip
    assert torch.equal(sequence.mesh(head, 2).vertices, want.vertices)


def test_the_kept_rest_follows_changes_and_gradients(tmp_path, head) -> None:
    sequence = FlameSequence.load_npz(write(tmp_path / "a.npz", **parameters()), head)
    shaped = sequence.shaped(head)
    assert sequence.shaped(head) is shaped
    sequence.shape += 1
    assert not torch.equal(sequence.shaped(head).shapes, shaped.shapes)
    sequence.shape.requires_grad_()
    sequence.mesh(head, 0).vertices.sum().backward()
    assert sequence.shape.grad is not None


def test_zero_offsets_are_written_only_when_asked_for(tmp_path, head) -> None:
    values = {k: v for k, v in parameters(2).items() if k != "static_offset"}
    values["dynamic_offset"] = np.zeros((2, 30, 3), np.float32)
    sequence = FlameSequence.load_npz(write(tmp_path / "a.npz", **values), head)
    assert sequence.dynamic_offset is None
    sequence.dynamic_offset = torch.zeros(2, 30, 3)
    sequence.save_npz(tmp_path / "b.npz")
    sequence.save_npz(tmp_path / "c.npz", full_for=30)
    with np.load(tmp_path / "b.npz") as b, np.load(tmp_path / "c.npz") as c:
        assert not {"static_offset", "dynamic_offset"} & set(b.files)
        assert c["static_offset"].shape == (1, 30, 3) and c["dynamic_offset"].shape == (2, 30, 3)


def test_no_frames_is_an_error(head) -> None:
    with pytest.raises(UserError, match="no FLAME parameters"):
        FlameSequence.from_frames({}, head)
