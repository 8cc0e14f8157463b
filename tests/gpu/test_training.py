"""A few steps of real training with all kernels on the GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gpu.pretence import Far, pretended_cuda
from taichi_avatars import Avatar, FlameModel
from taichi_avatars.config import TrainConfig
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.scene.images import load_image
from taichi_avatars.training.run import Run
from taichi_avatars.training.trainer import train

SHORT = TrainConfig(densify_until_iter=600_000, iterations=24, white_background=True, interval=24, densify_grad_threshold=1e-6)
WHITE = (1.0, 1.0, 1.0)


@pytest.fixture(scope="module", autouse=True)
def early_density_control():
    """At step 20; a person's run waits for more of the gradient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("taichi_avatars.training.schedule.SHORTEST_INTERVAL", 10)
        yield


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory, capture, head) -> tuple[Avatar, Path]:
    model = tmp_path_factory.mktemp("model")
    return train(SHORT, capture, head, model), model


def test_it_learns_and_saves(trained, capture, head):
    avatar, model = trained
    view, start = capture.train[0], Run(SHORT, capture, head)
    start.stream.close()
    truth = load_image(view, WHITE)
    before, image = (a.render(view.camera, view.timestep, background=WHITE).image for a in (start.avatar, avatar))
    assert (image - truth).square().mean() < 0.8 * (before - truth).square().mean()
    assert len(avatar.gaussians) > len(start.avatar.gaussians)  # density control
    assert not torch.equal(avatar.sequence.expr, capture.flame.expr)
    assert torch.equal(image, Avatar.load(model).render(view.camera, view.timestep, background=WHITE).image)


def test_it_repeats_and_its_tensors_stay_on_the_device(trained, tmp_path, capture, head):
    """The same training, with what CUDA would refuse refused (see `pretence.py`), and the same bits."""
    view = capture.train[0]
    with pretended_cuda():
        avatar = train(SHORT, capture, head, tmp_path)
        again = train(SHORT, capture, head, tmp_path, resume=True)  # nothing is left to do but to read it all
        for gaussians in (avatar.gaussians, again.gaussians):
            assert all(isinstance(values, Far) for values in gaussians.parameters().values())
        image = again.render(view.camera, view.timestep).image
    assert not isinstance(image, Far)
    assert torch.equal(image, trained[0].render(view.camera, view.timestep).image)
