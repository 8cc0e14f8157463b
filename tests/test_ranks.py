"""Two processes under torchrun come to what one process comes to, and neither outlives the other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from scene.tiny_capture import write_tiny_capture

from taichi_avatars import ranks
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.scene.images import ImageStream

SMALL = ["--head", "builtin", "--threads", "1", "--start-gaussians", "11000", "-q"]
# Density control every 5 steps, which a run of a hundred steps would wait for; named here, since each process sets it for itself.
SOON = "import sys\nfrom taichi_avatars.training import schedule\nschedule.SHORTEST_INTERVAL = 5\n"


def command(arguments: list[str], processes: int, program: Path | None = None) -> list[str]:
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return [sys.executable, *several, *([str(program)] if program else ["-m", "taichi_avatars"]), *arguments]


def run(arguments: list[str], processes: int = 1, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(arguments, processes, program), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def told(model: Path) -> list[dict]:
    events = [json.loads(line) for line in (model / "log.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "progress"]


def state(model: Path, name: str = "checkpoint.pt") -> dict:
    return torch.load(model / name, weights_only=True)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_capture(tmp_path_factory.mktemp("ranks") / "capture")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command line with density control so soon that a short run has it."""
    path = tmp_path_factory.mktemp("ranks") / "soon.py"
    path.write_text(SOON + "from taichi_avatars.cli import main\nmain()\n")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, capture: Path, program: Path) -> dict[int, Path]:
    """One run of 30 steps with two views each, by the number of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    options = ["--iterations", "30", "--interval", "30", "--checkpoint-iterations", "10", "--densify-grad-threshold", "1e-6"]
    for count in (1, 2):
        model = folder / str(count)
        views = ["--views-per-step", "2"] if count == 1 else []
        run(["train", "-s", str(capture), "-m", str(model), *SMALL, *options, *views], count, program)
    return {count: folder / str(count) for count in (1, 2)}


def test_two_processes_train_what_one_trains_with_both_views(models: dict[int, Path]) -> None:
    """The sums of two numbers have no order, so even the bits agree; the processes' own were compared when they saved."""
    one, two = (told(models[count]) for count in (1, 2))
    assert [event["iteration"] for event in one] == [event["iteration"] for event in two] == [10, 20, 30]
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)
        assert b["gaussians"] == a["gaussians"]
    assert two[-1]["gaussians"] > two[0]["gaussians"]
    a, b = state(models[1]), state(models[2])
    assert a["config"] == b["config"] and a["config"]["views_per_step"] == 2
    for name, values in a["gaussians"].items():
        torch.testing.assert_close(b["gaussians"][name], values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(b["flame"]["table"], a["flame"]["table"], rtol=1e-5, atol=1e-6)
    assert torch.equal(b["flame"]["steps"], a["flame"]["steps"]) and int(a["flame"]["steps"].sum()) > 30
    assert torch.equal(b["density"]["seen"], a["density"]["seen"])


@pytest.mark.parametrize(("begun", "ended"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(
    models: dict[int, Path], tmp_path: Path, capture: Path, program: Path, begun: int, ended: int
) -> None:
    options = ["--iterations", "30", "--interval", "30", "--densify-grad-threshold", "1e-6", "--views-per-step", "2"]
    start = ["--start-checkpoint", str(models[begun] / "chkpnt10.pth"), "--checkpoint-iterations", "10"]
    run(["train", "-s", str(capture), "-m", str(tmp_path), *SMALL, *options, *start], ended, program)
    assert [event["iteration"] for event in told(tmp_path)] == [20, 30]
    for a, b in zip(told(models[begun])[1:], told(tmp_path), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-5)


def test_frames_and_scores_are_those_of_one_process(models: dict[int, Path], tmp_path: Path) -> None:
    model = models[2]
    common = ["-m", str(model), "--threads", "1"]
    found = {}
    for count in (1, 2):
        run(["render", *common, "--split", "train"], count)
        folder = model / "train" / "ours_30"
        assert not list(folder.glob(".*"))
        pictures = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
        video = tmp_path / f"{count}.mp4"
        motion = ["--split", "train", "--split", "val", "--split", "test", "--show", "avatar", "--show", "mesh"]
        values = json.loads(run(["reenact", *common, *motion, "-o", str(video), "--json"], count).stdout)
        scores = json.loads(run(["eval", *common, "--split", "train", "--lpips", "none", "--json"], count).stdout)
        files = [json.loads((model / "train" / name).read_text()) for name in ("results.json", "per_view.json")]
        found[count] = (pictures, values | {"video": video.read_bytes()}, scores, files)
    assert len(found[1][0]) == 3 * (4 + 1)  # renders, gt and mesh of four views, and three videos
    assert found[1][1]["frames"] == 3
    assert found[1] == found[2]


def endless(capture: Path, model: Path, *options: str) -> subprocess.Popen[str]:
    """A run of two processes that is some steps old."""
    arguments = ["train", "-s", str(capture), "-m", str(model), *SMALL, "--iterations", "100000", *options]
    torchrun = subprocess.Popen(command(arguments, 2), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
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
@pytest.mark.parametrize("killed", [0, 1])
def test_when_one_process_dies_the_other_says_so_and_stops(tmp_path: Path, capture: Path, killed: int) -> None:
    torchrun = endless(capture, tmp_path)
    os.kill(workers(torchrun)[killed], signal.SIGKILL)
    _, stderr = torchrun.communicate(timeout=30)
    assert torchrun.returncode != 0
    (line,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: process {1 - killed} of 2 stops: another one has ended, or cannot be reached")


def test_ctrl_c_saves_once_and_all_leave(tmp_path: Path, capture: Path) -> None:
    torchrun = endless(capture, tmp_path)
    torchrun.send_signal(signal.SIGTERM)  # a background job may be deaf to SIGINT
    _, stderr = torchrun.communicate(timeout=30)
    (line,) = [line for line in stderr.splitlines() if line.startswith("interrupted")]
    reached = state(tmp_path)["iteration"]
    assert line == f"interrupted: saved iteration {reached}; go on with the same command and --resume"
    assert "error: " not in stderr
    assert (tmp_path / "point_cloud" / f"iteration_{reached}" / "point_cloud.ply").is_file()


def test_what_fails_in_one_process_is_said_by_the_first(tmp_path: Path, capture: Path) -> None:
    """The loss of one view, in the second process, is not finite."""
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(
        "import os\nfrom taichi_avatars.training import losses\nplain = losses.opacity_loss\n"
        "def spoil(*a): return plain(*a) * float('nan' if os.environ['RANK'] == '1' else 1)\n"
        "losses.opacity_loss = spoil\nfrom taichi_avatars.cli import main\nmain()\n"
    )
    model = tmp_path / "model"
    arguments = ["train", "-s", str(capture), "-m", str(model), *SMALL, "--iterations", "5", "--lambda-opacity", "1"]
    done = subprocess.run(command(arguments, 2, spoilt), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the opacity loss is nan" in line and "at step 1" in line
    assert (model / "failed_step_1.pt").is_file()


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
    assert ranks.anywhere(True) and not ranks.anywhere(False)


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
