"""The differentiable stages of the method, each checked, each with a Taichi kernel and its adjoint behind it."""

from taichi_avatars.ops.binding import World, bind
from taichi_avatars.ops.frames import Frames, triangle_frames
from taichi_avatars.ops.rasterize import Rendering, rasterize

__all__ = ["Frames", "Rendering", "World", "bind", "rasterize", "triangle_frames"]
