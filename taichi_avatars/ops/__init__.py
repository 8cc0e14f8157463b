"""The differentiable stages of the method, each with checked arguments, a Taichi kernel and its adjoint."""

from taichi_avatars.ops.binding import World, bind
from taichi_avatars.ops.frames import Frames, triangle_frames
from taichi_avatars.ops.image_loss import l1_and_ssim
from taichi_avatars.ops.rasterize import Rendering, rasterize
from taichi_avatars.ops.skinning import skin

__all__ = ["Frames", "Rendering", "World", "bind", "l1_and_ssim", "rasterize", "skin", "triangle_frames"]
