"""Frames per second of an avatar, by the protocol of the published numbers."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench.kernels import pairs_of
from taichi_avatars.ops.projection import project
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.timing.calls import timed
from taichi_avatars.timing.launches import wait


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
        "fps" (their median), "cpu_ms" (of a frame, all threads together).
    """
    frame = _next_frame(avatar, camera)
    frame()
    frame()
    wait()
    rates, cpu = [], time.process_time()
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(frames):
            frame()
        wait()
        rates.append(frames / (time.perf_counter() - began))
    cpu = 1e3 * (time.process_time() - cpu) / (rounds * frames)
    return {**_what(avatar, camera), "frames": frames, "rounds": rates, "fps": statistics.median(rates), "cpu_ms": cpu}


def _next_frame(avatar: Avatar, camera: Camera):
    timesteps = avatar.sequence.timesteps if avatar.sequence is not None else [None]
    shown = 0

    def frame() -> None:
        nonlocal shown
        avatar.render(camera, timestep=timesteps[shown % len(timesteps)])
        shown += 1

    return frame


def _what(avatar: Avatar, camera: Camera) -> dict[str, object]:
    mesh = None if avatar.head is None or avatar.sequence is None else avatar.mesh(avatar.sequence.timesteps[0])
    gaussians = avatar.gaussians
    with torch.no_grad():
        world, _ = avatar.world(mesh)
        sh = gaussians.sh_base, gaussians.sh_rest
        rows = project(*world, gaussians.opacities, sh, camera, gaussians.degree).rows
    return {
        "gaussians": len(avatar.gaussians),
        "width": camera.width,
        "height": camera.height,
        "pairs_per_pixel": pairs_of(rows, camera.width, camera.height) / (camera.width * camera.height),
    }
