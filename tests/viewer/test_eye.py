import math
from types import SimpleNamespace

import pytest
import torch

import taichi_avatars as ta
from taichi_avatars.viewer.eye import eye_of, read_eye


def camera() -> ta.Camera:
    eye, target = torch.tensor([0.3, 0.2, 1.1]), torch.tensor([0.0, 0.05, 0.0])
    return ta.Camera.look_at(eye, target, math.radians(20.0), 90, 120)


def reported(**changed: object) -> SimpleNamespace:
    eye = eye_of(camera())
    values = {"wxyz": eye.quat, "position": eye.position, "fov": eye.fov_y, "image_height": 400, "image_width": 300}
    return SimpleNamespace(**{**values, **changed})


def test_the_eye_of_a_camera_sees_what_the_camera_sees() -> None:
    given = ta.Camera.from_opencv(camera().world_to_camera, 700.0, 700.0, 40.0, 66.0, 90, 120)
    again = eye_of(given).camera(120, 120)
    torch.testing.assert_close(again.world_to_camera, given.world_to_camera, atol=1e-6, rtol=0)
    for name in ("fx", "fy", "cx", "cy", "width", "height", "low_pass"):
        assert getattr(again, name) == pytest.approx(getattr(given, name), rel=1e-6), name


def test_fewer_pixels_are_the_same_view_with_the_same_blur() -> None:
    eye = eye_of(camera())
    full, half = eye.camera(120, 120), eye.camera(60, 120)
    assert (half.width, half.height, half.fy) == (45, 60, pytest.approx(0.5 * full.fy))
    assert half.low_pass == pytest.approx(0.25 * full.low_pass)


def test_what_a_browser_reports_is_read() -> None:
    eye = read_eye(reported(), (0.1, 0.0))
    assert eye is not None and eye.aspect == 0.75 and eye.shift == (0.1, 0.0)
    assert read_eye(reported(image_width=10**9)).camera(100, 100).width == 800


@pytest.mark.parametrize(
    "changed",
    [
        {"wxyz": (math.nan, 0, 0, 0)}, {"wxyz": (0, 0, 0, 0)}, {"wxyz": (1, 0, 0)}, {"wxyz": "abcd"}, {"wxyz": None},
        {"position": (math.inf, 0, 0)}, {"position": (1e30, 0, 0)}, {"position": 3}, {"fov": 0.0}, {"fov": math.nan},
        {"fov": 4.0}, {"fov": "x"}, {"image_height": 0}, {"image_width": -5}, {"image_height": None}, {"image_width": math.inf},
    ],
)  # fmt: skip
def test_what_is_no_view_is_refused(changed: dict[str, object]) -> None:
    assert read_eye(reported(**changed)) is None
