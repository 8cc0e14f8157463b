"""Two processes under torchrun come to what one process comes to, and neither outlives the other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from avatar.test_gaussians import random_gaussians
from scene.tiny_capture import write_tiny_capture

from taichi_avatars import ranks
from taichi_avatars.cli import run
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.scene.images import ImageStream
from taichi_avatars.training import exchange

SMALL = ["--head", "builtin", "--start-gaussians", "11000", "-q"]
# Command lines in two processes that are started once. Density control every 5 steps, which a run of a hundred would wait for.
PROGRAM = """
import json, os, sys
from taichi_avatars import ranks, runtime
from taichi_avatars.cli import run
from taichi_avatars.training import losses, schedule
schedule.SHORTEST_INTERVAL = 5
plain = losses.opacity_loss
losses.opacity_loss = lambda *values: plain(*values) * float("nan" if ranks.rank() == 1 else 1)
with ranks.started("cpu"):
    codes = [run([*line, "--threads", "1"]) for line in json.loads(sys.argv[1])]
    print(json.dumps(codes) if ranks.is_first() else "", flush=True)
"""
# A run whose steps do nothing but agree on whether to go on: to be stopped, it needs no kernels, which take long to load.
IDLE = """
import time
from taichi_avatars import ranks
from taichi_avatars.cli import main
from taichi_avatars.training import run, trainer
def step(now, batch):
    now.iteration += 1
    time.sleep(0.01)
    _, now.stops = ranks.anywhere(False, bool(now.asked_to_stop))
    return 0.5, 0.1
trainer.step, run.Run.paint = step, lambda run: None
main()
"""
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def told(model: Path) -> list[dict]:
    events = [json.loads(line) for line in (model / "log.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "progress"]


def state(model: Path) -> dict:
    return torch.load(model / "checkpoint.pt", weights_only=True)


def commands(capture: Path, model: Path, avatar: Path) -> list[list[str]]:
    """A run of 30 steps, and what another model is good for, with its files in its own folder and beside `model`."""
    options = ["--iterations", "30", "--interval", "30", "--checkpoint-iterations", "10", "--densify-grad-threshold", "1e-6"]
    every = ["--split", "train", "--split", "val", "--split", "test"]
    return [
        ["train", "-s", str(capture), "-m", str(model), *SMALL, *options],
        ["render", "-m", str(avatar), "--split", "train", "-q"],
        ["reenact", "-m", str(avatar), *every, "--show", "avatar", "--show", "mesh", "-o", str(model / "a.mp4"), "-q"],
        ["eval", "-m", str(avatar), "--split", "train", "--lpips", "none", "-q"],
    ]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_capture(tmp_path_factory.mktemp("ranks") / "capture")


class Both(NamedTuple):
    """The same in this process and in two, model folders; what the two left of another avatar, and what they said."""

    one: Path
    two: Path
    files: tuple[dict[str, bytes], dict[str, bytes]]
    codes: list[int]
    stderr: str


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, capture: Path) -> Both:
    folder = tmp_path_factory.mktemp("ranks")
    one, two, failed = folder / "one", folder / "two", folder / "failed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taichi_avatars.training.schedule.SHORTEST_INTERVAL", 5)
        train, *others = commands(capture, one, one)
        assert [run([*train, "--views-per-step", "2"]), *map(run, others)] == [0] * 4
    alone = outcome(one)
    (folder / "program.py").write_text(PROGRAM)
    failing = ["train", "-s", str(capture), "-m", str(failed), *SMALL, "--iterations", "5", "--lambda-opacity", "1"]
    lines = json.dumps([*commands(capture, two, one), failing])
    program = [sys.executable, *TORCHRUN, str(folder / "program.py"), lines]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    codes = next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
    return Both(one, two, (alone, outcome(one)), codes, done.stderr)


def outcome(model: Path) -> dict[str, bytes]:
    """What `render` and `eval` leave in a model folder."""
    return {str(path): path.read_bytes() for path in sorted((model / "train").rglob("*")) if path.is_file()}


def test_two_processes_train_what_one_trains_with_both_views(both: Both) -> None:
    """The processes' own bits were compared when they saved."""
    one, two = told(both.one), told(both.two)
    assert [event["iteration"] for event in one] == [event["iteration"] for event in two] == [10, 20, 30]
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["gaussians"] == a["gaussians"]
    assert two[-1]["gaussians"] > two[0]["gaussians"]
    a, b = state(both.one), state(both.two)
    assert a["config"] == b["config"] and a["config"]["views_per_step"] == 2
    assert torch.equal(b["flame"]["steps"], a["flame"]["steps"]) and int(a["flame"]["steps"].sum()) > 30
    assert a["stream"] == b["stream"]
    torch.testing.assert_close(b["flame"]["table"], a["flame"]["table"], rtol=1e-4, atol=1e-5)


def test_a_run_of_two_processes_goes_on_in_one(both: Both, tmp_path: Path, capture: Path, monkeypatch) -> None:
    monkeypatch.setattr("taichi_avatars.training.schedule.SHORTEST_INTERVAL", 5)
    train = commands(capture, tmp_path, tmp_path)[0]
    assert run([*train, "--views-per-step", "2", "--start-checkpoint", str(both.two / "chkpnt10.pth")]) == 0
    assert [event["iteration"] for event in told(tmp_path)] == [20, 30]
    for a, b in zip(told(both.two)[1:], told(tmp_path), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)


