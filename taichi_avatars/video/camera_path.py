"""Camera paths: key frames in a JSON file, interpolated to a camera at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import roma
import torch
from torch import Tensor

from taichi_avatars.avatar.place import Place
from taichi_avatars.errors import UserError
from taichi_avatars.files.json import read_json
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL, Camera
from taichi_avatars.scene.georeference import Origin
from taichi_avatars.scene.transforms import RIGID_TOLERANCE
from taichi_avatars.video.viewpoints import FOV_Y

SMALLEST_FOV, LARGEST_FOV = 1.0, 150.0  # degrees
KEYS = {"time", "position", "look_at", "up", "transform_matrix", "fov_y"}


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Key frames of a camera.

    Attributes:
        times: (K,) seconds, increasing.
        positions: (K,3) metres.
        quats: (K,4) x,y,z,w as in roma: camera axes (OpenCV) to those of the path.
        targets: (K,3) metres, the point that a key looks at; NaN for one given by a matrix.
        fov_y: (K,) radians.
        of_head: whether the path is in the head's own axes (its left, up and forward, from its centre) or in the world's.
    """

    times: Tensor
    positions: Tensor
    quats: Tensor
    targets: Tensor
    fov_y: Tensor
    of_head: bool

    def at(self, seconds: float, place: Place, width: int, height: int) -> Camera:
        """The camera at a moment; before the first key and after the last it stands still.

        Positions and fields of view follow a cubic through the keys (non-uniform Catmull-Rom), rotations the shortest arc
        between two of them. Between two keys with targets the camera keeps looking at the target: an interpolated rotation
        would lose it on a curved path.

        Args:
            place: of the head.
            width, height: pixels.
        """
        seconds = min(max(seconds, float(self.times[0])), float(self.times[-1]))
        position, fov_y = _cubic(self.times, self.positions, seconds), _cubic(self.times, self.fov_y[:, None], seconds)
        left, share = _interval(self.times, seconds)
        right = min(left + 1, len(self.times) - 1)
        quat = roma.unitquat_slerp(self.quats[left], self.quats[right], torch.tensor(share, dtype=torch.float64))
        assert isinstance(quat, Tensor)
        rotation = roma.unitquat_to_rotmat(quat)
        target = torch.lerp(self.targets[left], self.targets[right], share)
        if bool(torch.isfinite(target).all()):
            rotation = _looking(target - position, -rotation[:, 1], rotation)
        world_from_camera = torch.eye(4, dtype=torch.float64)
        world_from_camera[:3, :3], world_from_camera[:3, 3] = rotation, position
        if self.of_head:
            head = torch.eye(4, dtype=torch.float64)
            head[:3, :3], head[:3, 3] = place.rotation.double(), place.center.double()
            world_from_camera = head @ world_from_camera
        focal = 0.5 * height / math.tan(0.5 * min(max(float(fov_y), math.radians(SMALLEST_FOV)), math.radians(LARGEST_FOV)))
        pose = torch.linalg.inv(world_from_camera).float()
        return Camera.from_opencv(pose, focal, focal, 0.5 * width, 0.5 * height, width, height)


def read_camera_path(path: Path | str) -> CameraPath:
    """Reads key frames; the format is in docs/formats.md.

    Raises:
        UserError: naming the file, the key frame and what is wrong with it.
    """
    return camera_path(read_json(Path(path)), str(path))


def camera_path(content: object, origin: str) -> CameraPath:
    """The same from the content of such a file; errors begin with its origin."""
    keys = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(keys, list) or not keys:
        raise UserError(f'{origin}: not a camera path: want an object with a list "keys" of key frames')
    frame = content.get("frame", "world")
    if frame not in ("world", "head"):
        raise UserError(f'{origin}: frame: got {frame!r}, want "world" or "head"')
    read = [_read_key(key, f"{origin}: key frame {number}") for number, key in enumerate(keys)]
    times = torch.tensor([time for time, _, _, _ in read], dtype=torch.float64)
    late = (times.diff() <= 0).nonzero()
    if len(late):
        raise UserError(f"{origin}: key frame {int(late[0]) + 1}: its time is not after the previous one; sort them by time")
    poses = torch.stack([pose for _, pose, _, _ in read])
    quats = roma.rotmat_to_unitquat(poses[:, :3, :3])
    targets = torch.stack([target for _, _, target, _ in read])
    fov_y = torch.tensor([fov for _, _, _, fov in read], dtype=torch.float64)
    return CameraPath(times, poses[:, :3, 3], quats, targets, fov_y, frame == "head")


def shifted(keys: list[dict[str, Any]], by: Origin) -> list[dict[str, Any]]:
    """Key frames of a file that `camera_path` takes, moved in the world, in 64 bits; unchanged if `by` is 0."""
    if not any(by):
        return keys
    moved = []
    for key in keys:
        new = dict(key)
        for name in ("position", "look_at"):
            if name in key:
                new[name] = [float(value) + step for value, step in zip(key[name], by, strict=True)]
        if "transform_matrix" in key:
            rows = [list(row) for row in key["transform_matrix"]]
            for row, step in zip(rows, by, strict=False):
                row[3] = float(row[3]) + step
            new["transform_matrix"] = rows
        moved.append(new)
    return moved


