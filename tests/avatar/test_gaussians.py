"""Raw parameters, and the PLY that holds them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from taichi_avatars.avatar.gaussians import Gaussians, read_gaussians
from taichi_avatars.errors import UserError
from taichi_avatars.export.compressed import write_compressed_ply


def random_gaussians(count: int = 7, degree: int = 2, bound: bool = True) -> Gaussians:
    g = torch.Generator().manual_seed(count)
    gaussians = Gaussians.on_triangles(count, degree, g)
    for name, values in gaussians.parameters().items():
        setattr(gaussians, name, torch.randn(values.shape, generator=g))
    if not bound:
        gaussians.binding = None
    return gaussians


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("bound", [True, False])
def test_ply_reads_back_bit_by_bit(tmp_path, degree, bound):
    written = random_gaussians(degree=degree, bound=bound)
    written.save_ply(tmp_path / "a.ply")
    read = Gaussians.load_ply(tmp_path / "a.ply")
    assert read.degree == degree
    for name, values in written.parameters().items():
        assert torch.equal(values, getattr(read, name)), name
    assert (read.binding is None) if not bound else torch.equal(read.binding, written.binding)


def test_ply_has_the_layout_of_the_field(tmp_path):
    """Names, their order and the channel-major order of f_rest: what other viewers rely on."""
    written = random_gaussians(degree=1)
    written.save_ply(tmp_path / "a.ply")
    data = (tmp_path / "a.ply").read_bytes()
    header, body = data.split(b"end_header\n")
    names = [line.split()[2].decode() for line in header.splitlines() if line.startswith(b"property")]
    rest = [f"f_rest_{k}" for k in range(9)]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"), *rest,
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3", "binding_0"),
    ]  # fmt: skip
    assert b"format binary_little_endian 1.0" in header
    table = np.frombuffer(body, "<f4").reshape(len(written), len(names))
    k, channel = 2, 1
    assert np.array_equal(table[:, names.index(f"f_rest_{channel * 3 + k}")], written.sh_rest[:, k, channel].numpy())


@pytest.mark.parametrize("content", [b"", b"ply\n", b"hello", b"ply\nformat ascii 1.0\nelement face 0\nend_header\n"])
def test_broken_ply_is_one_line(tmp_path, content):
    (tmp_path / "a.ply").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.ply") as caught:
        Gaussians.load_ply(tmp_path / "a.ply")
    assert "\n" not in str(caught.value)


def test_truncated_ply_is_refused(tmp_path):
    random_gaussians().save_ply(tmp_path / "a.ply")
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(data[:-10])
    with pytest.raises(UserError, match=r"a\.ply"):
        Gaussians.load_ply(tmp_path / "a.ply")


def test_nan_is_named(tmp_path):
    gaussians = random_gaussians()
    gaussians.log_scales[3, 1] = float("nan")
    gaussians.save_ply(tmp_path / "a.ply")
    with pytest.raises(UserError, match=r"log_scales.*Gaussian 3"):
        Gaussians.load_ply(tmp_path / "a.ply")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.ply: no such file"):
        Gaussians.load_ply(tmp_path / "nothing.ply")


def test_start_on_triangles():
    gaussians = Gaussians.on_triangles(5, 3, torch.Generator().manual_seed(0))
    assert gaussians.opacities == pytest.approx(torch.full((5,), 0.1))
    assert gaussians.binding.tolist() == [0, 1, 2, 3, 4]
    assert gaussians.sh(3).shape == (5, 16, 3)
    assert gaussians.sh(0).shape == (5, 1, 3)
    color = gaussians.sh_base * 0.28209479177387814 + 0.5
    assert (color - 0.5).abs().max() < 0.06


def test_start_from_points_takes_the_distance_of_three_neighbours():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [100, 0, 0]])
    gaussians = Gaussians.from_points(points, torch.ones(5, 3), 0)
    expected = ((1.0**2 + 2.0**2 + 3.0**2) / 3) ** 0.5
    assert gaussians.log_scales[0].exp().tolist() == pytest.approx([expected] * 3, rel=1e-4)


def test_no_gaussians_are_a_ply_too(tmp_path):
    Gaussians.from_points(torch.zeros(0, 3), torch.zeros(0, 3), 2).save_ply(tmp_path / "a.ply")
    read = Gaussians.load_ply(tmp_path / "a.ply")
    assert len(read) == 0
    assert read.degree == 2


@pytest.mark.parametrize("wrong", [float("nan"), -1.0, 0.5, 1e20])
def test_a_binding_that_is_no_triangle_is_named(tmp_path, wrong):
    from plyfile import PlyData

    random_gaussians().save_ply(tmp_path / "a.ply")
    ply = PlyData.read(str(tmp_path / "a.ply"), mmap=False)
    ply["vertex"].data["binding_0"][3] = wrong
    ply.write(str(tmp_path / "a.ply"))
    with pytest.raises(UserError, match=r"a\.ply: binding_0 .* at Gaussian 3"):
        Gaussians.load_ply(tmp_path / "a.ply")


def test_points_far_from_the_origin_know_their_neighbours():
    """A grid of 1 mm, 8 m away: distances that squares of coordinates do not hold in float32."""
    axis = torch.arange(4) * 1e-3
    points = torch.cartesian_prod(axis, axis, axis) + 8.0
    scales = Gaussians.from_points(points, torch.zeros(64, 3), 0).log_scales.exp()
    assert torch.allclose(scales, torch.tensor(1e-3), rtol=2e-3)  # float32 knows coordinates of 8 m to half a micrometre


@pytest.mark.parametrize("name", ["means", "logit_opacities", "sh_rest"])
def test_the_first_broken_gaussian_is_named(tmp_path: Path, name: str) -> None:
    broken = random_gaussians()
    getattr(broken, name)[3] = float("inf")
    broken.save_ply(tmp_path / "a.ply")
    with pytest.raises(UserError, match=rf"{name} holds NaN or Inf in 1 of \d+ Gaussians, first in Gaussian 3; delete"):
        Gaussians.load_ply(tmp_path / "a.ply")


@pytest.mark.parametrize("name", ["a.splat", "a.ksplat", "a.spz", "a.npz", "a.zip", "a.glb"])
def test_what_only_viewers_show_is_no_avatar(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(64))
    with pytest.raises(UserError, match=rf"{name}: is .*, which viewers show .* give the point_cloud.ply") as error:
        Gaussians.load_ply(tmp_path / name)
    assert "copy it again" not in str(error.value)


def test_a_compressed_ply_is_no_avatar(tmp_path: Path) -> None:
    write_compressed_ply(Gaussians.from_points(torch.rand(9, 3), torch.rand(9, 3), 0), tmp_path / "a.ply")
    with pytest.raises(UserError, match="is a compressed PLY, which viewers show"):
        Gaussians.load_ply(tmp_path / "a.ply")


def test_numbers_of_64_bits(tmp_path: Path) -> None:
    """Scripts of others save float64; near the origin nothing is moved."""
    written = random_gaussians()
    written.save_ply(tmp_path / "a.ply")
    table = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    wide = table.astype([(name, "f8") for name in table.dtype.names])
    PlyData([PlyElement.describe(wide, "vertex")]).write(str(tmp_path / "b.ply"))
    gaussians, origin = read_gaussians(tmp_path / "b.ply")
    assert origin == (0.0, 0.0, 0.0)
    assert torch.equal(gaussians.means, written.means) and torch.equal(gaussians.sh_rest, written.sh_rest)
