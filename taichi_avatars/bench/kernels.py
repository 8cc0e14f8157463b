"""Time and memory of the rasterizer, forward and backward, on `dense_scene`."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.bench.scenes import Scene, dense_scene
from taichi_avatars.errors import UserError
from taichi_avatars.kernels.tiles import TILE
from taichi_avatars.ops import rasterize
from taichi_avatars.ops.projection import project
from taichi_avatars.ops.tiles import sort_into_tiles
from taichi_avatars.timing.calls import timed
from taichi_avatars.timing.launches import Launch, recorded_launches

COMPOSITING = {"forward": "composite", "backward": "composite_adjoint"}  # the kernels whose pairs per second are reported


def pairs_of(rows: Tensor, width: int, height: int) -> int:
    """Pairs of a Gaussian and a pixel in the tile lists of splats (N,12): the work of compositing."""
    return int(sort_into_tiles(rows, width, height).tile_end[-1]) * TILE * TILE


def forward_of(scene: Scene) -> Callable[[], object]:
    def forward() -> None:
        with torch.no_grad():
            rasterize(*scene[:5], camera=scene.camera)

    return forward


def forward_backward_of(scene: Scene, seed: int = 0) -> Callable[[], object]:
    """A call of the rasterizer, and backward from a random gradient of its image to all five tensors."""
    camera = scene.camera
    upstream = torch.randn(3, camera.height, camera.width, generator=torch.Generator().manual_seed(seed + 1))
    upstream = upstream.to(runtime.device())

    def forward_backward() -> None:
        for parameter in scene[:5]:
            parameter.requires_grad_().grad = None
        (rasterize(*scene[:5], camera=camera).image * upstream).sum().backward()

    return forward_backward


def bench_kernels(count: int, width: int, height: int, repeats: int = 9, seed: int = 0) -> dict[str, object]:
    """Times the rasterizer, forward alone and with backward, on `dense_scene`.

    Returns:
        "gaussians", "width", "height", "pairs" (of a Gaussian and a pixel, in tile lists), "forward" and
        "forward_backward" (`Timing` as dictionaries), "compositing" (forward and
        backward kernel alone, see `of_kernel`).
    """
    scene = dense_scene(count, width, height, seed)
    forward = timed(forward_of(scene), repeats)
    with torch.no_grad():
        pairs = pairs_of(project(*scene[:5], scene.camera, 3).rows, width, height)
    both = forward_backward_of(scene, seed)
    forward_backward = timed(both, repeats)
    with recorded_launches() as launches:
        for _ in range(repeats):
            both()
    compositing = {way: of_kernel(launches, name, pairs) for way, name in COMPOSITING.items()}
    return {
        "gaussians": count,
        "width": width,
        "height": height,
        "pairs": pairs,
        "forward": asdict(forward),
        "forward_backward": asdict(forward_backward),
        "compositing": compositing,
    }


def of_kernel(launches: list[Launch], kernel: str, pairs: int) -> dict[str, float]:
    """Medians of one kernel's launches: "ms", "pairs_per_second", and "cpu_ms", "pairs_per_cpu_second" (one core's speed)."""
    seconds = statistics.median(launch.end - launch.begin for launch in launches if launch.kernel == kernel)
    cpu = max(statistics.median(launch.cpu for launch in launches if launch.kernel == kernel), 1e-9)
    return {
        "ms": 1e3 * seconds,
        "pairs_per_second": pairs / seconds,
        "cpu_ms": 1e3 * cpu,
        "pairs_per_cpu_second": pairs / cpu,
    }


def peak_memory(count: int, width: int, height: int) -> int | None:
    """Peak bytes of forward and backward of `dense_scene` beyond what a warm process holds, measured in a separate process.

    Warm: all kernels have run on a small scene, and the scene itself is allocated. None on systems other than Linux.
    """
    arguments = [str(value) for value in (count, width, height, runtime.backend(), runtime.threads())]
    done = subprocess.run([sys.executable, "-m", "taichi_avatars.bench.memory", *arguments], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"measuring memory with {count} Gaussians failed ({last}); fewer --gaussians take less")
    return None if done.stdout.strip() == "None" else int(done.stdout)
