"""PLYs are read table by table, wherever they come from and whatever else is in them."""

import io
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.files.ply import parse_ply, read_ply

KINDS = [("x", "f4"), ("id", "u1"), ("time", "f8"), ("y", "f4"), ("count", "i2")]


@pytest.fixture(autouse=True)
def no_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """plyfile's reading of one number after the other takes a minute for an avatar."""

    def refuse(*_: object) -> None:
        raise AssertionError("read number by number")

    monkeypatch.setattr(PlyElement, "_read_bin", refuse)


def written(path: Path, order: str, count: int = 5) -> np.ndarray:
    table = np.zeros(count, [(name, order + kind) for name, kind in KINDS])
    for name, kind in KINDS:
        table[name] = np.random.default_rng(3).uniform(0, 100, count).astype(kind)
    others = np.arange(3, dtype=order + "i4").view([("i", order + "i4")])
    PlyData([PlyElement.describe(table, "vertex"), PlyElement.describe(others, "other")], byte_order=order).write(str(path))
    return table


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", [0, 5])
def test_tables_from_a_file_and_from_memory(tmp_path: Path, order: str, count: int) -> None:
    path = tmp_path / "a.ply"
    table = written(path, order, count)
    data = path.read_bytes()
    for ply in read_ply(path), parse_ply(io.BytesIO(data), len(data), "a zip"):
        assert ply["vertex"].data.dtype == table.dtype
        assert np.array_equal(ply["vertex"].data, table)
        assert ply["other"].data["i"].tolist() == [0, 1, 2]


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    table = written(path, "<")
    ply = read_ply(path)
    path.write_bytes(b"")
    assert np.array_equal(ply["vertex"].data, table)


@pytest.mark.parametrize("order", ["<", ">"])
def test_gaussians_among_foreign_properties_and_kinds(tmp_path: Path, order: str) -> None:
    plain = tmp_path / "plain.ply"
    names = ["x", "y", "z", *(f"f_dc_{k}" for k in range(3)), *(f"f_rest_{k}" for k in range(9)), "opacity"]
    names += [*(f"scale_{k}" for k in range(3)), *(f"rot_{k}" for k in range(4)), "binding_0"]
    values = np.random.default_rng(5).integers(1, 99, (6, len(names))).astype(np.float32)
    for path, kinds in (plain, ["f4"] * len(names)), (tmp_path / "mixed.ply", ["f4", "f8", "i4"] * len(names)):
        ours = [(name, order + kind) for name, kind in zip(names, kinds, strict=False)]
        table = np.zeros(6, [("mine", "u1"), *ours, ("other", order + "f8")])
        for i, name in enumerate(names):
            table[name] = values[:, i]
        PlyData([PlyElement.describe(table, "vertex")], byte_order=order).write(str(path))
        read = Gaussians.load_ply(path)
        assert read.means.tolist() == values[:, :3].tolist()
        assert read.sh_rest.transpose(1, 2).flatten(1).tolist() == values[:, 6:15].tolist()
        assert read.binding is not None and read.binding.tolist() == values[:, -1].tolist()
