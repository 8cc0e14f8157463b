"""Photorealistic, animatable head avatars: 3D Gaussians rigged to the triangles of a FLAME mesh, in Taichi.

Importing this package starts nothing heavy: names are loaded when they are first used, Taichi at the first kernel call.
"""

import importlib
import os
from typing import TYPE_CHECKING

from taichi_avatars.openmp import wait_asleep

for banner in ("ENABLE_TAICHI_HEADER_PRINT", "ENABLE_QUADRANTS_HEADER_PRINT"):
    os.environ.setdefault(banner, "0")  # it goes to stdout, which belongs to --json and pipes
wait_asleep()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from taichi_avatars.avatar.avatar import Avatar
    from taichi_avatars.errors import UserError
    from taichi_avatars.head.flame import FlameModel
    from taichi_avatars.ops import bind, rasterize, triangle_frames
    from taichi_avatars.runtime import init
    from taichi_avatars.scene.cameras import Camera

_module_of = {
    "Avatar": "avatar.avatar",
    "Camera": "scene.cameras",
    "FlameModel": "head.flame",
    "UserError": "errors",
    "bind": "ops",
    "init": "runtime",
    "rasterize": "ops",
    "triangle_frames": "ops",
}
__all__ = ["Avatar", "Camera", "FlameModel", "UserError", "bind", "init", "rasterize", "triangle_frames"]


def __getattr__(name: str) -> object:
    if name not in _module_of:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_module_of[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
