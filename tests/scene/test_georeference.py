"""Scenes in the coordinates of a survey: nothing is lost in 32 bits, and what is written is in the survey's coordinates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians, read_gaussians
from taichi_avatars.avatar.model_folder import first_camera
from taichi_avatars.config import TrainConfig
from taichi_avatars.export import Choice, export
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.scene.georeference import as_comment, from_comments, origin_of
from taichi_avatars.training.description import describe
from taichi_avatars.video.camera_path import camera_path, shifted

PLACE = np.array([-431_250.0, 5_412_345.0, 512.0])  # metres east, north and up, as surveys have them


def write_scene(folder: Path, place: np.ndarray) -> np.ndarray:
    """A COLMAP scene of 40 points over 2 m and 9 cameras above them; returns the points without the place, (40,3)."""
    (folder / "sparse/0").mkdir(parents=True)
    (folder / "images").mkdir()
    points = np.random.default_rng(0).uniform(-1, 1, (40, 3)).round(4)
    lines = [f"{i} {x:.4f} {y:.4f} {z:.4f} 9 9 9 0.1" for i, (x, y, z) in enumerate(points + place)]
    (folder / "sparse/0/points3D.txt").write_text("\n".join(lines))
    (folder / "sparse/0/cameras.txt").write_text("1 PINHOLE 48 64 60 60 24 32\n")
    lines = []
    for i in range(9):  # half a turn about x: the camera looks down along -z; t = -R c
        x, y, z = np.array([0.1 * i, -0.05 * i, 4.0]) + place
        lines.append(f"{i} 0 1 0 0 {-x:.4f} {y:.4f} {z:.4f} 1 {i}.png")
        Image.new("RGB", (48, 64)).save(folder / f"images/{i}.png")
    (folder / "sparse/0/images.txt").write_text("\n\n".join(lines) + "\n")
    return points


def pixels(capture, points: torch.Tensor) -> torch.Tensor:
    """Where the first training camera sees points (P,3), in 32 bits, as kernels do."""
    camera = capture.train[0].camera
    view = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    return torch.stack([camera.fx * view[:, 0] / view[:, 2] + camera.cx, camera.fy * view[:, 1] / view[:, 2] + camera.cy], 1)


def test_pictures_are_as_sharp_as_at_the_origin(tmp_path: Path) -> None:
    write_scene(tmp_path / "near", np.zeros(3))
    write_scene(tmp_path / "far", PLACE)
    near, far = load_capture(tmp_path / "near"), load_capture(tmp_path / "far")
    assert near.origin == (0.0, 0.0, 0.0) and near.remarks() == []
    # the places of cameras and points are written with 4 digits: 0.1 mm, 1.5e-3 pixels
    torch.testing.assert_close(pixels(far, far.points[0]), pixels(near, near.points[0]), atol=3e-3, rtol=0)
    assert far.extent == pytest.approx(near.extent, abs=1e-4)
    np.testing.assert_allclose(far.origin, PLACE, atol=2.0)  # metres: the middle of the points lies near it
    assert "far from their origin" in far.remarks()[0] and "5412345" in far.remarks()[0]


def test_origins() -> None:
    spread = np.random.default_rng(0).normal(size=(100, 3))
    assert origin_of(spread + 20.0) == (0.0, 0.0, 0.0)  # twenty times its size away: as it is, to the bit
    assert all(value.is_integer() for value in origin_of(50.0 * spread + PLACE))
    assert origin_of(spread[:1] * 0.0) == (0.0, 0.0, 0.0) == origin_of(spread[:0])
    place = (0.1, -1e7 / 3.0, 1e-300)
    assert from_comments(["made by hand", as_comment(place)]) == place
    assert from_comments(["origin of this file", "origin 1 2 x", "origin nan 0 0"]) is None


@pytest.fixture
def far(tmp_path: Path) -> Avatar:
    write_scene(tmp_path / "scene", PLACE)
    capture = load_capture(tmp_path / "scene")
    assert capture.points is not None
    return Avatar(Gaussians.from_points(*capture.points, 1), origin=capture.origin)


def test_an_avatars_file_is_in_the_scenes_coordinates(far: Avatar, tmp_path: Path) -> None:
    ply = far.save(tmp_path / "saved")
    table = PlyData.read(str(ply))["vertex"].data
    means = np.stack([table[name] for name in "xyz"], 1)
    np.testing.assert_allclose(means, far.gaussians.means.double().numpy() + far.origin, atol=1e-9)  # float64
    again = Avatar.load(ply)
    assert again.origin == far.origin
    torch.testing.assert_close(again.gaussians.means, far.gaussians.means, atol=1e-8, rtol=0)  # float64 of 5e6 m: 1e-9
    table = table.copy()  # as other programs write it: 64 bits, no comment
    from plyfile import PlyElement

    PlyData([PlyElement.describe(table, "vertex")]).write(str(tmp_path / "other.ply"))
    gaussians, origin = read_gaussians(tmp_path / "other.ply")
    np.testing.assert_allclose(gaussians.means.double().numpy() + origin, means, atol=1e-6)


@pytest.mark.parametrize("turn", [False, True])
def test_exports_are_in_the_scenes_coordinates(far: Avatar, tmp_path: Path, turn: bool) -> None:
    signs = np.array([-1.0, -1.0, 1.0]) if turn else np.ones(3)
    wanted = signs * (far.gaussians.means.double().numpy() + far.origin)
    export(far, "npz", tmp_path / "a.npz", Choice(turn=turn))
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["means"], wanted, atol=1e-9)
    export(far, "ply", tmp_path / "a.ply", Choice(turn=turn))
    table = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    np.testing.assert_allclose(np.stack([table[name] for name in "xyz"], 1), wanted, atol=1e-9)


def test_an_ordinary_file_does_not_change(tmp_path: Path) -> None:
    gaussians = Gaussians.from_points(torch.rand(5, 3), torch.rand(5, 3), 0)
    gaussians.save_ply(tmp_path / "a.ply")
    Avatar(gaussians).save(tmp_path)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "point_cloud.ply").read_bytes()
    assert b"comment" not in (tmp_path / "a.ply").read_bytes() and b"double" not in (tmp_path / "a.ply").read_bytes()


def test_cameras_and_the_capture_of_a_model(far: Avatar, tmp_path: Path) -> None:
    capture = load_capture(tmp_path / "scene")
    describe(tmp_path, TrainConfig(), capture)
    entry = json.loads((tmp_path / "cameras.json").read_text())[0]
    number = int(entry["img_name"])
    np.testing.assert_allclose(entry["position"], PLACE + np.array([0.1 * number, -0.05 * number, 4.0]), atol=1e-6)
    camera = first_camera(tmp_path, capture.origin)
    assert camera is not None
    torch.testing.assert_close(camera.world_to_camera, capture.train[0].camera.world_to_camera, atol=1e-5, rtol=0)
    moved = load_capture(tmp_path / "scene", origin=(1.0, 2.0, 3.0))  # the avatar's, whatever the capture would choose
    assert moved.origin == (1.0, 2.0, 3.0)


def test_camera_paths_are_in_the_scenes_coordinates() -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = [0.25, 0.5, 4.0]
    keys = [
        {"time": 0.0, "position": [0.25, 0.5, 4.0], "look_at": [0.0, 0.0, 0.0], "up": [0.0, 1.0, 0.0]},
        {"time": 1.0, "transform_matrix": matrix.tolist()},
    ]
    there = shifted(keys, tuple(PLACE))
    assert there[0]["position"] == (np.array([0.25, 0.5, 4.0]) + PLACE).tolist() and there[0]["up"] == [0.0, 1.0, 0.0]
    assert [row[3] for row in there[1]["transform_matrix"]] == [*(np.array([0.25, 0.5, 4.0]) + PLACE).tolist(), 1.0]
    back = camera_path({"keys": shifted(there, tuple(-PLACE))}, "back")
    torch.testing.assert_close(back.positions, camera_path({"keys": keys}, "keys").positions, atol=1e-9, rtol=0)
    assert shifted(keys, (0.0, 0.0, 0.0)) is keys
