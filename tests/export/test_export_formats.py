import json
import os
import shutil
import struct
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from export.subjects import camera_of, colourful_avatar, static_scene
from plyfile import PlyData

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import C0, Gaussians
from taichi_avatars.errors import UserError
from taichi_avatars.export import Choice, export, format_of
from taichi_avatars.export.compressed import write_compressed_ply
from taichi_avatars.export.splat import write_splat
from taichi_avatars.export.world import in_world
from taichi_avatars.inspection.info import describe

CONVERTER = "@playcanvas/splat-transform@2.7.1"  # the newest that Node.js 18 runs


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return colourful_avatar()


@pytest.fixture(scope="module")
def posed(avatar: Avatar) -> Gaussians:
    return in_world(avatar, avatar.mesh(4))


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10.0 * ((a - b) ** 2).mean().log10())


def matched(posed: Gaussians, means: np.ndarray) -> np.ndarray:
    """Which Gaussian each of another order's means is: the nearest."""
    return torch.cdist(torch.from_numpy(means).float(), posed.means).argmin(1).numpy()


def aligned(quats: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|cos| of half the angle between rotations."""
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True)
    return np.abs((quats / np.linalg.norm(quats, axis=1, keepdims=True) * truth).sum(1))


def test_splat_holds_what_its_layout_says(posed: Gaussians, tmp_path: Path) -> None:
    write_splat(posed, tmp_path / "a.splat")
    content = (tmp_path / "a.splat").read_bytes()
    assert len(content) == 32 * len(posed)
    rows = [struct.unpack("<6f8B", content[i : i + 32]) for i in range(0, len(content), 32)]
    numbers = np.array([row[:6] for row in rows], np.float32)
    steps = np.array([row[6:] for row in rows], np.float64)
    which = matched(posed, numbers[:, :3])
    assert sorted(which) == list(range(len(posed)))
    assert np.array_equal(numbers[:, :3], posed.means.numpy()[which])
    assert np.array_equal(numbers[:, 3:], posed.log_scales.exp().numpy()[which])
    color = (0.5 + C0 * posed.sh_base[:, 0].numpy()[which]).clip(0, 1)
    assert np.abs(steps[:, :3] / 255 - color).max() < 0.5001 / 255
    assert np.abs(steps[:, 3] / 255 - posed.opacities.numpy()[which]).max() < 0.5001 / 255
    assert aligned((steps[:, 4:] - 128) / 128, posed.quats.numpy()[which]).min() > 0.9999
    importance = (posed.log_scales.sum(1) + posed.opacities.log()).numpy()[which]
    assert (np.diff(importance) <= 0).all()


def unpack(word: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    values, shift = [], 32
    for width in bits:
        shift -= width
        values.append(((word >> shift) & ((1 << width) - 1)) / ((1 << width) - 1))
    return np.stack(values, 1)


def read_compressed(path: Path) -> Gaussians:
    """As the format is described, independently of what writes it."""
    data = PlyData.read(str(path))
    chunks, rows = data["chunk"].data, data["vertex"].data
    chunk = np.arange(len(rows)) // 256

    def between(prefix: str, axes: str, shares: np.ndarray) -> np.ndarray:
        low, high = (np.stack([chunks[f"{end}_{prefix}{axis}"][chunk] for axis in axes], 1) for end in ("min", "max"))
        return low + shares * (high - low)

    position, scale, color, rotation = (
        rows[name].astype(np.int64) for name in ("packed_position", "packed_scale", "packed_color", "packed_rotation")
    )
    shade = unpack(color, (8, 8, 8, 8))
    others = (unpack(rotation << 2, (10, 10, 10)) - 0.5) * np.sqrt(2)
    largest = np.sqrt(np.maximum(0, 1 - (others**2).sum(1)))
    quats = np.stack([np.insert(o, k, m) for o, k, m in zip(others, rotation >> 30, largest, strict=True)])
    rest = np.zeros((len(rows), 0))
    if "sh" in data:
        table = data["sh"].data
        rest = (np.stack([table[name] for name in table.dtype.names], 1) + 0.5) / 256 * 8 - 4
    opacity = torch.from_numpy(shade[:, 3]).float()
    return Gaussians(
        means=torch.from_numpy(between("", "xyz", unpack(position, (11, 10, 11)))).float(),
        quats=torch.from_numpy(quats).float(),
        log_scales=torch.from_numpy(between("scale_", "xyz", unpack(scale, (11, 10, 11)))).float(),
        logit_opacities=opacity.logit(),
        sh_base=torch.from_numpy((between("", "rgb", shade[:, :3]) - 0.5) / C0).float()[:, None],
        sh_rest=torch.from_numpy(rest).float().view(len(rows), 3, -1).transpose(1, 2).contiguous(),
        binding=None,
    )


def test_compressed_ply_reads_back_within_its_steps(posed: Gaussians, tmp_path: Path) -> None:
    write_compressed_ply(posed, tmp_path / "a.compressed.ply")
    read = read_compressed(tmp_path / "a.compressed.ply")
    assert len(read) == len(posed) and bool(torch.isfinite(read.logit_opacities).all())
    which = matched(posed, read.means.numpy())
    extent = float((posed.means.amax(0) - posed.means.amin(0)).max())
    # half a step of 10 bits (positions and scales have 11, 10 and 11), and some rounding
    assert float((read.means - posed.means[which]).abs().max()) < 0.6 * extent / 1023
    assert len(set(which)) > 0.95 * len(posed)  # a few so close that the nearest is another
    sure = np.array([i for i, w in enumerate(which) if np.count_nonzero(which == w) == 1])
    own = which[sure]
    spread = float((posed.log_scales.amax(0) - posed.log_scales.amin(0)).max())
    assert float((read.log_scales[sure] - posed.log_scales[own]).abs().quantile(0.99)) < 0.6 * spread / 1023
    opacities = posed.opacities.clamp(1 / 255, 254 / 255)  # as what is written, so that logits stay finite
    assert float((read.opacities[sure] - opacities[own]).abs().quantile(0.99)) < 0.51 / 255
    assert float((read.sh_rest[sure] - posed.sh_rest[own]).abs().quantile(0.99)) < 0.51 * 8 / 256
    assert np.quantile(aligned(read.quats.numpy()[sure], posed.quats.numpy()[own]), 0.01) > 0.99999


def test_compressed_ply_looks_the_same(avatar: Avatar, posed: Gaussians, tmp_path: Path) -> None:
    write_compressed_ply(posed, tmp_path / "a.compressed.ply")
    camera = camera_of(avatar)
    scene = Avatar(read_compressed(tmp_path / "a.compressed.ply"))
    assert psnr(scene.render(camera).image, avatar.render(camera, timestep=4).image) > 38.0


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257])
@pytest.mark.parametrize("degree", [0, 2])
def test_compressed_ply_of_any_number(posed: Gaussians, count: int, degree: int, tmp_path: Path) -> None:
    part = Gaussians(**{name: values[:count] for name, values in posed.parameters().items()}, binding=None)
    part.sh_rest = part.sh_rest[:, : (degree + 1) ** 2 - 1]
    write_compressed_ply(part, tmp_path / "a.ply")
    data = PlyData.read(str(tmp_path / "a.ply"))
    assert len(data["chunk"].data) == -(-count // 256) and len(data["vertex"].data) == count
    assert ("sh" in data) == (degree > 0)
    assert describe(tmp_path / "a.ply")["whole"]


@pytest.fixture(scope="module")
def converter() -> list[str]:
    """PlayCanvas' own program, which reads what SuperSplat reads."""
    found = shutil.which("splat-transform")
    if found:
        return [found]
    npx = shutil.which("npx")
    if not npx or not os.environ.get("CI"):
        pytest.skip("splat-transform is not installed (with CI set, npx fetches it)")
    command = [npx, "--yes", "--prefer-offline", CONVERTER]
    try:
        fetched = subprocess.run([*command, "--version"], capture_output=True, timeout=240).returncode == 0
    except subprocess.TimeoutExpired:
        fetched = False
    if not fetched:
        pytest.skip(f"npx cannot fetch {CONVERTER}")
    return command


@pytest.mark.parametrize(("kind", "least"), [("ply", 80.0), ("compressed", 38.0), ("splat", 38.0)])
def test_splat_transform_reads_what_is_written(
    avatar: Avatar, kind: str, least: float, converter: list[str], tmp_path: Path
) -> None:
    written = tmp_path / f"a{'.compressed.ply' if kind == 'compressed' else f'.{kind}'}"
    export(avatar, kind, written, Choice(timestep=4))
    subprocess.run([*converter, str(written), str(tmp_path / "read.ply")], check=True, capture_output=True, timeout=120)
    scene, camera = Avatar.load(tmp_path / "read.ply"), camera_of(avatar)
    assert len(scene.gaussians) == len(avatar.gaussians)
    truth = avatar.render(camera, timestep=4, sh_degree=0 if kind == "splat" else None).image
    assert psnr(scene.render(camera).image, truth) > least


def test_zip_holds_a_ply_per_frame(avatar: Avatar, tmp_path: Path) -> None:
    done: list[int] = []
    export(avatar, "zip", tmp_path / "a.zip", Choice(every=2, on_frame=done.append))
    with zipfile.ZipFile(tmp_path / "a.zip") as bundle:
        assert bundle.namelist() == ["frame_0000.ply", "frame_0001.ply"] and bundle.testzip() is None
        second = PlyData.read(BytesIO(bundle.read("frame_0001.ply")))["vertex"].data
    assert done == [1, 2]
    assert np.array_equal(second["x"], in_world(avatar, avatar.mesh(10)).means[:, 0].numpy())
    again = tmp_path / "again.zip"
    export(avatar, "zip", again, Choice(every=2))
    assert again.read_bytes() == (tmp_path / "a.zip").read_bytes()


def test_glb_is_the_posed_mesh(avatar: Avatar, tmp_path: Path) -> None:
    assert avatar.head is not None and avatar.head.uv is not None
    export(avatar, "glb", tmp_path / "a.glb", Choice(timestep=4))
    (mesh,) = trimesh.load(tmp_path / "a.glb", process=False).geometry.values()
    vertices = avatar.mesh(4).vertices.numpy()
    assert np.array_equal(mesh.vertices[: len(vertices)].astype(np.float32), vertices)  # under their own numbers
    assert np.array_equal(mesh.vertices[mesh.faces].astype(np.float32), vertices[avatar.head.faces.numpy()])
    assert np.allclose(mesh.visual.uv[mesh.faces], avatar.head.uv.numpy(), atol=1e-6)
    content = (tmp_path / "a.glb").read_bytes()
    index = json.loads(content[20 : 20 + struct.unpack("<I", content[12:16])[0]])
    box = index["accessors"][0]
    assert np.allclose(box["min"], vertices.min(0)) and np.allclose(box["max"], vertices.max(0))


def test_obj_is_the_posed_mesh_with_the_numbers_of_the_head(avatar: Avatar, tmp_path: Path) -> None:
    assert avatar.head is not None and avatar.head.uv is not None
    export(avatar, "obj", tmp_path / "a.obj", Choice())
    lines = [line.split() for line in (tmp_path / "a.obj").read_text().splitlines()]
    vertices = np.array([line[1:] for line in lines if line[0] == "v"], np.float32)
    texture = np.array([line[1:] for line in lines if line[0] == "vt"], np.float32)
    normals = np.array([line[1:] for line in lines if line[0] == "vn"], np.float64)
    corners = np.array([[corner.split("/") for corner in line[1:]] for line in lines if line[0] == "f"], np.int64)
    mesh = avatar.mesh().vertices.numpy()
    assert np.array_equal(vertices, mesh)
    assert np.array_equal(corners[..., 0] - 1, avatar.head.faces.numpy()) and np.array_equal(corners[..., 0], corners[..., 2])
    assert np.array_equal(texture[corners[..., 1] - 1], avatar.head.uv.numpy())
    assert np.abs(np.linalg.norm(normals, axis=1) - 1).max() < 1e-4  # written with six digits
    known = trimesh.Trimesh(mesh, avatar.head.faces.numpy(), process=False)
    assert known.triangles.shape == trimesh.load(tmp_path / "a.obj", process=False).triangles.shape


def test_npz_holds_everything(avatar: Avatar, tmp_path: Path) -> None:
    export(avatar, "npz", tmp_path / "a.npz", Choice(timestep=10))
    mesh = avatar.mesh(10)
    world, frames = avatar.world(mesh)
    assert frames is not None and avatar.sequence is not None
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["means"], world.means.numpy()) and np.array_equal(arrays["quats"], world.quats.numpy())
        assert np.allclose(arrays["scales"], world.scales.numpy(), rtol=1e-6)
        assert np.array_equal(arrays["opacities"], avatar.gaussians.opacities.numpy())
        assert np.array_equal(arrays["sh"], avatar.gaussians.sh(3).numpy())
        assert np.array_equal(arrays["vertices"], mesh.vertices.numpy())
        assert np.array_equal(arrays["frame_rotation"], frames.rotation.numpy())
        assert np.array_equal(arrays["jaw_pose"], avatar.sequence.jaw_pose[2].numpy())
        assert np.array_equal(arrays["local_means"], avatar.gaussians.means.numpy())


