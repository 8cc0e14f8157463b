"""Camera paths: they pass through their keys, smoothly, in the world's or the head's axes; mistakes are located."""

import json
import math
from pathlib import Path

import pytest
import roma
import torch

from taichi_avatars.avatar.place import Place
from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL, Camera
from taichi_avatars.video.camera_path import read_camera_path

HERE = Place(torch.zeros(3), torch.eye(3), torch.ones(3))


def write(path: Path, keys: list[object], **others: object) -> Path:
    path.write_text(json.dumps({"keys": keys, **others}))
    return path


def looking(time: float, *position: float, **others: object) -> dict[str, object]:
    return {"time": time, "position": list(position), "look_at": [0.0, 0.0, 0.0], **others}


FLOAT32 = 1e-5  # of poses and places of some metres, after an inversion or two


def test_keys_are_met(tmp_path: Path) -> None:
    """As `Camera.look_at` sees them; before the first and after the last the camera stands."""
    places = [(0.0, 0.0, 1.0), (0.6, 0.1, 0.9), (0.9, 0.5, 0.4)]
    keys = [looking(t, *p, fov_y=fov) for t, p, fov in zip((1.0, 2.0, 4.0), places, (20.0, 30.0, 25.0), strict=True)]
    path = read_camera_path(write(tmp_path / "p.json", keys))
    for time, key in ((0.0, 0), (1.0, 0), (2.0, 1), (4.0, 2), (99.0, 2)):
        camera = path.at(time, HERE, 80, 60)
        fov = math.radians((20.0, 30.0, 25.0)[key])
        expected = Camera.look_at(torch.tensor(places[key]), torch.zeros(3), fov, 80, 60)
        torch.testing.assert_close(camera.world_to_camera, expected.world_to_camera, atol=FLOAT32, rtol=0)
        assert (camera.fx, camera.fy, camera.cx, camera.cy) == pytest.approx((expected.fx, expected.fy, 40.0, 30.0))


def test_a_straight_even_path_stays_so(tmp_path: Path) -> None:
    """A cubic reproduces a line (and a parabola) at any times of its keys."""
    path = read_camera_path(write(tmp_path / "p.json", [looking(t, 0.3 * t, 0.1 * t * t, 2.0) for t in (0.0, 0.5, 2.0, 3.0)]))
    for t in (0.1, 0.4, 0.9, 1.7, 2.9):
        torch.testing.assert_close(
            path.at(t, HERE, 8, 8).center, torch.tensor([0.3 * t, 0.1 * t * t, 2.0]), atol=FLOAT32, rtol=0
        )


def test_what_is_looked_at_stays_in_the_middle(tmp_path: Path) -> None:
    keys = [looking(t, *p) for t, p in ((0.0, (0, 0, 1.2)), (0.8, (0.5, 0.15, 1)), (1.5, (-0.4, 0, 0.6)))]
    keys[2]["look_at"] = [0.0, 0.1, 0.0]
    path = read_camera_path(write(tmp_path / "p.json", keys))
    for t in (0.1, 0.5, 0.8, 1.1, 1.4):
        pose = path.at(t, HERE, 8, 8).world_to_camera
        x, y, z = (pose[:3, :3] @ torch.tensor([0.0, max(0.0, 0.1 * (t - 0.8) / 0.7), 0.0]) + pose[:3, 3]).tolist()
        assert abs(x) < 1e-5 and abs(y) < 1e-5 and z > 0.3
        assert (pose[:3, :3] @ torch.tensor([0.0, 1.0, 0.0]))[1] < -0.9  # upright


def test_no_jumps_in_speed(tmp_path: Path) -> None:
    keys = [looking(t, *p) for t, p in ((0.0, (0, 0, 1)), (1.0, (1, 0, 1)), (1.5, (1, 1, 1)), (3.0, (0, 1, 2)))]
    path = read_camera_path(write(tmp_path / "p.json", keys))
    at = torch.arange(0.0, 3.0, 0.01)
    places = torch.stack([path.at(float(t), HERE, 8, 8).center for t in at]).double()
    bends = (places[2:] - 2 * places[1:-1] + places[:-2]).norm(dim=1) / 0.01
    assert bends.max() < 0.3  # metres per second between two hundredths; a kink at the second key would be 2


