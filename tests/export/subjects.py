"""What the tests export: an avatar in a few poses with view-dependent colour, a static scene, and a camera that sees both."""

from __future__ import annotations

from dataclasses import replace

import torch
from avatar.small_avatar import small_avatar, small_motion

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import place
from taichi_avatars.export.world import in_world
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.video.viewpoints import frontal_camera


def colourful_avatar(frames: int = 3) -> Avatar:
    avatar = small_avatar()
    assert avatar.head is not None and avatar.sequence is not None
    random = torch.Generator().manual_seed(5)
    g = avatar.gaussians
    g.sh_base = 0.8 * torch.randn(g.sh_base.shape, generator=random)
    g.sh_rest = 0.1 * torch.randn(g.sh_rest.shape, generator=random)
    g.log_scales = g.log_scales + 0.7
    motion = small_motion(avatar.head.n_expr, frames)
    return Avatar(g, avatar.head, replace(motion, timesteps=[3 * i + 4 for i in range(frames)]).fit(avatar.head))


def static_scene() -> Avatar:
    avatar = colourful_avatar()
    return Avatar(in_world(avatar, avatar.mesh(4)))


def camera_of(avatar: Avatar, width: int = 96, height: int = 128) -> Camera:
    return frontal_camera(place(avatar), width, height)
