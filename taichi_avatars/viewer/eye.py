"""A browser's viewpoint, and the camera for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import roma
import torch
from torch import Tensor

from taichi_avatars.scene.cameras import Camera

NEAR = 0.02  # metres: close enough for eyelashes
FARTHEST = 1e6  # metres from the world's origin
NARROWEST, WIDEST = math.radians(0.5), math.radians(170.0)
MOST_ASPECT = 8.0  # of a window's sides


@dataclass(frozen=True)
class Eye:
    """A browser's view of the world.

    Attributes:
        quat: w,x,y,z of the unit quaternion from camera axes (OpenCV) to the world.
        position: world, metres.
        fov_y: radians.
        aspect: width of the window over its height.
        shift: offset of the principal point from the centre, in heights of the picture: some captures' cameras need it.
    """

    quat: tuple[float, float, float, float]
    position: tuple[float, float, float]
    fov_y: float
    aspect: float
    shift: tuple[float, float] = (0.0, 0.0)

    def camera(self, height: int, full_height: int) -> Camera:
        """The camera of a picture with this many rows.

        With fewer rows than the full picture, the splats keep the low-pass filter of the full picture: with one that grows with
        the pixels, hair would swell while the camera moves, and shrink when it comes to rest.
        """
        width = max(1, round(height * self.aspect))
        focal = 0.5 * height / math.tan(0.5 * self.fov_y)
        pose = torch.linalg.inv(self.world_from_camera()).float()
        cx, cy = 0.5 * width + self.shift[0] * height, 0.5 * height + self.shift[1] * height
        camera = Camera.from_opencv(pose, focal, focal, cx, cy, width, height, near=NEAR)
        return replace(camera, low_pass=camera.low_pass * (height / full_height) ** 2)

    def world_from_camera(self) -> Tensor:
        """(4,4) float64."""
        w, x, y, z = self.quat
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = roma.unitquat_to_rotmat(torch.tensor([x, y, z, w], dtype=torch.float64))
        pose[:3, 3] = torch.tensor(self.position, dtype=torch.float64)
        return pose


def eye_of(camera: Camera) -> Eye:
    """The eye with the view of a camera, in a window of its shape."""
    rotation = camera.world_to_camera[:3, :3].detach().double().T
    x, y, z, w = roma.rotmat_to_unitquat(rotation).tolist()
    px, py, pz = camera.center.detach().double().tolist()
    fov_y = 2.0 * math.atan(0.5 * camera.height / camera.fy)
    shift = (camera.cx - 0.5 * camera.width) / camera.height, (camera.cy - 0.5 * camera.height) / camera.height
    return Eye((w, x, y, z), (px, py, pz), fov_y, camera.width / camera.height, shift)


def read_eye(reported: Any, shift: tuple[float, float] = (0.0, 0.0)) -> Eye | None:
    """The eye that a browser reports, as in viser's camera handles; None if it is not valid.

    Browsers are untrusted: the report may be anything.
    """
    try:
        quat, position = _floats(reported.wxyz, 4), _floats(reported.position, 3)
        fov_y, rows, columns = float(reported.fov), int(reported.image_height), int(reported.image_width)
    except (TypeError, ValueError, OverflowError, AssertionError):
        return None
    length = math.sqrt(sum(part * part for part in quat))
    if not (abs(length - 1.0) < 1e-2 and max(map(abs, position)) < FARTHEST and NARROWEST <= fov_y <= WIDEST):
        return None
    if rows < 1 or columns < 1:
        return None
    w, x, y, z = (part / length for part in quat)
    px, py, pz = position
    aspect = min(max(columns / rows, 1.0 / MOST_ASPECT), MOST_ASPECT)
    return Eye((w, x, y, z), (px, py, pz), fov_y, aspect, shift)


def _floats(values: Sequence[float], count: int) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"want {count} finite numbers")
    return numbers