def _read_key(key: Any, where: str) -> tuple[float, Tensor, Tensor, float]:
    """Time, camera to the path's axes (4,4) with OpenCV axes, target (3,), and the field of view in radians."""
    if not isinstance(key, dict):
        raise UserError(f"{where}: want an object, got {type(key).__name__}")
    unknown = sorted(set(key) - KEYS)
    if unknown:
        raise UserError(f"{where}: unknown entry {unknown[0]!r}; known are {', '.join(sorted(KEYS))}")
    time = float(_numbers(key.get("time"), (), f"{where}: time"))
    fov = float(_numbers(key.get("fov_y", math.degrees(FOV_Y)), (), f"{where}: fov_y"))
    if not SMALLEST_FOV <= fov <= LARGEST_FOV:
        raise UserError(f"{where}: fov_y: got {fov:g}, want {SMALLEST_FOV:g} to {LARGEST_FOV:g} degrees")
    if ("transform_matrix" in key) == ("position" in key or "look_at" in key):
        raise UserError(f"{where}: want either transform_matrix, or position and look_at")
    if "transform_matrix" in key:
        pose = _numbers(key["transform_matrix"], (4, 4), f"{where}: transform_matrix") @ OPENCV_FROM_OPENGL.double()
        rotation = pose[:3, :3]
        off = (rotation.T @ rotation - torch.eye(3, dtype=torch.float64)).abs().max()
        if off > RIGID_TOLERANCE or torch.linalg.det(rotation) < 0:
            raise UserError(f"{where}: transform_matrix is not a rotation and a translation (it scales, shears or mirrors)")
        return time, pose, torch.full((3,), math.nan, dtype=torch.float64), math.radians(fov)
    position = _numbers(key.get("position"), (3,), f"{where}: position")
    target = _numbers(key.get("look_at"), (3,), f"{where}: look_at")
    up = _numbers(key.get("up", [0.0, 1.0, 0.0]), (3,), f"{where}: up")
    rotation = _looking(target - position, up)
    if rotation is None:
        raise UserError(f"{where}: it looks straight along up, or at its own position; give another up, look_at or position")
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return time, pose, target, math.radians(fov)


@overload
def _looking(forward: Tensor, up: Tensor) -> Tensor | None: ...
@overload
def _looking(forward: Tensor, up: Tensor, otherwise: Tensor) -> Tensor: ...
def _looking(forward: Tensor, up: Tensor, otherwise: Tensor | None = None) -> Tensor | None:
    """OpenCV's axes in columns (3,3) of a camera that looks along a direction; `otherwise` if up is parallel to it."""
    right = torch.linalg.cross(forward, up)
    if not float(right.norm()) > 1e-6 * float(forward.norm() * up.norm()):
        return otherwise
    forward, right = forward / forward.norm(), right / right.norm()
    return torch.stack([right, torch.linalg.cross(forward, right), forward], 1)


def _numbers(value: Any, shape: tuple[int, ...], where: str) -> Tensor:
    try:
        numbers = torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        numbers = torch.full(shape, math.nan, dtype=torch.float32)
    if numbers.shape != shape or not bool(torch.isfinite(numbers).all()):
        wanted = "a number" if not shape else f"{' x '.join(map(str, shape))} numbers"
        raise UserError(f"{where}: want {wanted}, all finite")
    return numbers


def _interval(times: Tensor, seconds: float) -> tuple[int, float]:
    """The key before a moment and the fraction of the way to the next."""
    if len(times) == 1:
        return 0, 0.0
    left = int(torch.searchsorted(times, seconds, right=True).clamp(1, len(times) - 1)) - 1
    return left, float((seconds - times[left]) / (times[left + 1] - times[left]))


def _cubic(times: Tensor, values: Tensor, seconds: float) -> Tensor:
    """Values (K,C) at a moment, on the cubic whose slope at a key is that of the parabola through it and its neighbours."""
    if len(times) == 1:
        return values[0]
    left, u = _interval(times, seconds)
    step = times[left + 1] - times[left]
    a, b = values[left], values[left + 1]
    slope_a, slope_b = step * _slope(times, values, left), step * _slope(times, values, left + 1)
    return (1 + 2 * u) * (1 - u) ** 2 * a + u * (1 - u) ** 2 * slope_a + u * u * (3 - 2 * u) * b + u * u * (u - 1) * slope_b


def _slope(times: Tensor, values: Tensor, k: int) -> Tensor:
    if len(times) == 2:
        return (values[1] - values[0]) / (times[1] - times[0])
    middle = min(max(k, 1), len(times) - 2)
    before, after = times[middle] - times[middle - 1], times[middle + 1] - times[middle]
    first, second = (values[middle] - values[middle - 1]) / before, (values[middle + 1] - values[middle]) / after
    bend = (second - first) / (before + after)  # half of the parabola's second derivative
    return first + bend * (before + 2 * (times[k] - times[middle]))