def test_frames_and_scores_are_those_of_one_process(both: Both) -> None:
    one, two = both.files
    assert both.codes[:4] == [0] * 4
    assert len(one) == 3 * (len(capture_views(one)) + 1) + 2  # renders, gt and mesh of each view, their videos, two of scores
    assert len(capture_views(one)) == 4
    assert one.keys() == two.keys()
    for name in one:  # of two videos of the same pictures not every byte is the same: libx264 decides some by chance
        assert one[name] == two[name] or name.endswith(".mp4"), name
    a, b = pictures(both.one / "a.mp4"), pictures(both.two / "a.mp4")
    assert a.shape == b.shape and len(a) == 3
    assert np.abs(a - b).mean() < 1.0 < np.abs(a[0] - a[2]).mean()


def pictures(video: Path) -> np.ndarray:
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(video=0)])


def capture_views(files: dict[str, bytes]) -> list[str]:
    return [name for name in files if "/renders/" in name]


def test_what_fails_in_one_process_is_said_by_the_first(both: Both) -> None:
    """The loss of one view, in the second process, is not finite."""
    assert both.codes[4] == 1
    (line,) = [line for line in both.stderr.splitlines() if line.startswith("error: ")]
    assert "the opacity loss is nan" in line and "at step 1" in line
    assert (both.two.parent / "failed" / "failed_step_1.pt").is_file()


def endless(capture: Path, model: Path) -> subprocess.Popen[str]:
    """A run of two processes that is some steps old."""
    program = model / "idle.py"
    program.write_text(IDLE)
    steps = ["--threads", "1", "--iterations", "100000", "--interval", "100000"]
    torchrun = subprocess.Popen(
        [sys.executable, *TORCHRUN, str(program), "train", "-s", str(capture), "-m", str(model), *SMALL, *steps],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and torchrun.poll() is None:
        if (model / "log.jsonl").is_file() and told(model):
            return torchrun
        time.sleep(0.1)
    torchrun.kill()
    raise AssertionError(torchrun.communicate()[1])


def workers(torchrun: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun started, by rank."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    environments = {int(pid): Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    return sorted(environments, key=lambda pid: b"RANK=1" in environments[pid])


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes by /proc")
def test_when_one_process_dies_the_other_says_so_and_stops(tmp_path: Path, capture: Path) -> None:
    torchrun = endless(capture, tmp_path)
    os.kill(workers(torchrun)[1], signal.SIGKILL)
    _, stderr = torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: process 0 of 2 stops: another one has ended, or cannot be reached")


def test_ctrl_c_saves_once_and_all_leave(tmp_path: Path, capture: Path) -> None:
    torchrun = endless(capture, tmp_path)
    torchrun.send_signal(signal.SIGTERM)  # a background job may be deaf to SIGINT
    _, stderr = torchrun.communicate(timeout=60)
    (line,) = [line for line in stderr.splitlines() if line.startswith("interrupted")]
    reached = state(tmp_path)["iteration"]
    assert line == f"interrupted: saved iteration {reached}; continue with the same command and --resume"
    assert "error: " not in stderr
    assert (tmp_path / "point_cloud" / f"iteration_{reached}" / "point_cloud.ply").is_file()


def test_other_commands_are_for_one_process(tmp_path: Path) -> None:
    environment = os.environ | {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}
    done = subprocess.run(
        [sys.executable, "-m", "taichi_avatars", "synth", str(tmp_path / "x")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: torchrun: ")


def test_views_that_cannot_be_shared_are_refused() -> None:
    assert TrainConfig().for_processes(3).views_per_step == 3
    assert TrainConfig(views_per_step=4).for_processes(2).views_per_step == 4
    assert TrainConfig().for_processes(1) == TrainConfig()
    with pytest.raises(UserError, match="views_per_step = 3 cannot be shared by 2 processes; give a multiple of 2"):
        TrainConfig(views_per_step=3).for_processes(2)


def test_a_process_that_is_alone_has_all_the_work() -> None:
    assert not ranks.together() and ranks.is_first() and ranks.size() == 1
    assert list(ranks.share([1, 2, 3])) == [1, 2, 3]
    assert list(ranks.in_order(iter([1, 2]), 2)) == [1, 2]
    assert ranks.gather("x") == ["x"] and ranks.from_first("x") == "x"
    assert ranks.anywhere(True, False) == (True, False)


def test_a_stream_decodes_its_part_and_knows_the_order(capture: Path) -> None:
    from taichi_avatars import FlameModel
    from taichi_avatars.scene.capture import load_capture

    views = load_capture(capture, head=FlameModel.builtin()).train[:3]
    with ImageStream(views) as whole, ImageStream(views, part=0, parts=2) as even, ImageStream(views, part=1, parts=2) as odd:
        for index in range(8):  # over the ends of epochs, whose length is odd
            view, truth = next(whole)
            parts = [next(even), next(odd)]
            assert [part[0] for part in parts] == [view, view]
            assert [part[1] is not None for part in parts] == [index % 2 == 0, index % 2 == 1]
            assert torch.equal(parts[index % 2][1], truth)
        assert whole.state() == even.state() == odd.state()
        odd.restore((0, 1))
        assert next(odd)[1] is not None


def test_processes_that_have_drifted_apart_are_stopped(monkeypatch) -> None:
    class Run:
        iteration, tuner = 7, None

        class optimizer:
            gaussians = random_gaussians(3)

    monkeypatch.setattr(ranks, "together", lambda: True)
    monkeypatch.setattr(ranks, "gather", lambda digest: [digest, digest])
    exchange.check_sameness(Run())  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(ranks, "gather", lambda digest: [digest, b"another"])
    with pytest.raises(ranks.AgreedError, match="different Gaussians at step 7"):
        exchange.check_sameness(Run())  # pyright: ignore[reportArgumentType]