def test_rotations_turn_evenly_the_short_way(tmp_path: Path) -> None:
    def pose(yaw: float) -> list[list[float]]:
        matrix = torch.eye(4)
        matrix[:3, :3] = roma.euler_to_rotmat("Y", [yaw])
        return matrix.tolist()

    keys = [{"time": t, "transform_matrix": pose(yaw)} for t, yaw in ((0.0, 3.0), (1.0, -3.0))]
    path = read_camera_path(write(tmp_path / "p.json", keys))
    start = path.at(0.0, HERE, 8, 8).world_to_camera[:3, :3].double()
    short = 2 * math.pi - 6.0
    for t in (0.25, 0.5, 1.0):
        turn = path.at(t, HERE, 8, 8).world_to_camera[:3, :3].double() @ start.T
        assert roma.rotmat_to_rotvec(turn).norm().item() == pytest.approx(t * short, abs=1e-4)


def test_a_matrix_is_that_of_a_capture(tmp_path: Path) -> None:
    camera = Camera.look_at(torch.tensor([0.3, 0.4, 1.5]), torch.tensor([0.0, 0.1, 0.0]), 0.4, 40, 50)
    matrix = (torch.linalg.inv(camera.world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()).tolist()
    path = read_camera_path(write(tmp_path / "p.json", [{"time": 0, "transform_matrix": matrix, "fov_y": math.degrees(0.4)}]))
    got = path.at(5.0, HERE, 40, 50)
    torch.testing.assert_close(got.world_to_camera, camera.world_to_camera, atol=FLOAT32, rtol=0)
    assert got.fy == pytest.approx(camera.fy)


def test_a_path_around_the_head(tmp_path: Path) -> None:
    """In the head's axes: a metre in front of a head that lies on its side and looks along x."""
    rotation = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # columns: its left, up and forward
    head = Place(torch.tensor([5.0, 6.0, 7.0]), rotation, torch.ones(3))
    path = read_camera_path(write(tmp_path / "p.json", [looking(0.0, 0.0, 0.0, 1.0)], frame="head"))
    camera = path.at(0.0, head, 8, 8)
    torch.testing.assert_close(camera.center, torch.tensor([6.0, 6.0, 7.0]), atol=FLOAT32, rtol=0)
    up = camera.world_to_camera[:3, :3] @ rotation[:, 1]
    torch.testing.assert_close(up, torch.tensor([0.0, -1.0, 0.0]), atol=1e-6, rtol=0)


GOOD = looking(0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "keys"),
        ([GOOD, {"time": 1.0}], "key frame 1: want either"),
        ([GOOD, {**GOOD, "transform_matrix": [[1]]}], "key frame 1: want either"),
        ([GOOD, GOOD], "key frame 1: its time"),
        ([{**GOOD, "time": "soon"}], "key frame 0: time"),
        ([{**GOOD, "position": [0, 1]}], "key frame 0: position"),
        ([{**GOOD, "look_at": [0, 0, float("nan")]}], "key frame 0: look_at"),
        ([{**GOOD, "up": [0, 0, 1]}], "key frame 0: it looks straight"),
        ([{**GOOD, "look_at": [0, 0, 1]}], "key frame 0: it looks straight"),
        ([{**GOOD, "fov_y": 200}], "key frame 0: fov_y"),
        ([{**GOOD, "fov": 20}], "unknown entry 'fov'"),
        ([{"time": 0, "transform_matrix": [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]}], "not a rotation"),
        ([3], "key frame 0: want an object"),
    ],
)
def test_mistakes_are_located(tmp_path: Path, keys: list[object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_camera_path(write(tmp_path / "p.json", keys))
    assert "p.json" in str(caught.value) and "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for content in ("[]", "{", '{"keys": [{}], "frame": "camera"}'):
        (tmp_path / "p.json").write_text(content)
        with pytest.raises(UserError, match=r"p\.json"):
            read_camera_path(tmp_path / "p.json")
