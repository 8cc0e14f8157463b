"""Going on after trouble: damage, signals, a full disk, numbers that are not finite, another training in the same folder."""

import os
import signal
import zipfile
from pathlib import Path

import pytest
import torch

from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.training import checkpoint, diagnosis, folder, losses
from taichi_avatars.training.events import Resumed
from taichi_avatars.training.run import Run
from taichi_avatars.training.trainer import train

SHORT = TrainConfig(iterations=6, interval=2, start_gaussians=11_000, white_background=True, test_iterations=[6])


@pytest.fixture(scope="module")
def whole(tmp_path_factory, capture, head) -> Path:
    model = tmp_path_factory.mktemp("whole")
    train(SHORT, capture, head, model)
    return model


def state(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_the_last_states_are_kept(tmp_path, capture, head):
    train(SHORT.model_copy(update={"keep_checkpoints": 3, "interval": 1}), capture, head, tmp_path)
    assert [path.name for path in checkpoint.kept(tmp_path)] == ["checkpoint.pt", "checkpoint.1.pt", "checkpoint.2.pt"]
    assert [state(path)["iteration"] for path in checkpoint.kept(tmp_path)] == [6, 5, 4]


@pytest.mark.parametrize("schedule", ["fast", "paper"])
def test_half_and_half_is_the_whole_bit_by_bit(tmp_path, capture, head, schedule, monkeypatch):
    """Across densifications, with the tuning of FLAME; the state is compared as a whole, and again in the second half."""
    monkeypatch.setattr("taichi_avatars.training.schedule.SHORTEST_INTERVAL", 5)
    config = TrainConfig(
        schedule=schedule, iterations=24, interval=12, densify_grad_threshold=1e-6, start_gaussians=11_000,
        max_gaussians=100_000, white_background=True, test_iterations=[24], checkpoint_iterations=[12],
    )  # fmt: skip
    train(config, capture, head, tmp_path / "whole")
    train(config, capture, head, tmp_path / "half", start_checkpoint=tmp_path / "whole" / "chkpnt12.pth")
    last, middle = state(tmp_path / "whole" / "checkpoint.pt"), state(tmp_path / "whole" / "chkpnt12.pth")
    assert same(state(tmp_path / "half" / "checkpoint.pt"), last)
    assert len(last["binding"]) > len(middle["binding"])
    assert not torch.equal(last["flame"]["table"], middle["flame"]["table"])


@pytest.mark.parametrize("damage", ["a bit", "cut off", "gone"])
def test_the_state_before_stands_in_for_a_damaged_one(tmp_path, capture, head, whole, damage):
    train(SHORT.model_copy(update={"save_iterations": [2, 4]}), capture, head, tmp_path)
    last = checkpoint.kept(tmp_path)[0]
    data = bytearray(last.read_bytes())
    if damage == "a bit":
        with zipfile.ZipFile(last) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        data[largest.header_offset + largest.file_size // 2] ^= 1
    last.unlink() if damage == "gone" else last.write_bytes(data if damage == "a bit" else data[: len(data) // 2])
    events = []
    train(SHORT, capture, head, tmp_path, events.append, resume=True)
    assert [(e.path.name, e.iteration) for e in events if isinstance(e, Resumed)] == [("checkpoint.1.pt", 4)]
    assert same(state(tmp_path / "checkpoint.pt") | {"config": 0}, state(whole / "checkpoint.pt") | {"config": 0})


def test_all_states_damaged_is_one_line(tmp_path, capture, head):
    for name in ("checkpoint.pt", "checkpoint.1.pt"):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"checkpoint\.pt: the checkpoint is damaged") as caught:
        train(SHORT, capture, head, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"gaussians": {}}, {"adam": 3}, {"stream": (0, 10**9)}, {"density": None}, {"random": 0}])
def test_a_state_that_holds_something_else_is_one_line(tmp_path, capture, head, whole, change):
    torch.save(state(whole / "checkpoint.pt") | change, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError) as caught:
        train(SHORT, capture, head, tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_sigterm_saves_like_ctrl_c(tmp_path, capture, head, whole, monkeypatch):
    plain, calls = losses.image_loss, []

    def terminated(*arguments):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return plain(*arguments)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(losses, "image_loss", terminated)
        with pytest.raises(KeyboardInterrupt):
            train(SHORT, capture, head, tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert state(tmp_path / "checkpoint.pt")["iteration"] == 3
    train(SHORT, capture, head, tmp_path, resume=True)
    assert same(state(tmp_path / "checkpoint.pt"), state(whole / "checkpoint.pt"))


def test_killed_between_the_last_state_and_its_avatar(tmp_path, capture, head, whole):
    (tmp_path / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes())
    (tmp_path / ".checkpoint-abc123.pt").write_bytes(b"half of one")
    train(SHORT, capture, head, tmp_path, resume=True)
    ply = Path("point_cloud", "iteration_6", "point_cloud.ply")
    assert (tmp_path / ply).read_bytes() == (whole / ply).read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_the_last_state(tmp_path, capture, head):
    resource = pytest.importorskip("resource")
    train(SHORT.model_copy(update={"iterations": 2}), capture, head, tmp_path)
    held = (tmp_path / "checkpoint.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=r"checkpoint\.pt: cannot be written"):
            train(SHORT, capture, head, tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "checkpoint.pt").read_bytes() == held
    train(SHORT, capture, head, tmp_path, resume=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_one_line(tmp_path, capture, head):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        train(SHORT, capture, head, tmp_path)


@pytest.mark.parametrize(
    ("guilty", "message"),
    [
        ("loss", "the position and scale loss is nan"),
        ("gradient", r"the gradient of sh_base holds nan at \[5, 0, 1\]"),
        ("FLAME", "the gradient of the FLAME parameters of timestep . holds inf"),
        ("parameter", r"logit_opacities holds nan at \[7\]"),
    ],
)
def test_what_is_not_finite_is_named_and_never_saved(tmp_path, capture, head, monkeypatch, guilty, message):
    train(SHORT.model_copy(update={"iterations": 2}), capture, head, tmp_path)
    held = (tmp_path / "checkpoint.pt").read_bytes()
    if guilty == "loss":
        monkeypatch.setattr(losses, "binding_loss", lambda gaussians, *_: gaussians.means.sum() * float("nan"))
    elif guilty == "parameter":
        plain = diagnosis.check_parameters

        def spoil(run):
            run.optimizer.gaussians.logit_opacities.data[7] = float("nan")
            plain(run)

        monkeypatch.setattr(diagnosis, "check_parameters", spoil)
    else:
        check = diagnosis.check_gradients

        def spoil_gradient(run):
            if guilty == "gradient":
                run.optimizer.gaussians.sh_base.grad[5, 0, 1] = float("nan")
            else:
                next(iter(run.tuner.gradients().values()))[3] = float("inf")
            check(run)

        monkeypatch.setattr(diagnosis, "check_gradients", spoil_gradient)
    with pytest.raises(UserError, match=message) as caught:
        train(SHORT, capture, head, tmp_path, resume=True)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "checkpoint.pt").read_bytes() == held
    if guilty != "parameter":  # those are found at a save, where no step is at fault
        report = state(tmp_path / "failed_step_3.pt")
        assert report["image"].shape == (3, 60, 45)
        assert report["gaussians"].keys() == held_names(tmp_path)


def held_names(model: Path) -> set[str]:
    return state(model / "checkpoint.pt")["gaussians"].keys()


def test_two_trainings_do_not_share_a_folder(tmp_path, capture, head):
    with folder.locked(tmp_path):
        for attempt in (lambda: train(SHORT, capture, head, tmp_path), lambda: folder.remove_earlier_run(tmp_path)):
            with pytest.raises(UserError, match="another training is writing into this folder") as caught:
                attempt()
            assert "\n" not in str(caught.value)


def test_the_report_says_what_the_step_saw(tmp_path, capture, head):
    run = Run(SHORT, capture, head)
    view, truth = next(run.stream)
    path = diagnosis.keep_report(tmp_path, run, diagnosis.StepError(view, truth, UserError("why")))
    run.stream.close()
    report = state(path)
    assert report["error"] == "why"
    assert report["view"]["name"] == view.name
    assert torch.equal(report["camera"]["world_to_camera"], view.camera.world_to_camera)
