"""The rasterizer where inputs are extreme, empty, huge, tiny, or come in unusual ways."""

from dataclasses import replace

import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import taichi_avatars as ta
from kernels.scenes import camera, cloud
from kernels.test_splat import NAMES, compare_to_reference


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    size=st.tuples(st.integers(1, 45), st.integers(1, 45)),
    focal=st.floats(0.3, 3.0),
    squeeze=st.floats(0.5, 2.0),
    shift=st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7)),
    degree=st.integers(0, 3),
    spread=st.floats(0.0, 0.8),
    scale=st.floats(-3.0, -0.5),
)
def test_random_scenes_and_cameras(seed, count, size, focal, squeeze, shift, degree, spread, scale):
    """Any pose, image size, focal lengths and principal point, inside the image or not."""
    width, height = size
    g = torch.Generator().manual_seed(seed)
    pose = torch.eye(4)
    pose[:3, :3] = roma.rotvec_to_rotmat(torch.randn(3, generator=g))
    pose[:3, 3] = torch.tensor([0.1, -0.1, 1.5]) + 0.2 * torch.randn(3, generator=g)
    f = focal * max(width, height)
    cam = ta.Camera.from_opencv(pose, f, f * squeeze, width * (0.5 + shift[0]), height * (0.5 + shift[1]), width, height)
    scene = cloud(count, seed=seed, spread=spread, size=10.0**scale, opacity=(0.02, 0.7))
    # A gradient of few and faint pixels may hang on one that just is or is not above 1/255.
    compare_to_reference(scene, cam, degree=degree, image_tolerance=1e-3, gradient_tolerance=2e-3)


@pytest.mark.parametrize("count", [7, 8, 9, 33])
def test_counts_around_the_batch_in_one_tile(count):
    scene = cloud(count, seed=count, spread=0.05, size=0.3)
    compare_to_reference(scene, camera(5, 8))


EXTREMES = {
    "points": (2, 0.0),
    "smaller than any float of a pixel": (2, 1e-20),
    "larger than the world": (2, 1e6),
    "no rotation at all": (1, 0.0),
    "transparent": (3, 0.0),
    "just below what is drawn": (3, 0.99999 / 255),
    "just above": (3, 1.00001 / 255),
    "clamped": (3, 1.0),
}


@pytest.mark.parametrize("what", EXTREMES)
def test_extreme_values(what):
    argument, value = EXTREMES[what]
    scene = list(cloud(20, seed=3, size=0.1, opacity=(0.02, 0.3)))
    scene[argument] = torch.full_like(scene[argument], value)
    if value == 1e6:  # its radius is beyond any number of pixels that float32 tells from its neighbours
        out = ta.rasterize(*scene, camera=camera(33, 21))
        assert (out.radii > 1e6).all()
        assert torch.allclose(out.alpha, out.alpha[:1, :1].expand_as(out.alpha), atol=1e-5)
        return
    compare_to_reference(scene, camera(33, 21))


@pytest.mark.parametrize("value", [1e8, -1e8, 1e20, 3e38])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_far_away_is_harmless(value, axis):
    """Means at the edge of what float32 holds draw nothing, or one even colour, and every gradient is finite."""
    scene = cloud(20, seed=3, size=0.1)
    cam = camera(33, 21)
    near = ta.rasterize(*(t[1::2] for t in scene), camera=cam)
    scene[0][::2, axis] = value
    leaves = [t.requires_grad_() for t in scene]
    out = ta.rasterize(*leaves, camera=cam)
    (out.image.sum() + out.alpha.sum()).backward()
    assert torch.isfinite(out.image).all()
    assert all(torch.isfinite(leaf.grad).all() for leaf in leaves)
    if axis != 2 or value < 0:
        assert torch.equal(out.image, near.image)


def test_at_the_near_plane():
    means, *rest = cloud(20, seed=3, size=0.1)
    means[:, 2] = -1.8 + torch.linspace(-1e-3, 1e-3, 20)
    compare_to_reference((means, *rest), camera(33, 21, off_center=False))


