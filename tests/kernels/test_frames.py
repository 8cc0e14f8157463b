import math

import numpy as np
import pytest
import roma
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.ops import triangle_frames
from taichi_avatars.reference import frames as reference

# Relative norms against float64. float32 rounds to 6e-8: a value takes some ten operations, a gradient sums over triangles.
VALUE, GRADIENT = 1e-6, 1e-5


def mesh(n_vertices: int = 60, n_faces: int = 101, size: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    faces = torch.stack([torch.randperm(n_vertices)[:3] for _ in range(n_faces)])
    return torch.randn(n_vertices, 3) * size, faces


def gradients(function, vertices, faces, upstream):
    leaf = vertices.clone().requires_grad_()
    frames = function(leaf, faces)
    sum((g.to(f.dtype) * f).sum() for f, g in zip(frames, upstream, strict=True)).backward()
    return leaf.grad


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def test_a_right_angled_triangle_by_hand() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 0, -3]])
    frames = triangle_frames(vertices, torch.tensor([[0, 1, 2]]))
    # First edge along x, normal = x cross -z = y, third axis = x cross y = z; scale = (2 + 3) / 2.
    torch.testing.assert_close(frames.rotation[0], torch.eye(3))
    torch.testing.assert_close(frames.scale, torch.tensor([2.5]))
    torch.testing.assert_close(frames.center, torch.tensor([[2 / 3, 0, -1]]))
    torch.testing.assert_close(frames.quat, torch.tensor([[1.0, 0, 0, 0]]))


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_matches_the_reference(index: torch.dtype) -> None:
    vertices, faces = mesh()
    faces = faces.to(index)
    frames, truth = triangle_frames(vertices, faces), reference.triangle_frames(vertices.double(), faces)
    for field, got, want in zip(frames._fields, frames, truth, strict=True):
        assert relative(got, want) < VALUE, field
    upstream = [torch.randn_like(f) for f in frames]
    assert relative(gradients(triangle_frames, vertices, faces, upstream),
                    gradients(reference.triangle_frames, vertices.double(), faces, upstream)) < GRADIENT  # fmt: skip


def test_each_field_alone_has_the_right_gradient() -> None:
    vertices, faces = mesh()
    shapes = triangle_frames(vertices, faces)
    for k in range(4):
        upstream = [torch.randn_like(f) if i == k else torch.zeros_like(f) for i, f in enumerate(shapes)]
        got = gradients(triangle_frames, vertices, faces, upstream)
        want = gradients(reference.triangle_frames, vertices.double(), faces, upstream)
        assert relative(got, want) < GRADIENT, shapes._fields[k]


def test_reference_gradients_match_finite_differences() -> None:
    vertices, faces = mesh(12, 9)
    vertices = vertices.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: reference.triangle_frames(v, faces), (vertices,), atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1e-3, 1.0, math.pi - 1e-3, math.pi - 1e-6, math.pi])
def test_quaternion_of_every_rotation(angle: float) -> None:
    axes = torch.nn.functional.normalize(torch.cat([torch.eye(3), -torch.eye(3), torch.randn(200, 3)]), dim=1).double()
    rotation = roma.rotvec_to_rotmat(axes * angle)
    corners = torch.stack([torch.zeros_like(axes), rotation[..., 0], -rotation[..., 2]], 1).float().view(-1, 3)
    faces = torch.arange(len(corners)).view(-1, 3)
    frames = triangle_frames(corners, faces)
    torch.testing.assert_close(frames.rotation, rotation.float(), atol=VALUE, rtol=0)  # entries of at most 1
    back = roma.unitquat_to_rotmat(frames.quat[:, [1, 2, 3, 0]].double())
    torch.testing.assert_close(back, rotation, atol=VALUE, rtol=0)
    torch.testing.assert_close(frames.quat.norm(dim=1), torch.ones(len(faces)), atol=VALUE, rtol=0)
    # The field alone: its gradient goes through the branch that was taken.
    upstream = [torch.zeros_like(f) for f in frames[:3]] + [torch.randn_like(frames.quat)]
    got = gradients(triangle_frames, corners, faces, upstream)
    # Where two branches tie (rotations by pi about the bisector of two axes) float32 may take the other one.
    branch = reference.quat_from_matrix(frames.rotation.double()).sign().eq(frames.quat.double().sign()).all(1)
    assert branch.float().mean() > 0.9
    want = gradients(reference.triangle_frames, corners.double(), faces, upstream)
    keep = branch.repeat_interleave(3)
    assert relative(got[keep], want[keep]) < 1e-4


