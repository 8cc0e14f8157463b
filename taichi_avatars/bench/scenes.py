"""Subjects of the benchmarks: a dense scene of random Gaussians, and an avatar like a trained one."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.avatar.place import place
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.video.viewpoints import frontal_camera

HEAD_AXES = (0.11, 0.16, 0.12)  # metres, of the ellipsoid on which the Gaussians lie
SHELL = 0.03  # its thickness, relative
SPREAD = 0.004  # median standard deviation of 10,000 Gaussians, metres; more of them are smaller, so that they cover the same
FOV_Y = 2.0 * math.atan(0.165)
DISTANCE = 1.0
TIMESTEPS = 16

# The example avatar, fitted to the one that `demo` trains (39,952 Gaussians): most triangles keep the one Gaussian that they
# began with, a few (hair, brows, mouth) hold nearly all others; most Gaussians are faint, and flat or needles. In front of
# the head, trained and example have 56 and 55 pairs per pixel at 550x802, 98 and 94 at 275x401, and opacities of 0.004 0.02
# 0.11 0.61 1.00 and 0.002 0.03 0.17 0.60 0.97 (5, 25, 50, 75, 95%).
TRAINED = 40_000  # Gaussians of the measured avatar; with more, they are smaller and cover the same area
CROWDED = 0.06  # fraction of the triangles that hold the added Gaussians
LARGEST = -0.35  # logarithm of the longest axis, triangle units
DECAY = 2.0  # mean of what the logarithms of the axes lie below that, exponentially distributed
LOGIT_OPACITY = (-1.6, 3.0)  # mean, standard deviation


class Scene(NamedTuple):
    """Gaussians as `rasterize` takes them, and a camera whose image they fill."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    camera: Camera


def dense_scene(count: int, width: int, height: int, seed: int = 0) -> Scene:
    """A head-sized shell of random Gaussians with SH degree 3; reproducible by seed.

    100,000 of them make about 65 million pairs of a Gaussian and a pixel at 550 x 802.
    """
    random = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=random, dtype=torch.float32), dim=1)
    means = (
        direction
        * torch.tensor(HEAD_AXES, dtype=torch.float32)
        * (1.0 + SHELL * torch.randn(count, 1, generator=random, dtype=torch.float32))
    )
    quats = torch.randn(count, 4, generator=random, dtype=torch.float32)
    scales = torch.exp(0.5 * torch.randn(count, 3, generator=random, dtype=torch.float32)) * SPREAD * math.sqrt(10_000 / count)
    opacities = torch.sigmoid(1.5 * torch.randn(count, generator=random, dtype=torch.float32) - 1.0)
    sh = 0.2 * torch.randn(count, 16, 3, generator=random, dtype=torch.float32)
    camera = Camera.look_at(
        torch.tensor([0.0, 0.0, DISTANCE], dtype=torch.float32), torch.zeros(3, dtype=torch.float32), FOV_Y, width, height
    )
    on = runtime.device()
    return Scene(means.to(on), quats.to(on), scales.to(on), opacities.to(on), sh.to(on), camera)


def example_avatar(count: int, seed: int = 0) -> Avatar:
    """The built-in head with `count` Gaussians that cost as much as those of a trained avatar, and random poses."""
    head = FlameModel.builtin()
    random = torch.Generator().manual_seed(seed)
    crowded = torch.randperm(head.num_faces, generator=random)[: round(CROWDED * head.num_faces)]
    first = torch.randperm(head.num_faces, generator=random)[:count]
    added = crowded[torch.randint(len(crowded), (count - len(first),), generator=random)]
    binding = torch.cat([first, added])
    start = Gaussians.on_triangles(head.num_faces, 3, random).parameters()
    gaussians = Gaussians(**{name: values[binding] for name, values in start.items()}, binding=binding.to(torch.int32))
    largest = LARGEST - 0.5 * math.log(max(count / TRAINED, 0.25))
    gaussians.means = 0.35 * torch.randn(count, 3, generator=random, dtype=torch.float32)
    gaussians.log_scales = largest - torch.empty(count, 3, dtype=torch.float32).exponential_(1.0 / DECAY, generator=random)
    gaussians.quats = torch.randn(count, 4, generator=random, dtype=torch.float32)
    gaussians.logit_opacities = LOGIT_OPACITY[0] + LOGIT_OPACITY[1] * torch.randn(count, generator=random, dtype=torch.float32)
    sequence = FlameSequence(
        timesteps=list(range(TIMESTEPS)),
        shape=torch.zeros(head.n_shape, dtype=torch.float32),
        expr=0.2 * torch.rand(TIMESTEPS, head.n_expr, generator=random, dtype=torch.float32),
        **{
            name: 0.05 * torch.randn(TIMESTEPS, 3, generator=random, dtype=torch.float32)
            for name in ("rotation", "neck_pose", "jaw_pose")
        },
        eyes_pose=0.05 * torch.randn(TIMESTEPS, 6, generator=random, dtype=torch.float32),
        translation=torch.zeros(TIMESTEPS, 3, dtype=torch.float32),
    )
    return Avatar(gaussians, head, sequence)


def in_front_of(avatar: Avatar, width: int, height: int) -> Camera:
    """A camera whose image an avatar's head fills."""
    return frontal_camera(place(avatar), width, height)
