"""An avatar as the reference leaves it: FLAME with teeth, a PLY written here byte by byte, no head.json beside it."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from head.conftest import head_keys

from taichi_avatars import Avatar, Camera, FlameModel
from taichi_avatars.errors import UserError

COUNT, TIMESTEPS, VERTICES, FACES = 200, 3, 5143, 10144
PROPERTIES = [
    *"xyz", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(45)), "opacity",
    *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4)), "binding_0",
]  # fmt: skip
FLOATS = "".join(f"property float {name}\n" for name in PROPERTIES)
HEADER = f"ply\nformat binary_little_endian 1.0\nelement vertex {COUNT}\n{FLOATS}end_header\n"


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory) -> FlameModel:
    """A head of FLAME's sizes with numbers of our own; teeth are added as they are to FLAME."""
    path = tmp_path_factory.mktemp("head") / "flame2023.npz"
    np.savez(path, **head_keys(5023, 9976, 400))
    head = FlameModel.load(path)
    assert (head.num_vertices, head.num_faces, head.n_shape, head.n_expr) == (VERTICES, FACES, 300, 100)
    return head


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    g = np.random.default_rng(0)
    table = g.normal(size=(COUNT, len(PROPERTIES))).astype(np.float32)
    table[:, 3:6] = 0.0
    table[:, PROPERTIES.index("scale_0") : PROPERTIES.index("rot_0")] -= 1.0
    table[:, -1] = np.append(g.integers(0, FACES, COUNT - 1), FACES - 1)
    return {name: table[:, i] for i, name in enumerate(PROPERTIES)}


@pytest.fixture(scope="module")
def parameters() -> dict[str, np.ndarray]:
    g = np.random.default_rng(1)
    sizes = {"rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3, "expr": 100}
    return {
        "shape": g.normal(size=300).astype(np.float32),
        **{name: (0.1 * g.normal(size=(TIMESTEPS, size))).astype(np.float32) for name, size in sizes.items()},
        "static_offset": (0.001 * g.normal(size=(1, VERTICES, 3))).astype(np.float32),
        "dynamic_offset": np.zeros((TIMESTEPS, VERTICES, 3), np.float32),
    }


@pytest.fixture
def folder(tmp_path: Path, values: dict[str, np.ndarray], parameters: dict[str, np.ndarray]) -> Path:
    folder = tmp_path / "point_cloud/iteration_30000"
    folder.mkdir(parents=True)
    rows = b"".join(struct.pack(f"<{len(PROPERTIES)}f", *row) for row in np.stack(list(values.values()), 1))
    (folder / "point_cloud.ply").write_bytes(HEADER.encode() + rows)
    np.savez(folder / "flame_param.npz", **parameters)
    return folder


def test_it_is_read(folder: Path, flame: FlameModel, values: dict[str, np.ndarray], parameters: dict) -> None:
    avatar = Avatar.load(folder.parents[1], flame)
    g, sequence = avatar.gaussians, avatar.sequence
    assert g.binding is not None and sequence is not None
    np.testing.assert_array_equal(g.means[:, 1].numpy(), values["y"])
    np.testing.assert_array_equal(g.log_scales[:, 2].numpy(), values["scale_2"])
    np.testing.assert_array_equal(g.quats[:, 0].numpy(), values["rot_0"])
    np.testing.assert_array_equal(g.logit_opacities.numpy(), values["opacity"])
    np.testing.assert_array_equal(g.sh_base[:, 0, 2].numpy(), values["f_dc_2"])
    np.testing.assert_array_equal(g.sh_rest[:, 4, 1].numpy(), values["f_rest_19"])  # channel * 15 + coefficient
    np.testing.assert_array_equal(g.binding.numpy(), values["binding_0"].astype(np.int32))
    np.testing.assert_array_equal(sequence.static_offset, parameters["static_offset"][0])
    assert sequence.timesteps == [0, 1, 2] and sequence.dynamic_offset is None, "zeros take no room"


def test_it_renders(folder: Path, flame: FlameModel) -> None:
    avatar = Avatar.load(folder / "point_cloud.ply", flame)
    center = avatar.mesh(1).vertices.mean(0)
    camera = Camera.look_at(center + torch.tensor([0.0, 0.0, 2.0]), center, 0.4, 60, 80)
    image = avatar.render(camera, timestep=1).image
    assert image.shape == (3, 80, 60) and image.isfinite().all() and image.std() > 0.01


def test_what_is_written_has_its_layout_byte_for_byte(
    folder: Path, flame: FlameModel, parameters: dict[str, np.ndarray], tmp_path: Path
) -> None:
    avatar = Avatar.load(folder, flame)
    ply = avatar.save(tmp_path / "ours", full_flame_param=True)
    assert ply.read_bytes() == (folder / "point_cloud.ply").read_bytes()
    with np.load(ply.parent / "flame_param.npz") as ours:
        assert set(ours.files) == set(parameters)
        for name, theirs in parameters.items():
            assert (ours[name].dtype, ours[name].shape) == (theirs.dtype, theirs.shape), name
            assert ours[name].tobytes() == theirs.tobytes(), name
    again = Avatar.load(ply, flame)
    assert again.save(tmp_path / "again").read_bytes() == ply.read_bytes()


def test_rows_are_timesteps_where_the_reference_is_to_read_them(folder: Path, flame: FlameModel, tmp_path: Path) -> None:
    avatar = Avatar.load(folder, flame)
    assert avatar.sequence is not None
    avatar.sequence.timesteps = [2, 3, 7]
    avatar.save(tmp_path / "ours", full_flame_param=True)
    read = Avatar.load(tmp_path / "ours", flame).sequence
    assert read is not None and read.timesteps == list(range(8))
    for row, timestep in enumerate((2, 3, 7)):
        assert torch.equal(read.expr[timestep], avatar.sequence.expr[row])
    assert not read.expr[4].any()


def test_without_a_head_it_says_how_to_give_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flame: FlameModel
) -> None:
    monkeypatch.delenv("TAICHI_AVATARS_FLAME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="--head PATH"):
        Avatar.load(folder)
    with pytest.raises(UserError, match="300 shape components, but the head has 40"):
        Avatar.load(folder, FlameModel.builtin())
