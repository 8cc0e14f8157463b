"""Subjects of a profile: a training run and an avatar, of a capture, of a trained model, or synthetic."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from taichi_avatars import runtime
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.density import DensityControl
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import Capture, View
from taichi_avatars.training.optimizer import GaussianAdam
from taichi_avatars.training.run import Run

VIEWS = 4  # of a synthetic capture
EXTENT = 0.5  # metres, of a capture by one camera


def made_up_capture(avatar: Avatar, camera: Camera, folder: Path) -> Capture:
    """Images of the avatar itself at its first timesteps, as files, so that their decoding is measured too."""
    if avatar.sequence is None:
        raise UserError("this scene has no head to film: give the capture that it was trained on with --source")
    views = []
    for number, timestep in enumerate(avatar.sequence.timesteps[:VIEWS]):
        image = avatar.render(camera, timestep).image.cpu().clamp(0, 1).permute(1, 2, 0)
        path = folder / f"{number}.png"
        Image.fromarray((255 * image).round().to(torch.uint8).numpy()).save(path)
        views.append(View(camera, timestep, 0, "0", f"{number:05d}_00", path, None))
    return Capture(folder, "head", views, [], [], avatar.sequence, None, EXTENT)


def run_with(avatar: Avatar, capture: Capture, config: TrainConfig) -> Run:
    """A training run in mid-course: with the avatar's Gaussians and all bands of the spherical harmonics."""
    run = Run(config, capture, avatar.head)
    run.optimizer = GaussianAdam(avatar.gaussians.to(runtime.device()), config)
    run.density = DensityControl(len(avatar.gaussians), run.generator)
    run.iteration = max(run.schedule.band_at, default=0) + 1
    return run
