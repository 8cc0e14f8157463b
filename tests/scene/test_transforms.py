"""`transforms_*.json` as other programs write them: which keys go before which, names of files, and the bytes of the text."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from scene.tiny_capture import HEIGHT, WIDTH, read_split, write_split, write_tiny_capture

from taichi_avatars.errors import UserError
from taichi_avatars.scene.capture import load_capture

FOCAL = 200.0
ANGLE = 2 * math.atan(0.5 * WIDTH / FOCAL)


def with_frames(folder: Path, shared: dict, change) -> None:
    content = read_split(folder, "train")
    for frame in content["frames"]:
        for key in ("fl_x", "fl_y"):
            frame.pop(key, None)
        change(frame)
    write_split(folder, "train", {**shared, **content})


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        ({"fl_x": 24.0, "fl_y": 25.0}, {"camera_angle_x": ANGLE}, (FOCAL, FOCAL)),
        ({"fl_x": 24.0, "camera_angle_x": 1.0}, {"camera_angle_x": ANGLE}, (FOCAL, FOCAL)),
        ({"camera_angle_x": 1.0}, {"fl_x": FOCAL, "fl_y": 190.0}, (FOCAL, 190.0)),
        ({"fl_x": 24.0, "fl_y": 25.0}, {"camera_angle_x": ANGLE, "fl_y": 190.0}, (FOCAL, 190.0)),
        ({"fl_x": FOCAL, "fl_y": 190.0}, {"fl_x": 210.0}, (210.0, 190.0)),
        ({"fl_x": FOCAL, "camera_angle_x": 1.0}, {}, (FOCAL, FOCAL)),
        ({"fl_x": FOCAL}, {"camera_angle_x": None}, (FOCAL, FOCAL)),
    ],
)
def test_a_frames_keys_go_before_shared_ones(tmp_path: Path, shared: dict, own: dict, expected: tuple) -> None:
    folder = write_tiny_capture(tmp_path)
    with_frames(folder, shared, lambda frame: frame.update(own))
    camera = load_capture(folder).train[0].camera
    assert (camera.fx, camera.fy) == pytest.approx(expected)


def test_backslashes(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    expected = load_capture(folder, use_mask=True).train

    def change(frame: dict) -> None:
        for key in ("file_path", "flame_param_path", "fg_mask_path"):
            frame[key] = ".\\" + frame[key].replace("/", "\\")
        frame.update(fl_x=expected[0].camera.fx)

    with_frames(folder, {}, change)
    read = load_capture(folder, use_mask=True).train
    assert [(view.image.resolve(), view.name) for view in read] == [(view.image, view.name) for view in expected]


def test_a_backslash_may_belong_to_a_name(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    content = read_split(folder, "train")
    frame = content["frames"][0]
    odd = folder / "images" / "a\\b.png"
    (folder / frame["file_path"]).rename(odd)
    frame["file_path"] = "images/a\\b.png"
    write_split(folder, "train", content)
    assert load_capture(folder).train[0].image == odd


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    folder = write_tiny_capture(tmp_path)
    path = folder / "transforms_train.json"
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode(encoding))
    assert len(load_capture(folder).train) == 4


@pytest.mark.parametrize(("camera_id", "name"), [(None, "1"), ("", "1"), (7, "7"), ("left", "left")])
def test_names_of_cameras(tmp_path: Path, camera_id: object, name: str) -> None:
    """null is no name: the number stands for it."""
    folder = write_tiny_capture(tmp_path)
    content = read_split(folder, "train")
    for frame in content["frames"]:
        frame["camera_id"] = camera_id
    write_split(folder, "train", content)
    assert load_capture(folder).train[0].camera_id == name


@pytest.mark.parametrize(
    ("name", "file"), [("a", "a.png"), ("a", "a.jpg"), ("frame.0001", "frame.0001.png"), ("b.0.5", "b.0.5.JPG")]
)
def test_names_without_a_suffix(tmp_path: Path, name: str, file: str) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / file)
    pose = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 4], [0, 0, 0, 1]]
    content = {"camera_angle_x": 0.7, "frames": [{"file_path": f"./{name}", "transform_matrix": pose}]}
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    assert load_capture(tmp_path).train[0].image == tmp_path / file


def ring(count: int, middle: tuple[float, float, float] = (0.0, 0.0, 0.0), **more) -> dict:
    """A `transforms.json` of cameras 4 units around a point, named in the order of their angle."""
    frames = []
    for i in range(count):
        turn = 2 * math.pi * i / count
        c, s = math.cos(turn), math.sin(turn)
        x, y, z = middle
        pose = [[c, 0, s, x + 4 * s], [0, 1, 0, y], [-s, 0, c, z + 4 * c], [0, 0, 0, 1]]
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": pose})
    return {"camera_angle_x": 0.7, "frames": frames[::-1], **more}


def write_ring(folder: Path, content: dict) -> Path:
    (folder / "images").mkdir()
    for frame in content["frames"]:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / frame["file_path"])
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def test_one_list_of_all_frames_is_split(tmp_path: Path) -> None:
    capture = load_capture(write_ring(tmp_path, ring(17, (10.0, -2.0, 3.0))))
    assert [view.name for view in capture.test] == ["000", "008", "016"]
    assert len(capture.train) == 14 and capture.val == []
    assert capture.points is not None
    points = capture.points[0]  # around what the cameras look at, as far as half of their distance
    torch.testing.assert_close(points.mean(0), torch.tensor([10.0, -2.0, 3.0]), atol=0.05, rtol=0)
    assert float((points - torch.tensor([10.0, -2.0, 3.0])).abs().max()) == pytest.approx(2.0, abs=0.01)


def test_lists_of_names_split_it(tmp_path: Path) -> None:
    lists = {"train_filenames": ["images/000.png"], "val_filenames": ["images/001.png"], "test_filenames": ["images/001.png"]}
    capture = load_capture(write_ring(tmp_path, ring(3, **lists)))
    assert [view.name for view in capture.test] == ["001"] and [view.name for view in capture.train] == ["000", "002"]


def test_a_ply_of_points(tmp_path: Path) -> None:
    kinds = [*((name, "f8") for name in "xyz"), *((name, "u1") for name in ("red", "green", "blue"))]
    table = np.array([(1.0, 2.0, 3.0, 255, 0, 51)] * 2, dtype=kinds)
    PlyData([PlyElement.describe(table, "vertex")]).write(str(tmp_path / "sparse.ply"))
    capture = load_capture(write_ring(tmp_path, ring(3, ply_file_path="sparse.ply")))
    assert capture.points is not None
    torch.testing.assert_close(capture.points[0], torch.tensor([[1.0, 2.0, 3.0]] * 2))
    torch.testing.assert_close(capture.points[1], torch.tensor([[1.0, 0.0, 0.2]] * 2))


def test_a_head_capture_with_one_list(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, timesteps=tuple(range(9)), cameras=2)
    frames = [frame for split in ("train", "val", "test") for frame in read_split(folder, split)["frames"]]
    for split in ("train", "val", "test"):
        (folder / f"transforms_{split}.json").unlink()
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    capture = load_capture(folder)
    assert {view.timestep for view in capture.test} == {8} and len(capture.test) == 2
    assert {view.timestep for view in capture.train} == set(range(8)) and len(capture.train) == 16


def test_a_pose_may_lack_its_last_row(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    expected = load_capture(folder).train[0].camera.world_to_camera

    def change(frame: dict) -> None:
        frame.update(fl_x=FOCAL, transform_matrix=frame["transform_matrix"][:3])

    with_frames(folder, {}, change)
    assert torch.equal(load_capture(folder).train[0].camera.world_to_camera, expected)


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        ("images/A.png", "images/a.PNG"),  # Windows takes them for the same, and so does a Mac
        ("Images/b.png", "images/b.png"),
        ("images/Ren\u00e9.png", "images/Rene\u0301.png"),  # a Mac takes accents apart
    ],
)
def test_names_that_other_systems_take_for_the_same(tmp_path: Path, listed: str, stored: str) -> None:
    folder = write_tiny_capture(tmp_path)
    content = read_split(folder, "train")
    frame = content["frames"][0]
    (folder / frame["file_path"]).rename(folder / stored)
    write_split(folder, "train", {**content, "frames": [frame | {"file_path": listed}]})
    if (folder / listed).exists():
        pytest.skip("this file system takes them for the same, too")
    assert load_capture(folder).train[0].image == folder / stored
    (folder / "images" / "A.pnG").write_bytes(b"")
    (folder / "images" / "a.Png").write_bytes(b"")
    write_split(folder, "train", {**content, "frames": [frame | {"file_path": "images/A.png"}]})
    with pytest.raises(UserError, match=r"images/A\.png is missing"):  # two may be meant
        load_capture(folder)
