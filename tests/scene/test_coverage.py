"""From which sides a head is seen: as the head itself has it, so that turning in front of one camera counts."""

import math
from pathlib import Path

import pytest
import torch
from scene.tiny_capture import write_tiny_capture

from taichi_avatars.cli import run
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.coverage import ONE_SIDE, half_angle, one_sided
from taichi_avatars.scene.views import View


def standing(turns: list[float], place: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> FlameSequence:
    """A head that turns by these angles, half of it by the neck."""
    count = len(turns)
    rotation = torch.zeros(count, 3)
    rotation[:, 1] = 0.5 * torch.tensor(turns)
    still = torch.zeros(count, 3)
    where = torch.tensor(place).repeat(count, 1)
    return FlameSequence(
        list(range(count)),
        torch.zeros(1),
        torch.zeros(count, 1),
        rotation,
        rotation.clone(),
        still,
        torch.zeros(count, 6),
        where,
    )


def seen_from(angle: float, timestep: int, center: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> View:
    eye = torch.tensor(center) + torch.tensor([math.sin(angle), 0.0, math.cos(angle)])
    camera = Camera.look_at(eye, torch.tensor(center), 0.3, 10, 10)
    return View(camera, timestep, 0, "0", f"{timestep}", Path("x.png"), None)


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (3.0, -2.0, 5.0)])
def test_cameras_around_a_head_that_stands_still(place: tuple[float, float, float]) -> None:
    views = [seen_from(angle, 0, place) for angle in (-0.7, 0.1, 0.7)]
    middle = math.atan2(math.sin(0.1), 2 * math.cos(0.7) + math.cos(0.1))
    assert half_angle(views, standing([0.0], place)) == pytest.approx(0.7 + middle, abs=1e-4)  # float32


def test_a_head_that_turns_in_front_of_one_camera() -> None:
    views = [seen_from(0.0, 0), seen_from(0.0, 1)]
    assert half_angle(views, standing([-0.6, 0.6])) == pytest.approx(0.6, abs=1e-4)
    assert half_angle([seen_from(-0.6, 0), seen_from(0.6, 1)], standing([-0.6, 0.6])) == pytest.approx(
        0.0, abs=1e-3
    )  # acos near 1: root of 1e-7


def test_one_line_with_what_to_do() -> None:
    one = [seen_from(0.0, 0)]
    remark = one_sided(one, standing([0.0]), 3)
    assert remark is not None and "one side" in remark and "--sh-degree 0" in remark and "\n" not in remark
    assert "--sh-degree" not in (one_sided(one, standing([0.0]), 0) or "--sh-degree")
    around = [seen_from(angle, 0) for angle in (-ONE_SIDE, 0.0, 1.1 * ONE_SIDE)]
    assert one_sided(around, standing([0.0]), 3) is None
    assert one_sided([], standing([0.0]), 3) is None and one_sided(one, None, 3) is None


def test_training_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = write_tiny_capture(tmp_path / "capture")
    train = ["train", "-s", str(capture), "-m", str(tmp_path / "m"), "--iterations", "1", "--head", "builtin"]
    assert run(train) == 0
    assert capsys.readouterr().err.count("from one side only") == 1  # two cameras, 30 degrees apart
    assert run([*train, "--overwrite", "-q"]) == 0
    assert "one side" not in capsys.readouterr().err
