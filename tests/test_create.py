"""From a small film to an avatar: interrupted, gone on with, measured, filmed; and what is refused."""

import inspect
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tracking.small_film import COUNT, Bar, Film, quiet, small_film

import taichi_avatars.create as creation
from taichi_avatars.avatar.model_folder import load_model
from taichi_avatars.cli import run
from taichi_avatars.cli.create import _story, _swing
from taichi_avatars.cli.create import create as create_command
from taichi_avatars.create import LEAST_TURN, MARK, Work, _turn, create
from taichi_avatars.errors import UserError
from taichi_avatars.tracking.track import Settings
from taichi_avatars.video.mp4 import write_mp4

WORK = Work(size=96, first=12, iterations=4, max_gaussians=18_000)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, head) -> Film:
    return small_film(tmp_path_factory.mktemp("film") / "me.mp4", head)


@contextmanager
def stopping(what: str, total: int, unit: str) -> Iterator[Bar]:
    """Ctrl-C in the middle of the first training."""

    class Stop(Bar):
        def update(self, done: int, total: int | None = None, **figures: str) -> None:
            raise KeyboardInterrupt

    yield Stop() if what == "first avatar" else Bar()


@pytest.fixture(scope="module")
def created(filmed, tmp_path_factory) -> tuple[Path, dict, list[str]]:
    """The model folder, the result, and the stages after an interrupt."""
    model, settings = tmp_path_factory.mktemp("created") / "me", Settings(focal=filmed.camera.fx, test=0.2)
    patch = pytest.MonkeyPatch()
    patch.setattr(creation, "TURN_FRAMES", 3)
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        create([filmed.path], model, settings, WORK, stopping)
    stages = []

    @contextmanager
    def noted(what: str, total: int, unit: str) -> Iterator[Bar]:
        stages.append(what)
        yield Bar()

    result = create([filmed.path], model, settings, WORK, noted, resume=True)
    patch.undo()
    return model, result, stages


def test_an_interrupted_run_goes_on_where_it_was(created):
    _, _, stages = created
    after = ["first avatar", "refine tracking", "train", "refine held-out", "evaluate", "reenactment", "turntable"]
    assert stages == after  # and tracks nothing again


def test_it_ends_with_numbers_films_and_a_picture(created):
    model, result, _ = created
    held = result["held_out"]
    assert 2 <= held["frames"] <= 4
    assert held["refined"]["psnr"] > held["tracked"]["psnr"] > 10
    assert sum(video["used"]["train"] + video["used"]["test"] for video in result["videos"]) == COUNT
    for name in ("comparison", "reenactment", "turntable"):
        assert Path(result["files"][name]).stat().st_size > 1000
    assert json.loads((model / MARK).read_text())["held_out"] == held
    assert not list(model.glob(".*"))  # nothing half done, and not the first avatar
    assert (model.parent / "me") == model and [p.name for p in model.parent.iterdir()] == ["me"]


def test_what_it_made_is_a_model_like_any_other(created):
    model, _, _ = created
    trained = load_model(model)
    assert trained.iteration == WORK.iterations and trained.parameters == "refined" and trained.config.sh_degree == 0
    assert set(json.loads((model / "test/results.json").read_text())) == {"ours_4", "ours_4_refined"}


def test_the_turn_goes_as_far_as_the_video_saw(created):
    _, result, _ = created
    turn, (right, left) = result["turntable"], result["videos"][0]["shows"]["yaw"]
    # A head that turns to its right shows its left side.
    assert turn["left"] - turn["right"] == pytest.approx(-right - left, abs=0.2)
    assert turn["left"] + turn["right"] == pytest.approx(max(left - right, LEAST_TURN), abs=0.2)


def test_a_turn_stays_on_the_side_that_was_filmed():
    shows = [{"yaw": [-14.5, -3.2], "pitch": [-6.0, 1.0]}, {"yaw": [-9.0, -5.0], "pitch": [-8.0, -2.0]}]
    report = {"videos": [{"shows": one} for one in shows]}
    turn = _turn(report, None)
    seen = [math.degrees(turn.yaw(frame)) for frame in range(turn.frames)]
    assert min(seen) == pytest.approx(3.2, abs=0.1) and max(seen) == pytest.approx(14.5, abs=0.1)
    assert math.degrees(turn.below) == pytest.approx(3.5)  # of a head that looks up
    wide = _turn(report, 30.0)
    assert math.degrees(wide.left) == math.degrees(wide.right) == pytest.approx(30.0)
    assert _swing(14.5, -3.2) == "3 to 14 degrees to the left" and _swing(-3.2, 14.4) == "3 to 14 degrees to the right"
    assert _swing(42.9, 44.7) == "43 degrees to the left, 45 to the right"


def test_the_command_does_as_much_work_as_the_function():
    defaults = inspect.signature(create_command).parameters
    assert (defaults["iterations"].default, defaults["size"].default) == (Work().iterations, Work().size)


def test_the_story_is_told(created):
    from rich.console import Console

    model, result, _ = created
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(_story(result, model))
    text = console.export_text()
    assert "tracked by landmarks" in text and f"taichi-avatars view {model}" in text and "film about 30" in text


def test_an_avatar_is_not_made_over_another(created, filmed, tmp_path):
    model, settings = created[0], Settings(focal=filmed.camera.fx, test=0.2)
    with pytest.raises(UserError, match="--overwrite"):
        create([filmed.path], model, settings, WORK, quiet)
    with pytest.raises(UserError, match="other options"):
        create([filmed.path], model, Settings(test=0.2), WORK, quiet, resume=True)
    with pytest.raises(UserError, match="was not begun here"):
        create([filmed.path], tmp_path / "new", settings, WORK, quiet, resume=True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "photo.png").write_bytes(b"mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds something else"):
            create([filmed.path], tmp_path, settings, WORK, quiet, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_a_video_that_is_none_is_one_line_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video")
    write_mp4(tmp_path / "black.mp4", [np.zeros((96, 128, 3), np.uint8)] * 12, 10)
    for name, said in (("text.mp4", "cannot be read as a video"), ("black.mp4", "pictures are black")):
        assert run(["create", str(tmp_path / name), "-m", str(tmp_path / "model"), "-q"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and said in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["black.mp4", "text.mp4"]
