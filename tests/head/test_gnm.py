"""Heads whose joints have roles: GNM's layout read, posed, written, and what such a head does not have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from head.gnm_layout import full_size_arrays, gnm_arrays

from taichi_avatars.errors import UserError
from taichi_avatars.head.assets import convert_flame, convert_head, resolve_head, write_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.reference import skinning as reference

VERTICES, SHAPES, EXPRESSIONS = 37, 6, 9


def random_arrays(seed: int = 0, order: tuple[int, ...] = (0, 1, 2, 3)) -> dict[str, np.ndarray]:
    """A small head in GNM's layout with metres as a head has; joint `order[k]` of neck, head and eyes stands at place k."""
    g = np.random.default_rng(seed)
    weights = g.random((4, VERTICES)) ** 4 + 1e-3
    parents, back = np.array([0, 0, 1, 1]), np.argsort(order)
    arrays = {
        "template_vertex_positions": 0.1 * g.normal(size=(VERTICES, 3)),
        "template_joint_positions": 0.1 * g.normal(size=(4, 3)),
        "vertex_identity_basis": 0.01 * g.normal(size=(SHAPES, VERTICES, 3)),
        "joint_identity_basis": 0.01 * g.normal(size=(SHAPES, 4, 3)),
        "expression_basis": 0.01 * g.normal(size=(EXPRESSIONS, VERTICES, 3)),
        "skinning_weights": weights / weights.sum(0),
        "pose_correctives_regressor": 0.01 * g.normal(size=(36, 3 * VERTICES)),
        "joint_regressor": g.random((4, VERTICES)),
    }
    arrays["expression_basis"][:4, :20] = 0  # components that move a part
    arrays["expression_basis"][6:, 5:] = 0
    quads = np.stack([g.permutation(VERTICES)[:4] for _ in range(12)])
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        **{key: values.astype(np.float32) for key, values in arrays.items()},
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"])[list(order)],
        "joint_parent_indices": back[parents[list(order)]].astype(np.int32),
        "expression_names": np.array([f"lower_face_region_{k:03d}" for k in range(EXPRESSIONS)]),
        "identity_names": np.array([f"head_{k:03d}" for k in range(SHAPES)]),
        "quads": quads.astype(np.int32),
        "triangles": np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32),
    }


