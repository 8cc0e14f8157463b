"""Pinhole cameras: intrinsics in pixels, pose as world-to-camera in OpenCV axes (x right, y down, z forward)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.ops.pose import look_at_pose

# Camera axes of OpenGL files (x right, y up, z back) in OpenCV's (x right, y down, z forward): y and z change sign.
OPENCV_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float32))


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera. Pixel centres lie at integer + 0.5 in the units of `cx`, `cy`.

    Attributes:
        world_to_camera: (4,4) float32, OpenCV axes, metres. May require a gradient.
        fx, fy: focal lengths, pixels.
        cx, cy: principal point from the top left corner of the image, pixels.
        width, height: image size, pixels.
        near: Gaussians with view depth at or below this are culled, metres.
        low_pass: variance added to every splat, pixels^2, so that none falls between the pixels.
    """

    world_to_camera: Tensor
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    near: float = 0.2
    low_pass: float = 0.3

    @staticmethod
    def from_opencv(
        world_to_camera: Tensor, fx: float, fy: float, cx: float, cy: float, width: int, height: int, near: float = 0.2
    ) -> Camera:
        """A camera from a (4,4) world-to-camera matrix in OpenCV axes and intrinsics in pixels.

        Raises:
            UserError: if the matrix is not a finite (4,4), the focal lengths not positive, or the size not positive.
        """
        pose = torch.as_tensor(world_to_camera)
        if pose.shape != (4, 4):
            raise UserError(f"world_to_camera: got shape {tuple(pose.shape)}, want (4, 4)")
        if pose.dtype != torch.float32:
            pose = pose.to(torch.float32)
        if not bool(torch.isfinite(pose).all()):
            raise UserError("world_to_camera: holds NaN or Inf")
        if not all(math.isfinite(v) for v in (fx, fy, cx, cy)) or fx <= 0 or fy <= 0:
            raise UserError(f"focal lengths must be positive and finite, got fx={fx} fy={fy} cx={cx} cy={cy}")
        if not near > 0:
            raise UserError(f"near must be positive, got {near}")
        if width < 1 or height < 1:
            raise UserError(f"image size must be positive, got {width} x {height}")
        return Camera(pose, float(fx), float(fy), float(cx), float(cy), int(width), int(height), float(near))

    @staticmethod
    def from_opengl(camera_to_world: Tensor, fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> Camera:
        """A camera from a (4,4) camera-to-world matrix in OpenGL axes, as `transforms.json` files hold it."""
        pose = torch.linalg.inv(torch.as_tensor(camera_to_world, dtype=torch.float64) @ OPENCV_FROM_OPENGL.double())
        return Camera.from_opencv(pose.float(), fx, fy, cx, cy, width, height)

    @staticmethod
    def look_at(eye: Tensor, target: Tensor, fov_y: float, width: int, height: int) -> Camera:
        """A camera at `eye` (3,) that looks at `target` (3,), world y up; `fov_y` is the vertical field of view in radians."""
        focal = 0.5 * height / math.tan(0.5 * fov_y)
        return Camera.from_opencv(look_at_pose(eye, target).float(), focal, focal, 0.5 * width, 0.5 * height, width, height)

    @property
    def center(self) -> Tensor:
        """Camera centre in the world, (3,), metres."""
        rotation, translation = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        return -rotation.T @ translation

    def resized(self, width: int, height: int) -> Camera:
        """The same view on another pixel grid; intrinsics scale with each axis, the low pass stays the same in pixels."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy, width=int(width), height=int(height)
        )
