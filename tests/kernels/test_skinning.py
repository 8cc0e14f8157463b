import math

import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.ops.skinning import Rig, blend, pack_basis, regressed, skin, with_joints
from taichi_avatars.reference import skinning as reference

CORRECTIVES = 36
# Against float64. float32 rounds the coordinates here, of up to some metres, to 2e-7; a vertex sums some tens of terms.
METRES = 2e-6
GRADIENT = 1e-5  # relative norm; a gradient sums over all vertices


def random_head(n_vertices: int, n_shape: int = 4, n_expr: int = 7) -> reference.Head:
    weights = torch.rand(n_vertices, 5).double() ** 4
    weights[torch.rand(n_vertices, 5) < 0.5] = 0
    weights[:, 1] += 1e-3
    regressor = torch.rand(5, n_vertices).double()
    components = torch.randn(n_vertices, 3, n_shape + n_expr).double() * 0.01
    return reference.Head(
        torch.randn(n_vertices, 3).double() * 0.1,
        components[..., :n_shape],
        components[..., n_shape:],
        torch.randn(n_vertices, 3, CORRECTIVES).double() * 0.01,
        regressor / regressor.sum(1, keepdim=True),
        weights / weights.sum(1, keepdim=True),
    )


def run(head: reference.Head, shape, expr, pose, translation, offset):
    """The ops put together as FlameModel does, with a batch axis."""
    regressor = head.regressor.T.float().contiguous()
    rig = Rig(
        head.weights.float(),
        regressor,
        pack_basis(head.exprdirs.float(), regressed(head.exprdirs.float(), regressor), head.posedirs.float()),
        head.exprdirs.shape[2],
    )
    template = with_joints(head.v_template.float()[None], regressor).expand(len(shape), -1)
    shapedirs = head.shapedirs.float()
    rest = blend(template, shape, pack_basis(shapedirs, regressed(shapedirs, regressor))) + with_joints(offset, regressor)
    vertices, joints, canonical = skin(rest, expr, pose, translation, rig)
    n = len(head.v_template)
    return vertices, canonical[:, : 3 * n].unflatten(1, (n, 3)), joints


def run_reference(head: reference.Head, shape, expr, pose, translation, offset):
    bodies = [
        reference.flame(head, *args) for args in zip(shape, expr, pose.unflatten(1, (5, 3)), translation, offset, strict=True)
    ]
    return tuple(torch.stack(parts) for parts in zip(*bodies, strict=True))


def parameters(head: reference.Head, bodies: int, pose: torch.Tensor | None = None) -> list[torch.Tensor]:
    n, s, e = len(head.v_template), head.shapedirs.shape[2], head.exprdirs.shape[2]
    turns = torch.randn(bodies, 15) if pose is None else pose
    return [torch.randn(bodies, s), torch.randn(bodies, e), turns, torch.randn(bodies, 3), torch.randn(bodies, n, 3) * 0.01]


def gradients(function, head, values, upstream, dtype):
    leaves = [v.clone().to(dtype).requires_grad_() for v in values]
    return torch.autograd.grad(function(head, *leaves), leaves, [g.to(dtype) for g in upstream])


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


NAMES = ("shape", "expr", "pose", "translation", "offset")


@pytest.mark.parametrize(("bodies", "n_vertices"), [(1, 1), (1, 27), (3, 37), (2, 611)])
def test_matches_the_reference(bodies: int, n_vertices: int) -> None:
    head = random_head(n_vertices)
    values = parameters(head, bodies)
    got = run(head, *values)
    want = run_reference(head, *(v.double() for v in values))
    for name, a, b in zip(("vertices", "canonical", "joints"), got, want, strict=True):
        assert float((a.double() - b).abs().max()) < METRES, name
    upstream = [torch.randn_like(t) for t in got]
    got_g = gradients(run, head, values, upstream, torch.float32)
    want_g = gradients(run_reference, head, values, upstream, torch.float64)
    for name, a, b in zip(NAMES, got_g, want_g, strict=True):
        assert relative(a, b) < GRADIENT, name


@pytest.mark.parametrize("field", [0, 1, 2])
def test_each_output_alone_has_the_right_gradient(field: int) -> None:
    head = random_head(40)
    values = parameters(head, 2)
    outputs = run(head, *values)
    upstream = [torch.randn_like(t) if i == field else torch.zeros_like(t) for i, t in enumerate(outputs)]
    got = gradients(run, head, values, upstream, torch.float32)
    want = gradients(run_reference, head, values, upstream, torch.float64)
    for name, a, b in zip(NAMES, got, want, strict=True):
        assert float((a.double() - b).norm()) < GRADIENT * float(b.norm()) + 1e-6, name  # some are 0


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.1, 0.999, 1.0, 1.001, 2.5, math.pi - 1e-4, math.pi, math.pi + 1e-3, 6.0])
def test_rotations_of_every_size(angle: float) -> None:
    head = random_head(30)
    axes = torch.nn.functional.normalize(torch.randn(4, 5, 3), dim=2)
    values = parameters(head, 4, (axes * angle).view(4, 15))
    got, want = run(head, *values), run_reference(head, *(v.double() for v in values))
    for a, b in zip(got, want, strict=True):
        assert float((a.double() - b).abs().max()) < METRES
    upstream = [torch.randn_like(t) for t in got]
    a = gradients(run, head, values, upstream, torch.float32)[2]
    b = gradients(run_reference, head, values, upstream, torch.float64)[2]
    assert relative(a, b) < GRADIENT