def in_order(arrays: dict[str, np.ndarray], order: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The joints of a head whose `order` is the usual one, put into another."""
    at, out = list(order), dict(arrays)
    for key in ("template_joint_positions", "skinning_weights", "joint_regressor", "joint_names"):
        out[key] = arrays[key][at]
    out["joint_identity_basis"] = arrays["joint_identity_basis"][:, at]
    out["joint_parent_indices"] = np.argsort(order)[arrays["joint_parent_indices"][at]]
    out["pose_correctives_regressor"] = arrays["pose_correctives_regressor"].reshape(4, 9, -1)[at].reshape(36, -1)
    return out


def save(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def twin(arrays: dict[str, np.ndarray]) -> reference.JointedHead:
    keys = ("template_vertex_positions", "template_joint_positions", "vertex_identity_basis", "joint_identity_basis")
    more = ("expression_basis", "pose_correctives_regressor", "skinning_weights")
    values = [torch.from_numpy(arrays[key]).double() for key in (*keys, *more)]
    return reference.JointedHead(*values, tuple(arrays["joint_parent_indices"].tolist()))


def inputs(
    bodies: int, vertices: int = VERTICES, shapes: int = SHAPES, expressions: int = EXPRESSIONS
) -> dict[str, torch.Tensor]:
    sizes = {"shape": shapes, "expr": expressions, "rotation": 3, "neck": 3, "eyes": 6, "translation": 3}
    values = {name: torch.randn(bodies, size) for name, size in sizes.items()}
    return values | {"static_offset": 0.01 * torch.randn(bodies, vertices, 3)}


def twin_of(head: reference.JointedHead, values: dict[str, torch.Tensor], body: int):
    v = {name: value[body] for name, value in values.items()}
    pose = torch.cat([v["rotation"], v["neck"], v["eyes"]]).view(4, 3)
    return reference.jointed(head, v["shape"], v["expr"], pose, v["translation"], v["static_offset"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "gnm_head.npz", random_arrays())


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_forward_and_gradients_are_those_of_the_float64_twin(tmp_path: Path, order: tuple[int, ...]) -> None:
    arrays = random_arrays()
    head = FlameModel.load(save(tmp_path / "head.npz", in_order(arrays, order)))
    values = inputs(2)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    doubles = {name: value.double().requires_grad_() for name, value in values.items()}
    mesh = head(**leaves)
    got = mesh.vertices, mesh.canonical, mesh.joints
    want = [torch.stack(parts) for parts in zip(*(twin_of(twin(arrays), doubles, body) for body in range(2)), strict=True)]
    assert mesh.joints.shape == (2, 4, 3)
    for a, b in zip(got, want, strict=True):
        assert float((a.double() - b).detach().abs().max()) < 1e-6
    upstream = [torch.randn_like(t) for t in got]
    a = torch.autograd.grad(got, list(leaves.values()), upstream)
    b = torch.autograd.grad(want, list(doubles.values()), [u.double() for u in upstream])
    for name, x, y in zip(values, a, b, strict=True):
        assert float((x.double() - y).norm() / y.norm()) < 1e-5, name


def test_the_twins_gradients_are_those_of_finite_differences() -> None:
    head = twin(random_arrays())
    values = {name: value.double() for name, value in inputs(1).items()}
    names = list(values)

    def function(*leaves: torch.Tensor):
        return twin_of(head, dict(zip(names, leaves, strict=True)), 0)

    assert torch.autograd.gradcheck(function, [value.requires_grad_() for value in values.values()], fast_mode=True)


def test_gradients_are_those_of_finite_differences_of_the_kernels_themselves(path: Path) -> None:
    head, values = FlameModel.load(path), inputs(1)
    upstream = torch.randn(1, VERTICES, 3)

    def energy(**leaves: torch.Tensor) -> torch.Tensor:
        return (head(**leaves).vertices * upstream).double().sum()

    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    energy(**leaves).backward()
    for name, value in values.items():
        along = torch.nn.functional.normalize(torch.randn_like(value).flatten(), dim=0).view_as(value)
        step = 1e-2  # float32: smaller ones drown
        ends = [energy(**{**values, name: value + sign * step * along}) for sign in (1.0, -1.0)]
        slope, gradient = float(ends[0] - ends[1]) / (2 * step), float((leaves[name].grad * along).sum())
        assert slope == pytest.approx(gradient, rel=2e-2, abs=2e-3), name


def test_joints_move_with_identity_and_not_with_expressions_or_offsets(path: Path) -> None:
    head, values = FlameModel.load(path), inputs(1)
    still = head(values["shape"])
    moved = head(values["shape"], values["expr"], static_offset=values["static_offset"])
    assert torch.equal(moved.joints, still.joints) and not torch.equal(moved.vertices, still.vertices)
    assert not torch.equal(head(0.5 * values["shape"]).joints, still.joints)


def test_a_jaw_is_absent_and_not_zero(path: Path, tmp_path: Path) -> None:
    head = FlameModel.load(path)
    assert head.roles == ("root", "neck", "left eye", "right eye")
    assert [part.name for part in head.parts] == ["rotation", "neck", "eyes", "translation"]
    with pytest.raises(UserError, match=r"jaw: this head has no such joint; it has root, neck, left eye, right eye"):
        head.pose(head.shaped(), HeadPose(jaw=torch.zeros(3)))
    parameters = {"shape": np.zeros(3), "expr": np.zeros((2, 4)), "rotation": np.ones((2, 3)), "neck_pose": np.zeros((2, 3))}
    parameters |= {"eyes_pose": np.zeros((2, 6)), "translation": np.zeros((2, 3))}
    sequence = FlameSequence.load_npz(save(tmp_path / "a.npz", parameters), head)
    assert sequence.jaw_pose is None and sequence.pose(1).jaw is None and "jaw_pose" not in sequence.moving()
    sequence.save_npz(tmp_path / "b.npz")
    assert "jaw_pose" not in np.load(tmp_path / "b.npz").files
    assert torch.equal(FlameSequence.load_npz(tmp_path / "b.npz", head).mesh(head, 0).vertices, sequence.mesh(head, 0).vertices)
    zeros = save(tmp_path / "c.npz", {**parameters, "jaw_pose": np.zeros((2, 3))})
    assert FlameSequence.load_npz(zeros, head).jaw_pose is None  # trackers write FLAME's parts, whatever the head
    with pytest.raises(UserError, match=r"d\.npz: jaw_pose is not 0, but the head has no such joint"):
        FlameSequence.load_npz(save(tmp_path / "d.npz", {**parameters, "jaw_pose": np.ones((2, 3))}), head)
    with pytest.raises(UserError, match=r"c\.npz: lacks neck_pose"):
        FlameSequence.load_npz(save(tmp_path / "c.npz", {k: v for k, v in parameters.items() if k != "neck_pose"}), head)


def renamed(*names: str, parents: tuple[int, ...] = (0, 0, 1, 1)) -> dict[str, np.ndarray]:
    return {**random_arrays(), "joint_names": np.array(names), "joint_parent_indices": np.array(parents)}


@pytest.mark.parametrize(
    "names", [("Neck", "Head", "LeftEye", "RightEye"), ("root", "neck_01", "eye.L", "eye.R"), ("a", "HEAD", "l_eye", "r_eye")]
)
def test_roles_follow_from_names_however_they_are_spelt(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert FlameModel.load(save(tmp_path / "head.npz", renamed(*names))).roles == ("root", "neck", "left eye", "right eye")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("neck", "skull", "left_eye", "right_eye"), "'skull' has no known role"),
        (renamed("neck", "head", "left_eye", "left_eye_2"), "two joints are the left eye"),
        (renamed("neck", "head", "left_eye", "right_eye", parents=(0, 1, 1, 1)), "two joints are the root"),
        (renamed("neck", "head", "left_eye", "jaw"), "there is one eye"),
        (renamed("neck", "head", "left_eye", "right_eye", parents=(0, 3, 1, 1)), "head cannot be a child of right_eye"),
        ({"skinning_weights": np.full((4, VERTICES), 0.3)}, r"sum to 1.2, want 1"),
        ({"expression_basis": np.zeros((2, 5, 3))}, r"expression_basis has shape \(2, 5, 3\), want \(E, 37, 3\)"),
        ({"joint_names": np.array(["neck"])}, "joint_names holds 1 names, want 4"),
        ({"triangles": None, "quads": None}, "lacks triangles and quads"),
        ({"joint_parent_indices": np.array([0, 0, 1, 9])}, "want the numbers of 4 joints"),
        ({"template_vertex_positions": np.full((VERTICES, 3), np.nan)}, "holds NaN"),
    ],
)
def test_broken_files_are_one_line(tmp_path: Path, change: dict, message: str) -> None:
    arrays = {key: value for key, value in {**random_arrays(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=rf"head\.npz: .*{message}") as error:
        FlameModel.load(save(tmp_path / "head.npz", arrays))
    assert "\n" not in str(error.value)


def test_quads_that_no_triangles_stand_for_are_cut(tmp_path: Path) -> None:
    arrays = random_arrays()
    quads, triangles = arrays["quads"], arrays["triangles"]
    other = triangles.copy()  # the last quad cut along its other diagonal, the first not at all
    other[11], other[23] = quads[11][[0, 1, 3]], quads[11][[1, 2, 3]]
    kept = np.delete(other, [0, 12], 0)
    faces = FlameModel.load(save(tmp_path / "head.npz", {**arrays, "triangles": kept})).faces.numpy()
    assert np.array_equal(faces[:22], kept) and np.array_equal(faces[22:], quads[0][[[0, 1, 2], [0, 2, 3]]])
    bare = FlameModel.load(save(tmp_path / "quads.npz", {key: v for key, v in arrays.items() if key != "triangles"}))
    assert np.array_equal(bare.faces.numpy(), triangles)


def test_there_and_back(tmp_path: Path) -> None:
    arrays = random_arrays()
    groups = np.random.default_rng(1).random((2, VERTICES)).astype(np.float32)
    arrays |= {"vertex_groups": groups, "vertex_group_names": np.array(["tongue", "left_eye"]), "extra": np.arange(3)}
    source = save(tmp_path / "gnm_head.npz", arrays)
    ours = convert_head(source, tmp_path / "ours.npz")
    again = np.load(convert_head(ours, tmp_path / "again.npz"))
    assert set(again.files) == set(arrays)
    for key, value in arrays.items():
        assert np.array_equal(again[key], value), key
    head, same, values = FlameModel.load(source), FlameModel.load(ours), inputs(1)
    assert torch.equal(head(**values).vertices, same(**values).vertices) and torch.equal(head.faces, same.faces)
    assert head.regions["eye_left"].tolist() == np.flatnonzero(groups[1] > 0.5).tolist()
    with pytest.raises(UserError, match="convert it with convert-head"):
        convert_flame(source, tmp_path / "flame.npz")


def test_what_is_no_gnm_head_is_not_converted(tmp_path: Path, head_path: Path) -> None:
    with pytest.raises(UserError, match="is not a GNM head, nor made from one; convert a FLAME file with convert-flame"):
        convert_head(head_path, tmp_path / "out.npz")
    with pytest.raises(UserError, match=r"want a name that ends in \.npz"):
        convert_head(head_path, tmp_path / "out.pkl")
    assert not (tmp_path / "out.npz").exists()


def test_head_json_finds_the_file_again(path: Path, tmp_path: Path) -> None:
    head = FlameModel.load(path)
    write_head_json(tmp_path, head)
    found = resolve_head(None, tmp_path)
    assert found.kind == "gnm" and found.identity == head.identity and found.identity["head"] == "gnm"
    path.unlink()
    with pytest.raises(UserError, match=r"asks for the GNM file gnm_head\.npz"):
        resolve_head(None, tmp_path)


def test_the_built_in_head_in_this_layout_is_the_built_in_head(tmp_path: Path) -> None:
    head, builtin = FlameModel.load(save(tmp_path / "head.npz", gnm_arrays())), FlameModel.builtin()
    shape, turns = 0.3 * torch.randn(40), 0.2 * torch.randn(12)
    pose = {"rotation": turns[:3], "neck": turns[3:6], "eyes": turns[6:]}
    difference = (head(shape, **pose).vertices - builtin(shape, **pose).vertices).abs().max()
    assert float(difference) < 2e-6  # metres: float32, joints by two ways
    assert {"eye_left", "teeth_upper", "mouth_inside"} <= head.regions.keys() and head.has_teeth


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A head of 17,821 vertices with every component that such a head may have, correctives included."""
    arrays = full_size_arrays()
    regressor = arrays["pose_correctives_regressor"]
    regressor[:, ::7] = 1e-3 * np.random.default_rng(2).normal(size=regressor[:, ::7].shape)
    return save(tmp_path_factory.mktemp("full") / "gnm_head.npz", arrays), arrays


def test_at_full_size_forward_and_slopes_are_the_twins(full_size: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, arrays = full_size
    head = FlameModel.load(path)
    sizes = 17821, len(arrays["vertex_identity_basis"]), len(arrays["expression_basis"])
    assert (head.num_vertices, head.n_shape, head.n_expr) == sizes
    values = {name: 0.3 * value for name, value in inputs(1, *sizes).items()}
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    mesh = head(**leaves)
    exact, doubles = twin(arrays), {name: value.double() for name, value in values.items()}
    vertices, canonical, joints = twin_of(exact, doubles, 0)
    for got, want in ((mesh.vertices, vertices), (mesh.canonical, canonical), (mesh.joints, joints)):
        assert float((got[0].double() - want).detach().abs().max()) < 1e-6  # metres
    upstream = torch.randn(sizes[0], 3)
    (mesh.vertices[0] * upstream).sum().backward()
    for name, value in doubles.items():  # differences of the twin, which float64 lets be small
        along = torch.nn.functional.normalize(torch.randn_like(value).flatten(), dim=0).view_as(value)
        ends = [twin_of(exact, {**doubles, name: value + step * along}, 0)[0] for step in (1e-5, -1e-5)]
        slope = float(((ends[0] - ends[1]) * upstream).sum()) / 2e-5
        gradient = leaves[name].grad
        assert gradient is not None
        assert float((gradient.double() * along).sum()) == pytest.approx(slope, rel=1e-4, abs=1e-4), name
