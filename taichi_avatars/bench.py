"""How fast the kernels and an avatar are: what `taichi-avatars bench` prints."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from taichi_avatars import runtime
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.kernels.tiles import TILE
from taichi_avatars.ops import rasterize
from taichi_avatars.ops.projection import project
from taichi_avatars.ops.tiles import sort_into_tiles
from taichi_avatars.outputs.motion import place
from taichi_avatars.outputs.viewpoints import frontal_camera
from taichi_avatars.scene.cameras import Camera

HEAD_AXES = (0.11, 0.16, 0.12)  # metres, of the ellipsoid on which the Gaussians lie
SHELL = 0.03  # its thickness, relative
SPREAD = 0.004  # median standard deviation of 10,000 Gaussians, metres; more of them are smaller, so that they cover the same
FOV_Y = 2.0 * math.atan(0.165)
DISTANCE = 1.0
TIMESTEPS = 16


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: median and least of several, and CPU time of all threads together (median)."""

    median_ms: float
    min_ms: float
    cpu_ms: float


class Scene(NamedTuple):
    """Gaussians as `rasterize` takes them, and a camera that they fill the picture of."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh: Tensor
    camera: Camera


def dense_scene(count: int, width: int, height: int, seed: int = 0) -> Scene:
    """A shell of random Gaussians as large as a head, with SH degree 3; the same for the same seed.

    100,000 of them make about 65 million pairs of a Gaussian and a pixel at 550 x 802.
    """
    random = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=random), dim=1)
    means = direction * torch.tensor(HEAD_AXES) * (1.0 + SHELL * torch.randn(count, 1, generator=random))
    quats = torch.randn(count, 4, generator=random)
    scales = torch.exp(0.5 * torch.randn(count, 3, generator=random)) * SPREAD * math.sqrt(10_000 / count)
    opacities = torch.sigmoid(1.5 * torch.randn(count, generator=random) - 1.0)
    sh = 0.2 * torch.randn(count, 16, 3, generator=random)
    camera = Camera.look_at(torch.tensor([0.0, 0.0, DISTANCE]), torch.zeros(3), FOV_Y, width, height)
    return Scene(means, quats, scales, opacities, sh, camera)


def bench_kernels(count: int, width: int, height: int, repeats: int = 9, seed: int = 0) -> dict[str, object]:
    """Times the rasterizer, forward alone and with backward, on `dense_scene`.

    Returns:
        "gaussians", "width", "height", "pairs" (of a Gaussian and a pixel, in tile lists), "forward" and
        "forward_backward" (`Timing` as dictionaries).
    """
    scene = dense_scene(count, width, height, seed)
    parameters, camera = scene[:5], scene.camera
    upstream = torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed + 1))

    def forward() -> None:
        with torch.no_grad():
            rasterize(*parameters, camera=camera)

    def forward_backward() -> None:
        for parameter in parameters:
            parameter.requires_grad_().grad = None
        (rasterize(*parameters, camera=camera).image * upstream).sum().backward()

    with torch.no_grad():
        rows = project(*parameters, camera, 3).rows
        pairs = int(sort_into_tiles(rows, width, height).tile_end[-1]) * TILE * TILE
    return {
        "gaussians": count,
        "width": width,
        "height": height,
        "pairs": pairs,
        "forward": asdict(timed(forward, repeats)),
        "forward_backward": asdict(timed(forward_backward, repeats)),
    }


def bench_avatar(avatar: Avatar, camera: Camera, frames: int = 40) -> dict[str, object]:
    """Frames per second of an avatar, each with the FLAME update of another timestep (the protocol of the published numbers).

    Returns:
        "gaussians", "width", "height", "fps" (of the median frame), "frame" (`Timing` as a dictionary).
    """
    timesteps = avatar.sequence.timesteps if avatar.sequence is not None else [None]
    shown = 0

    def frame() -> None:
        nonlocal shown
        avatar.render(camera, timestep=timesteps[shown % len(timesteps)])
        shown += 1

    timing = timed(frame, frames)
    return {
        "gaussians": len(avatar.gaussians),
        "width": camera.width,
        "height": camera.height,
        "fps": 1000.0 / timing.median_ms,
        "frame": asdict(timing),
    }


def example_avatar(count: int, seed: int = 0) -> Avatar:
    """The built-in head with Gaussians spread over all of its triangles and a motion of random poses; for timing alone."""
    head = FlameModel.builtin()
    random = torch.Generator().manual_seed(seed)
    gaussians = Gaussians.on_triangles(head.num_faces, 3, random)
    binding = torch.arange(count, dtype=torch.int32) % head.num_faces
    chosen = binding.long()
    gaussians = Gaussians(**{name: values[chosen] for name, values in gaussians.parameters().items()}, binding=binding)
    each = count / head.num_faces
    gaussians.means = 0.5 * torch.randn(count, 3, generator=random)
    gaussians.log_scales = 0.3 * torch.randn(count, 3, generator=random) - 0.5 * math.log(max(each, 1.0))
    gaussians.quats = torch.randn(count, 4, generator=random)
    gaussians.logit_opacities = 1.5 * torch.randn(count, generator=random)
    sequence = FlameSequence(
        timesteps=list(range(TIMESTEPS)),
        shape=torch.zeros(head.n_shape),
        expr=0.2 * torch.rand(TIMESTEPS, head.n_expr, generator=random),
        **{name: 0.05 * torch.randn(TIMESTEPS, 3, generator=random) for name in ("rotation", "neck_pose", "jaw_pose")},
        eyes_pose=0.05 * torch.randn(TIMESTEPS, 6, generator=random),
        translation=torch.zeros(TIMESTEPS, 3),
    )
    return Avatar(gaussians, head, sequence)


def in_front_of(avatar: Avatar, width: int, height: int) -> Camera:
    """A camera that an avatar's head fills."""
    return frontal_camera(place(avatar), width, height)


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    runtime.start()
    return {
        "processor": _processor(),
        "threads": runtime.threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def timed(call: Callable[[], object], repeats: int) -> Timing:
    """Times `repeats` calls after two that do not count: compilation, memory."""
    call()
    call()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return Timing(statistics.median(walls), min(walls), statistics.median(cpus))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
