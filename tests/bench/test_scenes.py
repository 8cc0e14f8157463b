import torch

from taichi_avatars import bench


def test_the_example_avatar_overlaps_as_a_trained_one() -> None:
    """Bounds around what the avatar of `demo` has: 39,952 Gaussians, 98 pairs per pixel at 275x401, median opacity 0.11."""
    avatar = bench.example_avatar(40_000)
    measured = bench.published_protocol(avatar, bench.in_front_of(avatar, 275, 401), frames=1, rounds=1)
    assert 80 < measured["pairs_per_pixel"] < 120
    assert 0.05 < avatar.gaussians.opacities.median() < 0.25
    triangles = torch.bincount(avatar.gaussians.binding.long())
    assert triangles.median() == 1 and triangles.max() > 20  # most hold one, a few nearly all others


def test_the_example_avatar_repeats_and_comes_in_any_size() -> None:
    for count in (1, 700, 20_000):
        first, second = bench.example_avatar(count, seed=3), bench.example_avatar(count, seed=3)
        assert len(first.gaussians) == count
        for name, values in first.gaussians.parameters().items():
            assert torch.equal(values, second.gaussians.parameters()[name])
        assert torch.equal(first.gaussians.binding, second.gaussians.binding)
    assert not torch.equal(bench.example_avatar(700, seed=4).gaussians.means, bench.example_avatar(700, seed=3).gaussians.means)