def test_reference_gradients_match_finite_differences() -> None:
    head = random_head(5, 2, 2)
    values = [v.double()[0].requires_grad_() for v in parameters(head, 1)]

    def function(shape, expr, pose, translation, offset):
        return reference.flame(head, shape, expr, pose.view(5, 3), translation, offset)

    assert torch.autograd.gradcheck(function, values)


def test_the_pose_of_zero_is_the_canonical_head() -> None:
    head = random_head(50)
    shape, expr, _, _, offset = parameters(head, 1)
    vertices, canonical, joints = run(head, shape, expr, torch.zeros(1, 15), torch.zeros(1, 3), offset)
    torch.testing.assert_close(vertices, canonical, atol=METRES, rtol=0)
    torch.testing.assert_close(joints[0].double(), head.regressor @ canonical[0].double(), atol=METRES, rtol=0)


def test_a_turn_of_the_root_turns_everything_about_the_root_joint() -> None:
    head = random_head(50)
    shape, expr, pose, translation, offset = parameters(head, 1)
    pose[:, :3] = 0
    still, _, joints = run(head, shape, expr, pose, torch.zeros(1, 3), offset)
    turned_pose = pose.clone()
    turned_pose[0, 1] = 1.2
    turned, _, turned_joints = run(head, shape, expr, turned_pose, translation, offset)
    turn = reference.rotation(torch.tensor([0, 1.2, 0])).float()
    root = joints[:, :1]
    torch.testing.assert_close(turned, (still - root) @ turn.T + root + translation, atol=METRES, rtol=0)
    torch.testing.assert_close(turned_joints, (joints - root) @ turn.T + root + translation, atol=METRES, rtol=0)


def test_a_body_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    head = random_head(100)
    values = parameters(head, 3)
    together = run(head, *values)
    upstream = [torch.randn_like(t) for t in together]
    together_g = gradients(run, head, values, upstream, torch.float32)
    for i in range(3):
        alone = [v[i : i + 1] for v in values]
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together, run(head, *alone), strict=True))
        alone_g = gradients(run, head, alone, [g[i : i + 1] for g in upstream], torch.float32)
        assert all(torch.equal(a[i : i + 1], b) for a, b in zip(together_g, alone_g, strict=True))


def test_same_input_same_bits() -> None:
    head = random_head(1000)
    values = parameters(head, 1)
    outputs = run(head, *values)
    upstream = [torch.randn_like(t) for t in outputs]
    first = gradients(run, head, values, upstream, torch.float32)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(outputs, run(head, *values), strict=True))
        again = gradients(run, head, values, upstream, torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_no_expressions_and_no_correctives() -> None:
    head = random_head(20, 3, 0)
    regressor = head.regressor.T.float().contiguous()
    rig = Rig(head.weights.float(), regressor, pack_basis(torch.zeros(20, 3, 0), torch.zeros(5, 3, 0)), 0)
    pose = torch.randn(2, 15, requires_grad=True)
    rest = with_joints(head.v_template.float()[None].expand(2, -1, -1), regressor)
    vertices, *_ = skin(rest, torch.zeros(2, 0), pose, torch.zeros(2, 3), rig)
    bare = reference.Head(head.v_template, head.shapedirs, head.exprdirs, head.posedirs * 0, head.regressor, head.weights)
    zeros = torch.zeros(3).double(), torch.zeros(0).double()
    truth = [pose[i].detach().double().requires_grad_() for i in range(2)]
    for i in range(2):
        want, *_ = reference.flame(bare, *zeros, truth[i].view(5, 3), torch.zeros(3), torch.zeros(20, 3))
        torch.testing.assert_close(vertices[i].double(), want, atol=METRES, rtol=0)
        want.pow(2).sum().backward()
    vertices.pow(2).sum().backward()
    torch.testing.assert_close(pose.grad.double(), torch.stack([t.grad for t in truth]), atol=GRADIENT, rtol=GRADIENT)


def test_wrong_arguments_are_named() -> None:
    head = random_head(20)
    shape, expr, pose, translation, offset = parameters(head, 2)
    with pytest.raises(UserError, match=r"expr: got shape \(2, 6\), want \(B=2, 7\)"):
        run(head, shape, expr[:, :6], pose, translation, offset)
    with pytest.raises(UserError, match="pose: holds nan"):
        run(head, shape, expr, pose * math.nan, translation, offset)
    with pytest.raises(UserError, match=r"translation: got shape \(1, 3\), want \(B=2, 3\)"):
        run(head, shape, expr, pose, translation[:1], offset)