@pytest.mark.parametrize("kind", ["ply", "compressed", "splat", "npz"])
def test_a_static_scene_is_exported_as_it_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{'ply' if kind == 'compressed' else kind}"
    export(static_scene(), kind, path, Choice())
    description = describe(path)
    assert description["whole"] and description["facts"]["gaussians"] == 3000  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("kind", ["glb", "obj", "zip"])
def test_a_static_scene_has_neither_mesh_nor_motion(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{kind} needs an avatar with a head"):
        export(static_scene(), kind, tmp_path / f"a.{kind}", Choice())
    assert list(tmp_path.iterdir()) == []


def test_an_avatar_is_not_overwritten_by_its_export(avatar: Avatar, tmp_path: Path) -> None:
    ply = avatar.save(tmp_path)
    before = ply.read_bytes()
    with pytest.raises(UserError, match="an avatar's own file"):
        export(avatar, "ply", ply, Choice())
    assert ply.read_bytes() == before


def test_what_cannot_be_written_leaves_nothing(avatar: Avatar, tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    for kind in ("ply", "compressed", "splat", "zip", "glb", "obj", "npz", "web"):
        with pytest.raises(UserError, match="cannot be written"):
            export(avatar, kind, tmp_path / "folder" / "a", Choice())
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.ply", "ply"), ("a.compressed.ply", "compressed"), ("A.GLB", "glb"), ("x.zip", "zip"), ("site", None), ("a.fbx", None)],
)
def test_the_name_says_the_format(name: str, kind: str | None) -> None:
    assert format_of(Path("somewhere") / name) == kind


@pytest.mark.parametrize("kind", ["compressed", "splat", "zip", "glb", "obj"])
def test_info_finds_what_is_cut_off(avatar: Avatar, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{'ply' if kind == 'compressed' else kind}"
    export(avatar, kind, path, Choice(timestep=None if kind == "zip" else 4, every=3))
    assert describe(path)["whole"]
    content = path.read_bytes()
    kept = content[: len(content) // 2 + 5]
    path.write_bytes(kept + (b"\nf 1 2 99999" if kind == "obj" else b""))
    description = describe(path)
    assert not description["whole"] and "export again" in str(description["problems"])