@pytest.mark.parametrize("focal", [1e-3, 1e3, 1e9])
def test_tiny_and_huge_focal_lengths(focal):
    scene = list(cloud(20, seed=3, size=0.1))
    cam = replace(camera(33, 21), fx=focal, fy=2.0 * focal)
    if focal == 1e9:  # radii beyond int32 are cut there
        assert torch.isfinite(ta.rasterize(*scene, camera=cam).image).all()
        return
    scene[0], scene[2] = scene[0] * min(1.0, 30.0 / focal), scene[2] * min(1.0, 30.0 / focal)
    compare_to_reference(scene, cam)


def test_equal_depths_are_drawn_by_index():
    means, *rest = cloud(40, seed=3, size=0.1)
    means[:] = means[0]
    compare_to_reference((means, *rest), camera(33, 21))


def test_gradients_of_pose_and_background_match_finite_differences():
    scene, cam = cloud(5, seed=2, spread=0.1, size=0.8, opacity=(0.3, 0.5)), camera(9, 7)
    weight = torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(4))

    def value(pose, behind):
        out = ta.rasterize(*scene, camera=replace(cam, world_to_camera=pose), background=behind)
        return (out.image.double() * weight).sum() + (out.depth.double() * weight[0]).sum()

    pose, behind = cam.world_to_camera.clone().requires_grad_(), torch.tensor([0.1, 0.5, 0.9], requires_grad=True)
    value(pose, behind).backward()
    step = 1e-2
    for row in range(3):
        for column in range(4):
            change = torch.zeros(4, 4)
            change[row, column] = step
            with torch.no_grad():
                measured = (value(pose + change, behind) - value(pose - change, behind)).item() / (2 * step)
            assert measured == pytest.approx(pose.grad[row, column].item(), rel=2e-2, abs=2e-2)  # a large step, for float32
    assert not pose.grad[3].any()
    for channel in range(3):
        change = step * torch.eye(3)[channel]
        with torch.no_grad():
            measured = (value(pose, behind + change) - value(pose, behind - change)).item() / (2 * step)
        assert measured == pytest.approx(behind.grad[channel].item(), rel=1e-3, abs=1e-3)  # linear: float32 alone


def gradients(scene, cam):
    leaves = [t.clone().requires_grad_() for t in scene]
    out = ta.rasterize(*leaves, camera=cam)
    out.image.square().sum().backward()
    return out.image.detach(), [leaf.grad for leaf in leaves]


def test_strided_views_are_read_as_they_are():
    scene, cam = cloud(30, seed=1, size=0.1), camera(40, 30)
    image, wanted = gradients(scene, cam)
    leaves = [torch.stack([t, t + 1.0], -1).requires_grad_() for t in scene]
    out = ta.rasterize(*(leaf[..., 0] for leaf in leaves), camera=cam)
    out.image.square().sum().backward()
    assert torch.equal(out.image, image)
    for leaf, gradient in zip(leaves, wanted, strict=True):
        assert torch.equal(leaf.grad[..., 0], gradient)
        assert not leaf.grad[..., 1].any()


@pytest.mark.parametrize("which", range(5))
def test_only_one_input_asks_for_its_gradient(which):
    scene, cam = cloud(30, seed=1, size=0.1), camera(40, 30)
    _, wanted = gradients(scene, cam)
    scene[which].requires_grad_()
    out = ta.rasterize(*scene, camera=cam)
    out.image.square().sum().backward()
    assert torch.equal(scene[which].grad, wanted[which]), NAMES[which]
    assert out.mean2d_grad is not None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_image_is_the_same(mode):
    scene, cam = cloud(30, seed=1, size=0.1), camera(40, 30)
    image, _ = gradients(scene, cam)
    with mode():
        out = ta.rasterize(*(t.clone() for t in scene), camera=cam)
    assert torch.equal(out.image, image)
    assert out.mean2d_grad is None


def test_backward_may_be_repeated():
    leaves = [t.requires_grad_() for t in cloud(30, seed=1, size=0.1)]
    loss = ta.rasterize(*leaves, camera=camera(40, 30)).image.square().sum()
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    second = torch.autograd.grad(loss, leaves, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
