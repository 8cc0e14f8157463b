import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import BUILTIN, FlameModel
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.reference import skinning as reference


def as_reference(keys) -> reference.Head:
    t = {k: torch.from_numpy(np.asarray(v, np.float32)).double() for k, v in keys.items()}
    dirs = t["shapedirs"]
    return reference.Head(t["v_template"], dirs[..., :5], dirs[..., 5:], t["posedirs"], t["J_regressor"], t["weights"])


def inputs(batch: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    sizes = {"shape": (5,), "expr": (4,), "rotation": (3,), "neck": (3,), "jaw": (3,), "eyes": (6,), "translation": (3,)}
    values = {name: torch.randn(*batch, *size) for name, size in sizes.items()}
    return {**values, "static_offset": torch.randn(*batch, 30, 3) * 0.01, "dynamic_offset": torch.randn(*batch, 30, 3) * 0.01}


def truth(keys, v):
    pose = torch.cat([v["rotation"], v["neck"], v["jaw"], v["eyes"]]).view(5, 3)
    return reference.flame(
        as_reference(keys), v["shape"], v["expr"], pose, v["translation"], v["static_offset"] + v["dynamic_offset"]
    )


# Metres: float32 rounds the coordinates of a head to 3e-8, and a vertex sums some tens of terms.
METRES = 1e-6


def test_golden_vertices(shared) -> None:
    golden = np.load(shared / "golden" / "flame_lbs.npz")
    head = FlameModel.load(shared / "data" / "flame2023_open.npz", teeth=False)
    pose = torch.from_numpy(golden["pose_root_neck_jaw_leye_reye"]).float()
    shape, translation = (torch.from_numpy(golden[k]).float() for k in ("shape", "translation"))
    mesh = head(shape, None, pose[:, 0], pose[:, 1], pose[:, 2], pose[:, 3:].reshape(4, 6), translation)
    assert np.abs(mesh.vertices.numpy() - golden["vertices"]).max() < METRES
    one = head(shape[2], None, pose[2, 0], pose[2, 1], pose[2, 2], pose[2, 3:].reshape(6), translation[2])
    assert np.abs(one.vertices.numpy() - golden["vertices"][2]).max() < METRES


def test_matches_the_reference_in_value_and_gradient(head_path, keys) -> None:
    head = FlameModel.load(head_path)
    values = inputs()
    leaves = {k: v.clone().requires_grad_() for k, v in values.items()}
    doubles = {k: v.double().requires_grad_() for k, v in values.items()}
    mesh = head(**leaves)
    want = truth(keys, doubles)
    got = (mesh.vertices, mesh.canonical, mesh.joints)
    assert [tuple(t.shape) for t in got] == [(30, 3), (30, 3), (5, 3)] and mesh.landmarks is None
    upstream = [torch.randn_like(t) for t in got]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.double(), b, atol=2 * METRES, rtol=0)
    a = torch.autograd.grad(got, list(leaves.values()), upstream)
    b = torch.autograd.grad(want, list(doubles.values()), [u.double() for u in upstream])
    for name, x, y in zip(values, a, b, strict=True):
        assert float((x.double() - y).norm() / y.norm()) < 1e-5, name


def test_a_batch_is_its_members(head_path) -> None:
    head = FlameModel.load(head_path)
    values = inputs((3,))
    together = head(**values)
    for i in range(3):
        alone = head(**{k: v[i] for k, v in values.items()})
        assert torch.equal(together.vertices[i], alone.vertices)
        assert torch.equal(together.joints[i], alone.joints)


def test_one_shape_serves_a_batch_and_its_gradient_is_the_sum(head_path) -> None:
    head = FlameModel.load(head_path)
    values = inputs((3,))
    shape = torch.randn(5, requires_grad=True)
    offset = torch.randn(30, 3, requires_grad=True)
    mesh = head(**{**values, "shape": shape, "static_offset": offset})
    mesh.vertices.pow(2).sum().backward()
    parts = [torch.zeros(5), torch.zeros(30, 3)]
    for i in range(3):
        leaf, leaf_offset = shape.detach().clone().requires_grad_(), offset.detach().clone().requires_grad_()
        one = head(**{**{k: v[i] for k, v in values.items()}, "shape": leaf, "static_offset": leaf_offset})
        assert torch.equal(one.vertices, mesh.vertices[i])
        one.vertices.pow(2).sum().backward()
        parts[0] += leaf.grad
        parts[1] += leaf_offset.grad
    torch.testing.assert_close(shape.grad, parts[0], rtol=1e-5, atol=1e-6)  # float32 sums in another order
    torch.testing.assert_close(offset.grad, parts[1], rtol=1e-5, atol=1e-6)


def test_rest_is_kept_apart_from_pose(head_path) -> None:
    head = FlameModel.load(head_path)
    v = inputs()
    shaped = head.shaped(v["shape"], v["static_offset"])
    moving = {name: v[name] for name in HeadPose._fields}
    posed = head.pose(shaped, HeadPose(**moving))
    assert torch.equal(posed.vertices, head(**v).vertices)


def test_none_and_empty_are_zero(head_path) -> None:
    head = FlameModel.load(head_path)
    zeros = {k: torch.zeros_like(v) for k, v in inputs().items()}
    want = head(**zeros).vertices
    assert torch.equal(head().vertices, want)
    assert torch.equal(head(torch.zeros(0), torch.zeros(0), static_offset=torch.zeros(0, 3)).vertices, want)
    torch.testing.assert_close(want, head.v_template, atol=1e-7, rtol=0)


