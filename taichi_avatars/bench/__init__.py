"""How fast the kernels and an avatar are: what `taichi-avatars bench` measures."""

from taichi_avatars.bench.frames import bench_avatar, published_protocol
from taichi_avatars.bench.kernels import bench_kernels, pairs_of, peak_memory
from taichi_avatars.bench.scenes import Scene, dense_scene, example_avatar, in_front_of
from taichi_avatars.timing.calls import Timing, machine, timed

__all__ = [
    "Scene",
    "Timing",
    "bench_avatar",
    "bench_kernels",
    "dense_scene",
    "example_avatar",
    "in_front_of",
    "machine",
    "pairs_of",
    "peak_memory",
    "published_protocol",
    "timed",
]
