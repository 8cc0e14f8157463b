import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene.tiny_capture import camera_at

from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.scene.images import load_image

ANGLE = 0.6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three training and two test images of 20 x 10 pixels, half transparent, named without a suffix."""
    for split, cameras in (("train", (0, 1, 2)), ("test", (0, 1))):
        (tmp_path / split).mkdir()
        frames = []
        for number in cameras:
            pixels = np.full((10, 20, 4), (200, 100, 0, 255), dtype=np.uint8)
            pixels[:, :10, 3] = 0
            Image.fromarray(pixels).save(tmp_path / split / f"r_{number}.png")
            pose = torch.linalg.inv(camera_at(number).world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()
            frames.append({"file_path": f"./{split}/r_{number}", "rotation": 0.1, "transform_matrix": pose.tolist()})
        content = {"camera_angle_x": ANGLE, "frames": frames}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(content))
    return tmp_path


def test_views_and_cameras(folder: Path) -> None:
    capture = load_capture(folder)
    assert capture.kind == "blender" and capture.flame is None and capture.val == []
    assert [view.name for view in capture.train] == ["train_r_0", "train_r_1", "train_r_2"]
    assert [view.name for view in capture.test] == ["test_r_0", "test_r_1"]
    camera = capture.train[1].camera
    assert camera.fx == camera.fy == pytest.approx(10 / math.tan(ANGLE / 2))
    assert (camera.cx, camera.cy, camera.width, camera.height) == (10, 5, 20, 10)
    torch.testing.assert_close(camera.world_to_camera, camera_at(1).world_to_camera, atol=1e-6, rtol=0)
    assert all(view.timestep is None for view in capture.train)
    assert len(load_capture(folder, evaluation=False).train) == 5


def test_images_are_composited(folder: Path) -> None:
    image = load_image(load_capture(folder).train[0], (1.0, 1.0, 1.0))
    torch.testing.assert_close(image[:, 0, 0], torch.ones(3))
    torch.testing.assert_close(image[:, 0, 19], torch.tensor([200, 100, 0]) / 255)


def test_points_and_extent(folder: Path) -> None:
    capture = load_capture(folder)
    assert capture.points is not None
    positions, colours = capture.points
    assert positions.shape == colours.shape == (100_000, 3)
    assert positions.abs().max().item() <= 1.3 and positions.std(0).min().item() > 0.7
    again = load_capture(folder).points
    assert again is not None and torch.equal(positions, again[0])
    assert 0.5 < capture.extent < 0.62


def test_one_camera_has_the_extent_of_the_points(folder: Path) -> None:
    content = json.loads((folder / "transforms_train.json").read_text())
    content["frames"] = content["frames"][:1]
    (folder / "transforms_train.json").write_text(json.dumps(content))
    assert load_capture(folder).extent == pytest.approx(1.3, abs=0.02)  # RMS radius of a cube's points: its half size


def test_masks_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="static scene has none"):
        load_capture(folder, use_mask=True)


def test_missing_image_is_named(folder: Path) -> None:
    (folder / "test/r_1.png").unlink()
    with pytest.raises(UserError, match=r"transforms_test.json: frame 1 .*test/r_1.png is missing"):
        load_capture(folder)
