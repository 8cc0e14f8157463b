"""Frames per second of an avatar, by the protocol of the published numbers."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench.kernels import pairs_of
from taichi_avatars.bench.timing import timed
from taichi_avatars.ops.projection import project
from taichi_avatars.scene.cameras import Camera


def bench_avatar(avatar: Avatar, camera: Camera, frames: int = 40) -> dict[str, object]:
    """Frames per second of an avatar, each with the FLAME update of another timestep; a quick look.

    Returns:
        "gaussians", "width", "height", "fps" (of the median frame), "frame" (`Timing` as a dictionary).
    """
    frame = _next_frame(avatar, camera)
    timing = timed(frame, frames)
    return {**_what(avatar, camera), "fps": 1000.0 / timing.median_ms, "frame": asdict(timing)}


def published_protocol(avatar: Avatar, camera: Camera, frames: int = 500, rounds: int = 3) -> dict[str, object]:
    """Frames per second over `rounds` rounds of `frames` frames, each with the FLAME update of the next timestep.

    Returns:
        "gaussians", "width", "height", "pairs_per_pixel" (of the first frame), "frames", "rounds" (frames per second of each),
        "fps" (their median).
    """
    frame = _next_frame(avatar, camera)
    frame()
    frame()
    rates = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(frames):
            frame()
        rates.append(frames / (time.perf_counter() - began))
    return {**_what(avatar, camera), "frames": frames, "rounds": rates, "fps": statistics.median(rates)}


def _next_frame(avatar: Avatar, camera: Camera):
    timesteps = avatar.sequence.timesteps if avatar.sequence is not None else [None]
    shown = 0

    def frame() -> None:
        nonlocal shown
        avatar.render(camera, timestep=timesteps[shown % len(timesteps)])
        shown += 1

    return frame


@torch.no_grad()
def _what(avatar: Avatar, camera: Camera) -> dict[str, object]:
    timestep = avatar.sequence.timesteps[0] if avatar.sequence is not None else None
    world, _ = avatar.world(None if timestep is None else avatar.mesh(timestep))
    g = avatar.gaussians
    rows = project(*world, g.opacities, g.sh(g.degree), camera, g.degree).rows
    pairs = pairs_of(rows, camera.width, camera.height)
    return {
        "gaussians": len(g),
        "width": camera.width,
        "height": camera.height,
        "pairs_per_pixel": pairs / (camera.width * camera.height),
    }
