"""A few steps of real training with all kernels on the GPU."""

import subprocess
import sys

import pytest
import torch

from taichi_avatars import Avatar, FlameModel
from taichi_avatars.config import TrainConfig
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.training.events import Progress
from taichi_avatars.training.trainer import train

SHORT = TrainConfig(iterations=30, white_background=True, interval=15, densify_grad_threshold=1e-6)


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


@pytest.fixture(scope="module")
def capture(tmp_path_factory, head) -> Capture:
    """Drawn by another process on the CPU, where meshes are."""
    folder = tmp_path_factory.mktemp("capture") / "subject"
    script = f"""
from taichi_avatars import runtime
from taichi_avatars.synthetic.capture import write_capture
runtime.init("cpu")
write_capture({str(folder)!r}, width=45, height=60, timesteps=2, test_timesteps=1, cameras=4, supersample=1)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    return load_capture(folder, head=head)


def test_it_learns_and_repeats(tmp_path, capture, head):
    images = []
    for name in ("one", "two"):
        events = []
        avatar = train(SHORT, capture, head, tmp_path / name, events.append)
        progress = [e for e in events if isinstance(e, Progress)]
        assert progress[-1].loss < 0.7 * progress[0].loss
        view = capture.train[0]
        images.append(avatar.render(view.camera, view.timestep, background=(1.0, 1.0, 1.0)).image)
        loaded = Avatar.load(tmp_path / name).render(view.camera, view.timestep, background=(1.0, 1.0, 1.0)).image
        assert torch.equal(loaded, images[-1])
    assert torch.equal(*images)


def test_the_pose_is_tuned(tmp_path, capture, head):
    avatar = train(SHORT.model_copy(update={"iterations": 3}), capture, head, tmp_path)
    assert avatar.sequence is not None and capture.flame is not None
    assert not torch.equal(avatar.sequence.expr, capture.flame.expr)
