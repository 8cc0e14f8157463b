import math

import pytest
import roma
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.ops import Frames, bind
from taichi_avatars.reference import binding as reference
from taichi_avatars.reference.frames import quat_from_matrix

# Relative norms against float64. float32 rounds to 6e-8: a value takes some ten operations, a gradient of a frame sums over
# its Gaussians.
VALUE, GRADIENT = 1e-6, 1e-5


def some_frames(count: int, angle: float | None = None) -> Frames:
    rotvec = torch.nn.functional.normalize(torch.randn(count, 3).double(), dim=1)
    rotvec = rotvec * (angle if angle is not None else torch.rand(count, 1).double() * math.pi)
    rotation = roma.rotvec_to_rotmat(rotvec)
    return Frames(
        rotation.float(), torch.rand(count) * 0.01 + 1e-4, torch.randn(count, 3) * 0.1, quat_from_matrix(rotation).float()
    )


def gaussians(count: int, triangles: int) -> tuple[torch.Tensor, ...]:
    binding = torch.randint(0, triangles, (count,))
    return torch.randn(count, 3), torch.randn(count, 4) * torch.rand(count, 1) * 10, torch.randn(count, 3), binding


def values_and_gradients(function, local, binding, frames, upstream, dtype):
    leaves = [t.detach().clone().to(dtype).requires_grad_() for t in (*local, *frames)]
    world = function(*leaves[:3], binding, Frames(*leaves[3:]))
    return world, torch.autograd.grad(world, leaves, [g.to(dtype) for g in upstream], allow_unused=True)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm())


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
@pytest.mark.parametrize("angle", [None, 0.0, 1e-4, math.pi - 1e-4, math.pi])
def test_matches_the_reference(index: torch.dtype, angle: float | None) -> None:
    frames = some_frames(37, angle)
    *local, binding = gaussians(500, 37)
    upstream = [torch.randn(500, k) for k in (3, 4, 3)]
    got, got_g = values_and_gradients(bind, local, binding.to(index), frames, upstream, torch.float32)
    want, want_g = values_and_gradients(reference.bind, local, binding, frames, upstream, torch.float64)
    for field, a, b in zip(got._fields, got, want, strict=True):
        assert relative(a, b) < VALUE, field
    for name, a, b in zip(("means", "quats", "log_scales", *Frames._fields), got_g, want_g, strict=True):
        assert relative(a, b) < GRADIENT, name


def test_reference_gradients_match_finite_differences() -> None:
    frames = Frames(*(f.double().requires_grad_() for f in some_frames(3)))
    *local, binding = gaussians(7, 3)
    leaves = [t.double().requires_grad_() for t in local]
    assert torch.autograd.gradcheck(lambda *a: reference.bind(*a[:3], binding, Frames(*a[3:])), (*leaves, *frames))


def test_by_hand() -> None:
    # A triangle of scale 2, a quarter turn about z, at (1,0,0).
    rotation = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    half = math.sqrt(0.5)
    frames = Frames(rotation, torch.tensor([2.0]), torch.tensor([[1.0, 0, 0]]), torch.tensor([[half, 0, 0, half]]))
    world = bind(torch.tensor([[1.0, 0, 0]]), torch.tensor([[3.0, 0, 0, 3]]), torch.full((1, 3), math.log(0.5)),
                 torch.tensor([0]), frames)  # fmt: skip
    torch.testing.assert_close(world.means, torch.tensor([[1.0, 2, 0]]))
    torch.testing.assert_close(world.quats, torch.tensor([[0.0, 0, 0, 1]]))  # two quarter turns
    torch.testing.assert_close(world.scales, torch.ones(1, 3))


def test_zero_quaternions_and_zero_frames_are_finite() -> None:
    frames = Frames(torch.zeros(1, 3, 3), torch.zeros(1), torch.zeros(1, 3), torch.tensor([[0.5, 0, 0, 0]]))
    leaves = [t.requires_grad_() for t in (torch.randn(2, 3), torch.zeros(2, 4), torch.randn(2, 3))]
    world = bind(*leaves, torch.zeros(2, dtype=torch.int64), frames)
    for t in (*world, *torch.autograd.grad(sum((w * w).sum() for w in world), leaves)):
        assert torch.isfinite(t).all()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 4096])
def test_any_number_of_gaussians_on_few_triangles(count: int) -> None:
    frames = some_frames(5)
    *local, _ = gaussians(count, 5)
    binding = torch.full((count,), 3)
    upstream = [torch.randn(count, k) for k in (3, 4, 3)]
    _, got = values_and_gradients(bind, local, binding, frames, upstream, torch.float32)
    _, want = values_and_gradients(reference.bind, local, binding, frames, upstream, torch.float64)
    for a, b in zip(got, want, strict=True):
        b = torch.zeros_like(a) if b is None else b
        # the rounding of a frame's sum over all Gaussians grows with the root of their number
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=GRADIENT * (1 + count) ** 0.5)


def test_same_input_same_bits() -> None:
    frames = some_frames(11)
    *local, binding = gaussians(5000, 11)
    upstream = [torch.randn(5000, k) for k in (3, 4, 3)]
    runs = [values_and_gradients(bind, local, binding.clone(), frames, upstream, torch.float32)[1] for _ in range(3)]
    assert all(torch.equal(a, b) for run in runs for a, b in zip(runs[0], run, strict=True))


def test_a_binding_changed_in_place_is_noticed() -> None:
    frames = some_frames(2)
    *local, binding = gaussians(10, 1)
    before = bind(*local, binding, frames).means
    binding += 1
    after = bind(*local, binding, frames).means
    assert not torch.equal(before, after)


def test_wrong_arguments_are_named() -> None:
    frames = some_frames(3)
    means, quats, scales, binding = gaussians(4, 3)
    with pytest.raises(UserError, match=r"local_quats: got shape \(3, 4\), want \(N=4, 4\)"):
        bind(means, quats[:3], scales, binding, frames)
    with pytest.raises(UserError, match="binding: holds the index 3, want 0 to 2"):
        bind(means, quats, scales, binding + 3 - binding.max(), frames)
    with pytest.raises(UserError, match="local_log_scales: holds inf"):
        bind(means, quats, torch.full_like(scales, math.inf), binding, frames)
    with pytest.raises(UserError, match=r"frames.scale: got shape \(2\), want \(F=3\)"):
        bind(means, quats, scales, binding, frames._replace(scale=frames.scale[:2]))
