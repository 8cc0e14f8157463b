"""The fit against heads whose parameters are known: landmarks are put where the head model itself has them."""

import math

import numpy as np
import pytest
import torch

from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.synthetic.motion import performance
from taichi_avatars.tracking.banded import FrameEquations
from taichi_avatars.tracking.clip_equations import Clip, ClipEquations
from taichi_avatars.tracking.fit import fit
from taichi_avatars.tracking.points import (
    EYES_BY_GAZE,
    FILE,
    GAZE,
    JAW_POSE,
    POSE,
    ROTATION,
    TRANSLATION,
    Landmarks,
    rotation_matrix,
)

FOCAL, WIDTH, HEIGHT = 620.0, 400, 540


@pytest.fixture(scope="module")
def places(head) -> Landmarks:
    return Landmarks.of(head)


def random_frames(count: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    frames = 0.2 * torch.randn(count, POSE + 52, generator=random)
    frames[:, TRANSLATION] += torch.tensor([0.0, 0.0, -0.6])
    frames[:, POSE:] = torch.rand(count, 52, generator=random) * 0.5
    return frames


def test_points_are_where_the_head_has_them(head, places):
    frames, shape = random_frames(3), 0.7 * torch.randn(head.n_shape, generator=torch.Generator().manual_seed(1))
    eyes = frames[:, GAZE] @ EYES_BY_GAZE.T
    mesh = head(shape, frames[:, POSE:], frames[:, ROTATION], None, frames[:, JAW_POSE], eyes, frames[:, TRANSLATION])
    with np.load(FILE) as file:
        corners = mesh.vertices[:, head.faces[torch.from_numpy(file["triangle"]).long()]]
        expected = (corners * torch.from_numpy(file["barycentric"])[None, :, :, None]).sum(2)
    off = (places.points.place(frames, shape).world - expected).norm(dim=2)
    assert float(off.median()) < 2e-6  # float32 in both
    assert float(off.max()) < 6e-4  # where weights differ over a triangle, its points are not those of its turned corners


def test_rotations_and_their_jacobians():
    r = torch.tensor([[0.0, 0.0, 0.0], [1e-4, 2e-4, -1e-4], [0.4, -1.1, 0.6]], dtype=torch.float64)
    rotation, jacobian = rotation_matrix(r)
    torch.testing.assert_close(rotation, torch.linalg.matrix_exp(cross(r)), atol=1e-12, rtol=0)
    step = 1e-6 * torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    moved = torch.linalg.matrix_exp(cross(jacobian @ step)) @ rotation
    torch.testing.assert_close(rotation_matrix(r + step)[0], moved, atol=1e-11, rtol=0)  # the next order is 1e-12


def cross(r: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(*r.shape[:-1], 3, 3, dtype=r.dtype)
    out[..., 2, 1], out[..., 0, 2], out[..., 1, 0] = r.unbind(-1)
    return out - out.mT


def test_derivatives_are_those_of_the_residuals(head, places):
    clip = seen_clip(places, random_frames(2), torch.zeros(head.n_shape))
    equations = ClipEquations(head, places, clip)
    frames, shape = random_frames(2, seed=3), 0.3 * torch.randn(head.n_shape, generator=torch.Generator().manual_seed(2))
    visible = torch.ones(2, places.points.count)
    equations.sigma = torch.full_like(equations.sigma, 1e4)  # so wide that nothing is robust
    part, log_focal = slice(0, 2), math.log(FOCAL)

    def residuals(frames: torch.Tensor, shape: torch.Tensor, log_focal: float) -> torch.Tensor:
        return equations.residuals(places.points.place(frames, shape), part, math.exp(log_focal)).flatten(1)

    (placed,) = equations.place(frames, shape)
    rows = equations._derivatives(placed, log_focal, visible, True)
    alone = equations._derivatives(placed, log_focal, visible, False)
    torch.testing.assert_close(alone, torch.cat([rows[..., : frames.shape[1]], rows[..., -1:]], -1))
    step = 2e-3
    for column in [*range(12), 12, 29, 50]:
        moved = torch.zeros_like(frames)
        moved[:, column] = step
        slope = (residuals(frames + moved, shape, log_focal) - residuals(frames - moved, shape, log_focal)) / (2 * step)
        close(rows[..., column], slope)
    slope = (residuals(frames, shape, log_focal + step) - residuals(frames, shape, log_focal - step)) / (2 * step)
    close(rows[..., -2], slope)


def close(value: torch.Tensor, expected: torch.Tensor) -> None:
    """Within 5 % of the largest: the joints' own movement is left out on purpose, and float32 differences are coarse."""
    assert float((value - expected).abs().max()) < 0.05 * float(expected.abs().max())


def seen_clip(places: Landmarks, frames: torch.Tensor, shape: torch.Tensor, noise: float = 0.0, spread: float = 0.2) -> Clip:
    """What a perfect network, with a little noise, would see."""
    count = len(frames)
    world = places.points.place(frames, shape).world
    pixels = world[..., :2] / world[..., 2:] * torch.tensor([-FOCAL, FOCAL]) + torch.tensor([WIDTH / 2, HEIGHT / 2])
    depth = -world[..., 2:]
    landmarks = torch.zeros(count, 478, 3)
    landmarks[..., :2] = pixels.mean(1, keepdim=True)
    landmarks[:, places.number, 2:] = (depth - depth.mean(1, keepdim=True)) * FOCAL / depth.mean(1, keepdim=True)
    landmarks[:, places.number, :2] = pixels + noise * torch.randn(pixels.shape, generator=torch.Generator().manual_seed(5))
    seconds = torch.arange(count) / 10
    scene = torch.zeros(count, dtype=torch.long)
    expressions = frames[:, POSE:].clamp(0, 1)
    return Clip(
        landmarks, torch.ones(count), expressions, seconds, scene, WIDTH, HEIGHT, FOCAL if spread == 0 else 0.9 * FOCAL, spread
    )


def performed(head, seconds: float = 3.0, seed: int = 0) -> tuple[torch.Tensor, FlameSequence]:
    sequence = performance(head, seconds, 10.0, seed, "train", torch.zeros(head.n_shape))
    frames = torch.zeros(len(sequence), POSE + head.n_expr)
    frames[:, ROTATION], frames[:, TRANSLATION] = sequence.rotation, sequence.translation + torch.tensor([0.0, 0.0, -0.6])
    frames[:, JAW_POSE], frames[:, POSE:] = sequence.jaw_pose, sequence.expr
    frames[:, GAZE.start : GAZE.start + 2] = 0.5 * (sequence.eyes_pose[:, [1, 0]] + sequence.eyes_pose[:, [4, 3]])
    return frames, sequence


def mesh_errors(head, found, truth_frames, truth_shape, frames) -> torch.Tensor:
    """(T,) mean distance of the face's vertices after the best translation, metres."""

    def vertices(frames, shape):
        eyes = frames[:, GAZE] @ EYES_BY_GAZE.T
        mesh = head(shape, frames[:, POSE:], frames[:, ROTATION], None, frames[:, JAW_POSE], eyes, frames[:, TRANSLATION])
        face = mesh.vertices[:, head.regions["face"]]
        return face - face.mean(1, keepdim=True)

    return (vertices(frames, found) - vertices(truth_frames, truth_shape)).norm(dim=2).mean(1)


def test_a_known_motion_is_found(head, places):
    frames, _ = performed(head)
    shape = 0.8 * torch.randn(head.n_shape, generator=torch.Generator().manual_seed(4))
    clip = seen_clip(places, frames, shape, noise=0.3, spread=0.0)
    found = fit(head, [clip])
    (one,) = found.clips
    assert one.focal == pytest.approx(FOCAL)
    assert float(one.residual.median()) < 1.0
    errors = mesh_errors(head, found.shape, frames, shape, one.frames)
    assert float(errors.median()) < 0.002 and float(errors.max()) < 0.005  # metres


def test_missing_frames_are_bridged_and_nothing_crosses_a_cut(head, places):
    frames, _ = performed(head)
    half = len(frames) // 2
    frames[half:, TRANSLATION] += torch.tensor([0.08, 0.0, 0.0])
    clip = seen_clip(places, frames, torch.zeros(head.n_shape), spread=0.0)
    clip.landmarks[4:7] = torch.nan
    clip.presence[4:7] = 0
    clip.scene[half:] = 1
    (one,) = fit(head, [clip]).clips
    assert torch.isnan(one.residual[4:7]).all() and torch.isfinite(one.residual[7:]).all()
    assert float((one.frames[4:7, TRANSLATION] - frames[4:7, TRANSLATION]).norm(dim=1).max()) < 0.03
    moved = one.frames[half, TRANSLATION] - one.frames[half - 1, TRANSLATION]
    assert float(moved[0]) == pytest.approx(float(frames[half, 3] - frames[half - 1, 3]), abs=0.01)


def test_videos_of_one_person_share_the_identity_and_not_the_focal_length(head, places):
    first, _ = performed(head, 2.0)
    second, _ = performed(head, 2.0, seed=1)
    shape = 0.8 * torch.randn(head.n_shape, generator=torch.Generator().manual_seed(4))
    clips = [seen_clip(places, first, shape, 0.3), seen_clip(places, second, shape, 0.3, spread=0.0)]
    found = fit(head, clips)
    assert len(found.clips) == 2 and len(found.clips[0].frames) == len(first)
    assert found.clips[1].focal == pytest.approx(FOCAL) and found.clips[0].focal != pytest.approx(FOCAL, rel=1e-6)
    assert found.clips[0].focal == pytest.approx(FOCAL, rel=0.15)


def test_long_videos_are_fitted_in_windows_as_well_as_short_ones(head, places, monkeypatch):
    from taichi_avatars.tracking import fit as module

    frames, _ = performed(head, 2.4)
    clip = seen_clip(places, frames, torch.zeros(head.n_shape), noise=0.2, spread=0.0)
    whole = fit(head, [clip])
    for name, value in (("TOGETHER", 12), ("WINDOW", 10), ("OVERLAP", 4)):
        monkeypatch.setattr(module, name, value)
    seen: list[tuple[int, int]] = []
    windows = fit(head, [clip], lambda done, total: seen.append((done, total)))
    assert seen[-1] == (24, 24) and len(seen) > 3
    zero = torch.zeros(head.n_shape)
    for found in (whole, windows):
        assert float(mesh_errors(head, found.shape, frames, zero, found.clips[0].frames).median()) < 0.002


def test_banded_equations_against_dense_ones():
    random = np.random.default_rng(0)
    count, size, shared = 5, 4, 3
    root = random.normal(size=(count, 12, size))
    matrix, mixed = root.transpose(0, 2, 1) @ root + 3 * np.eye(size), random.normal(size=(count, size, shared))
    ties, gradient = random.uniform(0, 1, (count - 1, size)), random.normal(size=(count, size))
    ties[2] = 0  # a cut
    own, slope = 40 * np.eye(shared), random.normal(size=shared)
    dense = np.zeros((count * size + shared,) * 2)
    for t in range(count):
        here = slice(t * size, (t + 1) * size)
        dense[here, here] = matrix[t] + 0.1 * np.diag(np.diag(matrix[t]))
        dense[here, count * size :], dense[count * size :, here] = mixed[t], mixed[t].T
        if t:
            before = slice((t - 1) * size, t * size)
            dense[here, before] = dense[before, here] = -np.diag(ties[t - 1])
    dense[count * size :, count * size :] = own
    expected = -np.linalg.solve(dense, np.concatenate([gradient.ravel(), slope]))
    solved = FrameEquations(matrix, ties, mixed, gradient).eliminate(0.1)
    step = -np.linalg.solve(own - solved.matrix, slope - solved.gradient)
    np.testing.assert_allclose(step, expected[count * size :], atol=1e-12)
    np.testing.assert_allclose(solved.step(step).ravel(), expected[: count * size], atol=1e-12)
