import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene.tiny_capture import HEIGHT, WIDTH, write_tiny_capture
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.scores import Scores, compare, evaluate, psnr, psnr_paper, ssim, write_scores
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.scene.images import load_image
from taichi_avatars.scene.views import View


@dataclass
class Frame:
    image: Tensor


class Recorder:
    """Renders the true image of every view plus a constant, and notes what it was asked for."""

    def __init__(self, views: list[View], background: tuple[float, float, float], error: float) -> None:
        self.images = {(id(view.camera), view.timestep): load_image(view, background) + error for view in views}
        self.asked: list[tuple[int | None, object]] = []

    def render(self, camera: Camera, timestep: int | None = None, *, background: tuple[float, float, float]) -> Frame:
        self.asked.append((timestep, background))
        return Frame(self.images[id(camera), timestep].requires_grad_())


# dB: an error of 0.001 in float32 colours is known to 6e-8, one ten-thousandth, which is 0.0005 dB
FLOAT32 = 1e-3


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((3, 5, 7), 0.4)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=FLOAT32)
    assert psnr(truth, truth) == pytest.approx(100.0)


def test_psnr_inside_a_mask() -> None:
    truth = torch.rand(3, 6, 6)
    image = truth.clone()
    mask = torch.zeros(6, 6)
    mask[:2], mask[2] = 1.0, 0.5
    image[:, :3] += 0.01
    image[:, 3:] += 0.3
    assert psnr(image, truth, mask) == pytest.approx(40.0, abs=FLOAT32)


def test_the_papers_psnr_is_the_mean_of_the_channels() -> None:
    truth = torch.full((3, 4, 4), 0.5)
    image = truth + torch.tensor([0.1, 0.01, 0.001]).view(3, 1, 1)
    assert psnr_paper(image, truth) == pytest.approx((20 + 40 + 60) / 3, abs=FLOAT32)
    assert psnr(image, truth) == pytest.approx(-10 * math.log10((1e-2 + 1e-4 + 1e-6) / 3), abs=FLOAT32)


def ssim_pixel_by_pixel(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of (3,H,W) images as method.md 4 words it, in float64, one window at a time."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = (np.pad(image.astype(np.float64), ((0, 0), (5, 5), (5, 5))) for image in (x, y))
    values = []
    for a, b in zip(x, y, strict=True):
        for i in range(a.shape[0] - 10):
            for j in range(a.shape[1] - 10):
                p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
                mp, mq = (window * p).sum(), (window * q).sum()
                vp, vq = (window * p * p).sum() - mp * mp, (window * q * q).sum() - mq * mq
                cov = (window * p * q).sum() - mp * mq
                values.append((2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return float(np.mean(values))


@pytest.mark.parametrize(("height", "width", "noise"), [(17, 13, 0.05), (12, 20, 0.5), (3, 4, 0.1)])
def test_ssim_is_the_formula(height: int, width: int, noise: float) -> None:
    truth = torch.rand(3, height, width)
    image = (truth + noise * torch.randn(3, height, width)).clamp(0, 1)
    # float32 second moments lose digits in the variances' differences
    assert ssim(image, truth) == pytest.approx(ssim_pixel_by_pixel(image.numpy(), truth.numpy()), abs=2e-5)


def test_ssim_of_equal_and_of_opposite_images() -> None:
    truth = torch.rand(3, 24, 24)
    assert ssim(truth, truth) == pytest.approx(1.0, abs=1e-6)
    assert ssim(1 - truth, truth) < 0
    assert ssim(truth.flip(0), truth) == pytest.approx(ssim(truth, truth.flip(0)), abs=1e-6)


def test_values_a_display_cannot_show_are_clamped() -> None:
    truth = torch.ones(3, 12, 12)
    assert compare(truth + 5.0, truth)["PSNR"] == pytest.approx(100.0)
    assert compare(truth, truth).keys() == {"PSNR", "SSIM"}
    assert compare(truth, truth, protocol="paper").keys() == {"PSNR", "SSIM", "PSNR_paper"}


def test_every_view_is_rendered_at_its_timestep(tmp_path: Path) -> None:
    views = load_capture(write_tiny_capture(tmp_path, rgba=True)).test
    white = (1.0, 1.0, 1.0)
    model = Recorder(views, white, error=-0.1)
    seen: list[str] = []
    scores = evaluate(model, views, white, on_view=lambda view, image, truth: seen.append(view.name))
    assert model.asked == [(9, white)] * 3
    assert seen == list(scores.views) == ["00009_00", "00009_01", "00009_02"]
    for values in scores.views.values():
        assert values.keys() == {"PSNR", "SSIM"}
        assert values["PSNR"] == pytest.approx(20.0, abs=0.01)
    assert scores.mean["PSNR"] == pytest.approx(20.0, abs=0.01)


def test_hair_is_measured_inside_its_mask(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, hair_masks=True)
    (folder / "hair_masks/00009_01.png").unlink()
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "hair_masks/00009_02.png")  # no hair in sight
    views = load_capture(folder).test
    model = Recorder(views, (0.0, 0.0, 0.0), error=0.0)
    for image in model.images.values():
        image[:, 16:] += 0.2
        image[:, :16] -= 0.01
    scores = evaluate(model, views)
    assert scores.views["00009_00"]["PSNR_hair"] == pytest.approx(40.0, abs=0.01)
    assert [name for name, values in scores.views.items() if "PSNR_hair" in values] == ["00009_00"]
    assert scores.mean["PSNR_hair"] == scores.views["00009_00"]["PSNR_hair"]


def test_an_empty_split_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="split is empty"):
        evaluate(Recorder([], (0, 0, 0), 0.0), [])


def test_files_keep_other_methods(tmp_path: Path) -> None:
    first = Scores({"a": {"PSNR": 30.0, "SSIM": 0.9}, "b": {"PSNR": 32.0, "SSIM": 0.8, "PSNR_hair": 25.0}})
    results, per_view = write_scores(tmp_path / "val", "ours_100", first)
    write_scores(tmp_path / "val", "ours_200", Scores({"a": {"PSNR": 31.0, "SSIM": 0.95}}))
    assert json.loads(results.read_text()) == {
        "ours_100": {"PSNR": 31.0, "SSIM": pytest.approx(0.85), "PSNR_hair": 25.0},
        "ours_200": {"PSNR": 31.0, "SSIM": 0.95},
    }
    assert json.loads(per_view.read_text())["ours_100"] == {
        "PSNR": {"00000.png": 30.0, "00001.png": 32.0},
        "SSIM": {"00000.png": 0.9, "00001.png": 0.8},
        "PSNR_hair": {"00001.png": 25.0},
    }
    assert sorted(path.name for path in (tmp_path / "val").iterdir()) == ["per_view.json", "results.json"]
    results.write_text("{broken")
    write_scores(tmp_path / "val", "ours_300", first)
    assert json.loads(results.read_text()).keys() == {"ours_300"}