def test_zero_centred_puts_the_root_joint_at_the_translation(head_path) -> None:
    head = FlameModel.load(head_path)
    v = inputs()
    mesh = head.pose(head.shaped(v["shape"]), HeadPose(rotation=v["rotation"], translation=v["translation"]), zero_centred=True)
    torch.testing.assert_close(mesh.joints[0], v["translation"], atol=METRES, rtol=0)


def test_landmarks_are_barycentric_points_of_the_posed_mesh(tmp_path, keys) -> None:
    barycentric = np.random.default_rng(0).dirichlet((1, 1, 1), 70)
    faces = np.arange(70) % 40
    path = tmp_path / "head.npz"
    np.savez(path, **keys, full_lmk_faces_idx=faces[None], full_lmk_bary_coords=barycentric[None])
    head = FlameModel.load(path)
    mesh = head(**inputs())
    want = torch.einsum("lcd,lc->ld", mesh.vertices[head.faces[faces]], torch.from_numpy(barycentric).float())
    torch.testing.assert_close(mesh.landmarks, want, atol=METRES, rtol=0)
    assert head(**inputs((2,))).landmarks.shape == (2, 70, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expr": torch.zeros(50)}, r"expr: got shape \(50\), want \(4\)"),
        ({"shape": torch.zeros(3, 6)}, r"shape: got shape \(3, 6\), want \(B, 5\)"),
        ({"jaw": torch.full((3,), torch.nan)}, r"jaw: holds nan at \[0\]"),
        ({"rotation": [0, 0, 0]}, "rotation: got list, want a float32 tensor"),
        ({"eyes": torch.zeros(2, 6), "neck": torch.zeros(3, 3)}, "eyes: got a batch of 2, want 3"),
        ({"translation": torch.zeros(3).double()}, "translation: got float64, want float32"),
        ({"static_offset": torch.zeros(31, 3)}, r"static_offset: got shape \(31, 3\), want \(30, 3\)"),
    ],
)
def test_wrong_arguments_are_named(head_path, change, message) -> None:
    head = FlameModel.load(head_path)
    with pytest.raises(UserError, match=message):
        head(**{**inputs(), **change})


def test_fewer_components_leave_the_rest_out(head_path) -> None:
    full, part = FlameModel.load(head_path), FlameModel.load(head_path, n_shape=2, n_expr=1)
    assert (part.n_shape, part.n_expr) == (2, 1)
    shape, expr = torch.randn(2), torch.randn(1)
    padded = torch.cat([shape, torch.zeros(3)]), torch.cat([expr, torch.zeros(3)])
    torch.testing.assert_close(part(shape, expr).vertices, full(*padded).vertices, atol=1e-7, rtol=0)
    with pytest.raises(UserError, match=r"n_expr: got 100, but .*head.npz holds 4"):
        FlameModel.load(head_path, n_expr=100)


def test_teeth_of_flame(shared) -> None:
    path = shared / "data" / "flame2023_open.npz"
    head, bare = FlameModel.load(path), FlameModel.load(path, teeth=False)
    assert (head.num_vertices, head.num_faces, bare.num_vertices, bare.num_faces) == (5143, 10144, 5023, 9976)
    assert head.has_teeth and not bare.has_teeth
    assert torch.equal(head.v_template[:5023], bare.v_template) and torch.equal(head.faces[:9976], bare.faces)
    assert (head.identity["teeth"], bare.identity["teeth"]) == (True, False)
    # The upper row rides on the neck, the lower on the jaw.
    opened = head(jaw=torch.tensor([0.3, 0, 0])).vertices - head().vertices
    assert float(opened[head.regions["teeth_upper"]].abs().max()) < METRES
    assert float(opened[head.regions["teeth_lower"], 1].max()) < -0.005


def test_teeth_need_the_topology_of_flame(head_path) -> None:
    assert not FlameModel.load(head_path).has_teeth
    with pytest.raises(UserError, match=r"teeth fit FLAME's 5023 vertices and 9976 triangles; this head has 30 and 40"):
        FlameModel.load(head_path, teeth=True)


@pytest.mark.skipif(not BUILTIN.is_file(), reason="the built-in head has not been made yet (tools/)")
def test_the_built_in_head() -> None:
    head = FlameModel.builtin()
    assert (head.n_shape, head.n_expr, len(head.expression_names)) == (40, 52, 52)
    assert head.identity == {"head": "builtin-1"}
    assert head.uv.shape == (head.num_faces, 3, 2) and head.has_teeth
    assert {"skin", "lips", "eye_left", "eye_right", "scalp", "teeth_upper", "teeth_lower", "tongue"} <= set(head.regions)
    expr = torch.zeros(52)
    expr[head.expression_names.index("jawOpen")] = 1
    mesh, neutral = head(expr=expr), head()
    lower, upper = head.regions["teeth_lower"], head.regions["teeth_upper"]
    assert float((mesh.vertices - neutral.vertices)[lower, 1].mean()) < -0.005
    assert float((mesh.vertices - neutral.vertices)[upper].abs().max()) < 0.002
    # An eye turns about its own joint.
    turned = head(eyes=torch.tensor([0, 0.4, 0, 0, 0, 0])).vertices - neutral.vertices
    assert float(turned[head.regions["eye_left"]].norm(dim=1).mean()) > 0.001
    assert float(turned[head.regions["eye_right"]].abs().max()) < METRES


def test_scripts_of_0_1_0_find_the_shaped_head():
    head = FlameModel.builtin()
    shape = 0.5 * torch.ones(head.n_shape)
    assert torch.equal(head.pose(head.rest(shape)).vertices, head.pose(head.shaped(shape)).vertices)
