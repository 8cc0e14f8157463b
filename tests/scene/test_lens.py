"""Distorted pictures: what is read is what a pinhole would have taken, at every size; unknown lenses are refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene.tiny_capture import read_split, write_split, write_tiny_capture

from taichi_avatars.errors import UserError
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.scene.images import load_alpha, load_image
from taichi_avatars.scene.lens import Lens

WIDTH, HEIGHT, FX, FY, CX, CY = 160, 120, 150.0, 155.0, 78.0, 63.0
PSNR = 45.0  # dB of an undistorted picture; 8 bits alone allow 59, the spline between pixels takes the rest

LENSES = {
    "barrel": {"k1": -0.25, "k2": 0.06},
    "pincushion": {"k1": 0.2, "k2": -0.03},
    "decentred": {"k1": -0.1, "k2": 0.02, "p1": 0.012, "p2": -0.009},
    "sixth and eighth power": {"k1": -0.1, "k2": 0.05, "k3": -0.02, "k4": 0.01},
    "fisheye": {"camera_model": "OPENCV_FISHEYE", "k1": 0.05, "k2": -0.01, "k3": 0.003, "k4": -0.001},
    "ideal fisheye": {"is_fisheye": True},
}


def bend(x: np.ndarray, y: np.ndarray, k: dict) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's equations, once more and independently of the package."""
    r = np.hypot(x, y)
    k1, k2, k3, k4, p1, p2 = (k.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if k.get("is_fisheye") or "FISHEYE" in k.get("camera_model", ""):
        theta = np.arctan(r)
        bent = theta * (1 + k1 * theta**2 + k2 * theta**4 + k3 * theta**6 + k4 * theta**8)
        return x * bent / np.maximum(r, 1e-12), y * bent / np.maximum(r, 1e-12)
    radial = 1 + k1 * r**2 + k2 * r**4 + k3 * r**6 + k4 * r**8
    return (
        x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
        y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
    )


def unbend(u: np.ndarray, v: np.ndarray, k: dict) -> tuple[np.ndarray, np.ndarray]:
    """The inverse, by Newton's iteration with numerical derivatives."""
    x, y = u.copy(), v.copy()
    h = 1e-6
    for _ in range(30):
        fx, fy = bend(x, y, k)
        (ax, ay), (bx, by) = bend(x + h, y, k), bend(x, y + h, k)
        a, b, c, d = (ax - fx) / h, (bx - fx) / h, (ay - fy) / h, (by - fy) / h
        ex, ey, det = fx - u, fy - v, a * d - b * c
        x, y = x - (d * ex - b * ey) / det, y - (a * ey - c * ex) / det
    return x, y


def world(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What is seen along a ray (x, y, 1): smooth colours (...,3) in [0,1]."""
    waves = [np.sin(14 * x + 3 * y), np.cos(11 * y - 5 * x), np.sin(9 * (x + y)) * np.cos(13 * x)]
    return np.stack([0.5 + 0.35 * wave for wave in waves], -1)


def rays(width: int, height: int, fx: float, fy: float, cx: float, cy: float) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.meshgrid((np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy))  # pyright: ignore


def taken(k: dict, scale: int = 1) -> np.ndarray:
    """The distorted picture, uint8."""
    x, y = rays(WIDTH * scale, HEIGHT * scale, FX * scale, FY * scale, CX * scale, CY * scale)
    return (255 * world(*unbend(x, y, k))).round().astype(np.uint8)


def seen_by(camera) -> torch.Tensor:
    picture = world(*rays(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy))
    return torch.from_numpy(picture).permute(2, 0, 1).float()


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(float((a - b).square().mean()))


def write_scene(folder: Path, k: dict, picture: np.ndarray, **more) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / "a.png")
    shared = {"w": WIDTH, "h": HEIGHT, "fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY, **k, **more}
    content = {**shared, "frames": [{"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}]}
    (folder / "transforms_train.json").write_text(json.dumps(content))
    return folder


def one(capture: Capture):
    (view,) = capture.train
    return view


@pytest.mark.parametrize("k", LENSES.values(), ids=LENSES)
def test_an_undistorted_picture_is_that_of_a_pinhole(tmp_path: Path, k: dict) -> None:
    view = one(load_capture(write_scene(tmp_path, k, taken(k))))
    assert psnr(load_image(view), seen_by(view.camera)) > PSNR
    assert view.camera.fx / FX == pytest.approx(view.camera.fy / FY) and view.camera.fx >= FX
    as_it_is = torch.from_numpy(taken(k) / 255).permute(2, 0, 1).float()
    assert psnr(as_it_is, seen_by(view.camera)) < 35  # there is something to do


def test_smaller_pictures_are_averaged_once(tmp_path: Path) -> None:
    k = LENSES["decentred"]
    folder = write_scene(tmp_path, k, taken(k, scale=3))  # three times the size that the file states
    for resolution in (1, 2):
        view = one(load_capture(folder, resolution=resolution))
        assert (view.camera.width, view.camera.height) == (WIDTH // resolution, HEIGHT // resolution)
        assert psnr(load_image(view), seen_by(view.camera)) > PSNR - 3 * (
            resolution == 2
        )  # the mean of a pixel is not its middle


def test_no_border_is_empty(tmp_path: Path) -> None:
    """All of the pinhole's picture was taken: what is behind the border of the file is never made up."""
    for name, k in LENSES.items():
        view = one(load_capture(write_scene(tmp_path / name, k, np.full((HEIGHT, WIDTH, 3), 200, np.uint8))))
        assert view.lens is not None
        rows, columns = view.lens.sampling(view.camera, (WIDTH, HEIGHT), 1)
        assert rows.min() >= -1 and rows.max() <= HEIGHT and columns.min() >= -1 and columns.max() <= WIDTH, name


def test_opacity_and_masks_are_undistorted_too(tmp_path: Path) -> None:
    k = LENSES["barrel"]
    x, y = unbend(*rays(WIDTH, HEIGHT, FX, FY, CX, CY), k)
    inside = 255 * ((np.abs(x) < 0.25) & (np.abs(y) < 0.2))
    view = one(load_capture(write_scene(tmp_path, k, np.dstack([taken(k), inside.astype(np.uint8)]))))
    alpha = load_alpha(view)
    assert alpha is not None
    x, y = rays(view.camera.width, view.camera.height, view.camera.fx, view.camera.fy, view.camera.cx, view.camera.cy)
    expected = torch.from_numpy(((np.abs(x) < 0.25) & (np.abs(y) < 0.2)).astype(np.float32))
    assert float((alpha - expected).abs().mean()) < 0.01  # all but the edge


def test_a_head_capture(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    content = read_split(folder, "train")
    for frame in content["frames"]:
        frame["k1"] = -0.3
    write_split(folder, "train", content)
    capture = load_capture(folder, use_mask=True)
    assert all(view.lens is not None for view in capture.train) and all(view.lens is None for view in capture.val)
    assert load_image(capture.train[0]).shape == (3, 32, 24)
    assert capture.remarks() == ["lens distortion is removed from 4 of 9 images as they are read"]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model is 'EQUIRECTANGULAR'"),
        ({"camera_model": "VR180_L"}, "camera_model is 'VR180_L'"),
        ({"ftheta_p1": 0.4}, "ftheta_p1 is a distortion"),
        ({"k5": 0.1}, "k5 is a distortion"),
        ({"is_fisheye": True, "p1": 0.01}, "p1 and p2 are given for a fisheye"),
        ({"k1": -900.0}, "folds the picture over"),
        ({"k1": "much"}, "k1 must be a finite number"),
    ],
)
def test_other_lenses_are_refused_by_name(tmp_path: Path, keys: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_capture(write_scene(tmp_path, keys, np.zeros((HEIGHT, WIDTH, 3), np.uint8)))


@pytest.mark.parametrize(
    "keys", [{"camera_model": "OPENCV", "k1": 0.0, "k2": 0.0, "p1": 0, "p2": 0}, {"camera_model": "PINHOLE"}]
)
def test_no_distortion_is_a_pinhole(tmp_path: Path, keys: dict) -> None:
    picture = taken({})
    capture = load_capture(write_scene(tmp_path, keys, picture))
    view = one(capture)
    assert view.lens is None and (view.camera.fx, view.camera.fy) == (FX, FY) and capture.remarks() == []
    assert np.array_equal((load_image(view) * 255).round().permute(1, 2, 0).numpy(), picture)


def test_a_frames_own_pinhole_goes_before_a_shared_distortion(tmp_path: Path) -> None:
    folder = write_scene(tmp_path, {"camera_model": "OPENCV", "k1": 0.1}, taken({}))
    content = read_split(folder, "train")
    content["frames"].append({**content["frames"][0], "camera_model": "PINHOLE"})
    write_split(folder, "train", content)
    assert [view.lens is None for view in load_capture(folder).train] == [False, True]


def test_rational_lens() -> None:
    """OpenCV's eight coefficients: the polynomials of r^2 are divided."""
    lens = Lens(100, 100, 80.0, 80.0, 50.0, 50.0, radial=(0.1, 0.02, 0.003), denominator=(0.05, 0.01, 0.002))
    x, y = lens.bent(np.array([0.3]), np.array([-0.4]))
    ratio = (1 + 0.1 * 0.25 + 0.02 * 0.25**2 + 0.003 * 0.25**3) / (1 + 0.05 * 0.25 + 0.01 * 0.25**2 + 0.002 * 0.25**3)
    np.testing.assert_allclose([x[0], y[0]], [0.3 * ratio, -0.4 * ratio], rtol=1e-12)