def test_degenerate_triangles_are_finite_and_leave_the_others_alone() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [1e-12, 0, 0]])
    faces = torch.tensor([[0, 0, 1], [0, 0, 0], [0, 1, 3], [0, 4, 2], [0, 1, 1], [0, 1, 2]])
    leaf = vertices.clone().requires_grad_()
    frames = triangle_frames(leaf, faces)
    truth = reference.triangle_frames(vertices.double(), faces)
    for got, want in zip(frames, truth, strict=True):
        assert torch.isfinite(got).all()
        torch.testing.assert_close(got.double(), want, atol=VALUE, rtol=VALUE)
    upstream = [torch.randn_like(f) for f in frames]
    got = gradients(triangle_frames, vertices, faces, upstream)
    assert torch.isfinite(got).all()
    want = gradients(reference.triangle_frames, vertices.double(), faces, upstream)
    torch.testing.assert_close(got.double(), want, atol=GRADIENT, rtol=GRADIENT)


def test_same_input_same_bits() -> None:
    vertices, faces = mesh(500, 2000)
    upstream = [torch.randn_like(f) for f in triangle_frames(vertices, faces)]
    runs = [gradients(triangle_frames, vertices, faces.clone(), upstream) for _ in range(3)]
    assert all(torch.equal(runs[0], r) for r in runs)


def test_changed_faces_are_noticed() -> None:
    vertices, faces = mesh()
    first = triangle_frames(vertices, faces).scale
    faces.copy_(faces.roll(1, 0))
    torch.testing.assert_close(triangle_frames(vertices, faces).scale, first.roll(1, 0))


def test_no_faces() -> None:
    leaf = torch.randn(4, 3, requires_grad=True)
    frames = triangle_frames(leaf, torch.zeros(0, 3, dtype=torch.int64))
    assert [tuple(f.shape) for f in frames] == [(0, 3, 3), (0,), (0, 3), (0, 4)]
    sum(f.sum() for f in frames).backward()
    assert torch.equal(leaf.grad, torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (torch.zeros(4, 2), torch.zeros(1, 3, dtype=torch.int64), r"vertices: got shape \(4, 2\), want \(V, 3\)"),
        (torch.zeros(4, 3).double(), torch.zeros(1, 3, dtype=torch.int64), "vertices: got float64, want float32"),
        (np.zeros((4, 3)), torch.zeros(1, 3, dtype=torch.int64), "vertices: got ndarray, want a float32 tensor"),
        (torch.full((4, 3), math.nan), torch.zeros(1, 3, dtype=torch.int64), r"vertices: holds nan at \[0, 0\] \(12 in all\)"),
        (torch.zeros(4, 3), torch.zeros(1, 3), "faces: got float32, want int32 or int64"),
        (torch.zeros(4, 3), torch.full((1, 3), 4), "faces: holds the index 4, want 0 to 3"),
        (torch.zeros(4, 3), torch.full((1, 3), -1), "faces: holds the index -1, want 0 to 3"),
        (
            torch.zeros(4, 3, device="meta"),
            torch.zeros(1, 3, dtype=torch.int64),
            "vertices: got a tensor on meta, want it on cpu",
        ),
    ],
)
def test_wrong_arguments_are_named(vertices, faces, message) -> None:
    with pytest.raises(UserError, match=message):
        triangle_frames(vertices, faces)
