import shutil

import numpy as np
import pytest

from taichi_avatars import bench
from taichi_avatars.bench import limit
from taichi_avatars.bench.baselines import bench_baselines
from taichi_avatars.bench.memory import peak_above
from taichi_avatars.errors import UserError
from taichi_avatars.kernels.tiles import TILE


def test_kernels_alone_work_on_the_pairs_of_the_lists() -> None:
    found = bench.bench_kernels(500, 55, 80, repeats=2)
    assert found["pairs"] % TILE**2 == 0 and found["pairs"] > 0
    for way in ("forward", "backward"):
        compositing = found["compositing"][way]
        assert compositing["pairs_per_second"] == pytest.approx(1e3 * found["pairs"] / compositing["ms"])
        assert compositing["pairs_per_cpu_second"] == pytest.approx(1e3 * found["pairs"] / compositing["cpu_ms"])


def test_frames_per_second_are_those_of_the_rounds() -> None:
    avatar = bench.example_avatar(300)
    found = bench.published_protocol(avatar, bench.in_front_of(avatar, 48, 64), frames=2, rounds=3)
    assert len(found["rounds"]) == 3 and found["fps"] == sorted(found["rounds"])[1]
    assert (found["gaussians"], found["width"], found["height"], found["frames"]) == (300, 48, 64, 2)


def test_memory_is_what_a_call_takes_at_its_peak_even_when_it_gives_it_back() -> None:
    def takes(size: int) -> None:
        np.ones(size, np.uint8).sum()

    large = peak_above(lambda: takes(200_000_000))
    if large is None:
        pytest.skip("this system does not tell")
    assert 190_000_000 < large < 300_000_000
    small = peak_above(lambda: takes(1000))
    assert small is not None and small < 20_000_000


@pytest.mark.skipif(not any(shutil.which(name) for name in limit.COMPILERS), reason="there is no C++ compiler")
def test_the_limit_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that no tile divides, and splats that reach over its edges; only the right result may be reported."""
    monkeypatch.setattr(limit, "FLAGS", tuple("-O1" if flag == "-O3" else flag for flag in limit.FLAGS))
    found = limit.bench_limit(3000, 83, 121, repeats=1)
    assert found["difference"]["image"] < limit.SAME_IMAGE and found["difference"]["gradients"] < limit.SAME_GRADIENT
    assert [shape["tile"] for shape in found["shapes"]] == ["8x8", "8x8 skipping", "16x8", "16x16"]
    assert found["shapes"][0]["pairs"] == found["pairs"]  # the same lists
    for way in ("forward", "backward"):
        assert found[way]["share"] > 0 and found[way]["share_one_thread"] > 0

    monkeypatch.setattr(limit, "SAME_IMAGE", 0.0)
    with pytest.raises(UserError, match="drifted apart"):
        limit.bench_limit(300, 83, 121, repeats=1)


def test_the_limit_without_compiler_or_checkout_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="C\\+\\+ compiler"):
        limit.bench_limit(10, 48, 64)
    monkeypatch.setattr(limit, "SOURCE", tmp_path / "limit.cpp")
    with pytest.raises(UserError, match="from a checkout"):
        limit.bench_limit(10, 48, 64)


def test_baselines_are_ratios_of_the_same_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taichi_avatars.bench.baselines.REFERENCE_SCENE", (20, 40, 56))
    monkeypatch.setattr("taichi_avatars.bench.baselines.GSPLAT_SCENE", (200, 40, 56))
    reference, *gsplat = bench_baselines(repeats=1)
    for row in (reference, *gsplat):
        for way in ("forward", "forward_backward"):
            assert row[way]["ratio"] == row[way]["theirs_ms"] / row[way]["ours_ms"]
