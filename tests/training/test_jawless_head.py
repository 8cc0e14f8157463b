"""An avatar on a head without a jaw joint, from training to what is made of it, on pictures of the built-in head."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from head.gnm_layout import capture_without_jaw, gnm_arrays

from taichi_avatars import Avatar
from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.head.assets import resolve_head
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.inspection.info import describe
from taichi_avatars.motion.motion import drive
from taichi_avatars.motion.retarget import clamped_to, relative_to_neutral
from taichi_avatars.motion.sources import load_motion
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.training.trainer import train
from taichi_avatars.viewer.look import Look, Pose
from taichi_avatars.viewer.subject import subject_of

SHORT = TrainConfig(iterations=80, white_background=True, interval=80, start_gaussians=10_000)
WHITE = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def jawless(tmp_path_factory: pytest.TempPathFactory, capture: Capture) -> Capture:
    folder = tmp_path_factory.mktemp("jawless")
    np.savez(folder / "gnm_head.npz", **gnm_arrays())  # pyright: ignore[reportArgumentType]
    copy = capture_without_jaw(capture.path, folder / "subject", folder / "gnm_head.npz")
    return load_capture(copy, head=resolve_head(None, copy))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, jawless: Capture) -> Path:
    folder = tmp_path_factory.mktemp("model")
    train(SHORT, jawless, resolve_head(None, jawless.path), folder)
    for place in folder.glob("point_cloud/iteration_*"):
        (place / "gnm_head.npz").write_bytes((jawless.path / "gnm_head.npz").read_bytes())
    return folder


def psnr(avatar: Avatar, capture: Capture) -> float:
    return evaluate(avatar, capture.val + capture.test, WHITE).mean["PSNR"]


def test_it_learns_as_the_built_in_head_does(
    tmp_path: Path, model: Path, jawless: Capture, capture: Capture, head: FlameModel
) -> None:
    builtin = psnr(train(SHORT, capture, head, tmp_path), capture)
    assert abs(psnr(Avatar.load(model), jawless) - builtin) < 0.3  # dB
    assert builtin > 20.0


def test_its_files_have_no_jaw_and_are_whole(model: Path, jawless: Capture) -> None:
    file = next(model.glob("point_cloud/iteration_*/flame_param.npz"))
    assert "jaw_pose" not in np.load(file).files
    for path in (model, jawless.path, jawless.path / "gnm_head.npz"):
        described = describe(path)
        assert described["whole"], described
    alone = jawless.path.parent / "alone"  # the head's file is elsewhere: a note, and still no jaw is missed
    shutil.copytree(file.parent, alone, ignore=shutil.ignore_patterns("gnm_head.npz"))
    described = describe(alone)
    assert described["whole"] and any("asks for the GNM file" in note for note in described["notes"]), described
    assert describe(jawless.path / "gnm_head.npz")["kind"] == "GNM head model"


def test_a_motion_drives_it(model: Path, jawless: Capture) -> None:
    avatar = Avatar.load(model)
    assert avatar.head is not None and avatar.sequence is not None
    motion = load_motion(jawless.path, avatar.head)
    relative = relative_to_neutral(motion.sequence)
    assert relative.jaw_pose is None and relative.eyes_pose is not None
    assert clamped_to(relative, avatar.sequence, avatar.sequence.timesteps).jaw_pose is None
    actor = drive(avatar, motion)
    moved, still = actor.mesh(2).vertices, actor.mesh(0).vertices
    assert torch.isfinite(moved).all() and float((moved - still).norm(dim=1).max()) > 1e-3


def test_the_viewer_leaves_the_jaw_out(model: Path) -> None:
    avatar = Avatar.load(model)
    subject = subject_of(avatar, None, None)
    before = subject.flame(Look(), avatar.sequence.timesteps[0])  # pyright: ignore[reportOptionalMemberAccess]
    after = subject.flame(Look(pose=Pose(jaw=(0.3, 0.0, 0.0), neck=(0.1, 0.0, 0.0))), 0)
    assert before is not None and after is not None and before.jaw is None and after.jaw is None
    assert before.neck is not None and after.neck is not None
    torch.testing.assert_close(after.neck - before.neck, torch.tensor([0.1, 0.0, 0.0]))
