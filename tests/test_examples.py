"""The scripts in `examples/` and the README's Python block run and leave what they say."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from avatar.small_avatar import small_avatar
from PIL import Image

from taichi_avatars import Avatar
from taichi_avatars.avatar.iterations import iteration_folder

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model folder in it."""
    folder = tmp_path_factory.mktemp("examples")
    small_avatar().save(iteration_folder(folder / "model", 1))
    return folder


def run(name: str, *arguments: object) -> None:
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        sys.argv = before


def test_every_example_is_tested_here() -> None:
    here = Path(__file__).read_text()
    assert all(f'run("{path.stem}"' in here for path in EXAMPLES.glob("*.py"))


def test_render(models: Path, tmp_path: Path) -> None:
    run("render", models / "model", "--out", tmp_path)
    pictures = [np.asarray(Image.open(tmp_path / f"jaw_{degrees:02d}.png")) for degrees in (0, 6, 12)]
    assert (tmp_path / "tracked.png").is_file()
    assert not np.array_equal(pictures[0], pictures[2])


def test_fit_camera(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("fit_camera", models / "model", "--steps", 40)
    away = [float(value) for value in re.findall(r"([\d.]+) mm away", capsys.readouterr().out)]
    assert away[-1] < 0.8 * away[0]


def test_custom_loss(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("custom_loss", models / "model", "--brightness", 0.7, "--steps", 80, "--out", tmp_path / "bright")
    reached = re.search(r"brightness ([\d.]+)", capsys.readouterr().out)
    assert reached is not None and float(reached[1]) == pytest.approx(0.7, abs=0.05)
    assert len(Avatar.load(tmp_path / "bright").gaussians) == len(Avatar.load(models / "model").gaussians)


def test_drive_by_weights(models: Path, tmp_path: Path) -> None:
    run("drive_by_weights", models / "model", "--seconds", 0.2, "--out", tmp_path / "smile.mp4")
    assert (tmp_path / "smile.mp4").stat().st_size > 1000


def test_batch_export(models: Path, tmp_path: Path) -> None:
    run("batch_export", models, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.glb", "model.splat"]


def test_static_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y, x = np.mgrid[:40, :50]
    Image.fromarray(np.stack([4 * x, 5 * y, 120 + 0 * x], 2).astype(np.uint8)).save(tmp_path / "photo.png")
    run("static_scene", tmp_path / "photo.png", "--gaussians", 200, "--steps", 101, "--out", tmp_path / "fitted.png")
    decibels = [float(value) for value in re.findall(r"([\d.]+) dB", capsys.readouterr().out)]
    assert decibels[-1] > decibels[0] + 3.0
    assert Image.open(tmp_path / "fitted.png").size == (50, 40)


def test_record_motion(models: Path, tmp_path: Path) -> None:
    from taichi_avatars.motion.motion import drive
    from taichi_avatars.motion.sources import load_motion

    run("record_motion", "--seconds", 0.4, "--out", tmp_path / "nod.npz")
    avatar = Avatar.load(models / "model")
    assert avatar.head is not None
    assert len(drive(avatar, load_motion(tmp_path / "nod.npz", avatar.head)).sequence or []) == 10


def test_the_readme_block(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word by word, with another model's name and random Gaussians for the names that it leaves open."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    block = block.replace("output/demo/model", str(models / "model"))
    block = block.replace("timestep=12", f"timestep={(small_avatar().sequence or 0).timesteps[0]}")  # pyright: ignore
    given = """
import torch
means, quats = 0.1 * torch.randn(9, 3), torch.randn(9, 4)
scales, opacities, sh = torch.full((9, 3), 0.01), torch.full((9,), 0.5), torch.zeros(9, 4, 3)
"""
    names: dict[str, object] = {}
    exec(given + block, names)
    assert names["smile"].image.shape == names["out"].image.shape == (3, 640, 480)  # pyright: ignore
