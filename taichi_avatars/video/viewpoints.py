"""Viewpoints of an avatar: in front of it at a distance that fits its size, and swinging around it."""

from __future__ import annotations

import math

import roma
import torch

from taichi_avatars.avatar.place import Place
from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.views import View

FOV_Y = math.radians(18.0)  # a portrait lens
MARGIN = 1.12  # margin around the head
NOD = 0.2  # height of the swing's figure of eight, as a fraction of its width


def frontal_camera(place: Place, width: int, height: int) -> Camera:
    """A camera in front of a head, level with it, at a distance where all of its motion fits into the image.

    Args:
        place: of the head over its motion, see `avatar.place.place`.
        width, height: pixels.
    """
    left, up, forward = place.rotation.double().T
    focal = 0.5 * height / math.tan(0.5 * FOV_Y)
    size_x, size_y, size_z = place.extent.tolist()
    distance = MARGIN * max(0.5 * size_y * focal / (0.5 * height), 0.5 * size_x * focal / (0.5 * width)) + 0.5 * size_z
    eye = place.center.double() + distance * forward
    pose = torch.eye(4, dtype=torch.float64)
    # Looking at the face, its left is the image's right.
    pose[:3, :3] = torch.stack([left, -up, -forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    return Camera.from_opencv(pose.float(), focal, focal, 0.5 * width, 0.5 * height, width, height)


def orbiting(camera: Camera, place: Place, phase: float, angle: float) -> Camera:
    """The camera swung around a head to both sides, nodding a little: a flat figure of eight.

    Args:
        phase: 0 to 1 for a whole swing; 0 is the camera itself.
        angle: how far it swings to each side, radians.
    """
    yaw = angle * math.sin(2 * math.pi * phase)
    return swung(camera, place, yaw, -NOD * angle * math.sin(4 * math.pi * phase))


def swung(camera: Camera, place: Place, yaw: float, pitch: float) -> Camera:
    """The camera rotated about a head, whose centre keeps its place in the image.

    Args:
        yaw: to the head's own left, radians; pitch: downwards.
    """
    rotation = place.rotation.double()
    turn = rotation @ roma.euler_to_rotmat("YX", [yaw, pitch], dtype=torch.float64) @ rotation.T
    center = place.center.double()
    back = torch.eye(4, dtype=torch.float64)  # the inverse rotation of the world, equivalent to the camera's swing
    back[:3, :3] = turn.T
    back[:3, 3] = center - turn.T @ center
    pose = camera.world_to_camera.detach().double() @ back
    return Camera.from_opencv(
        pose.float(), camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height, camera.near
    )


def captured_camera(views: list[View], camera_id: str) -> Camera:
    """The camera of a capture with this name or index.

    Raises:
        UserError: listing the existing ones.
    """
    for view in views:
        if camera_id in (view.camera_id, str(view.camera_index)):
            return view.camera
    held = ", ".join(sorted({view.camera_id for view in views}, key=lambda name: (len(name), name)))
    raise UserError(f"camera {camera_id} is not in the capture; it has: {held or 'none'}")


def facing(views: list[View], place: Place) -> str:
    """Name of the most frontal camera."""
    forward = place.rotation[:, 2]

    def straightness(view: View) -> float:
        to_camera = torch.nn.functional.normalize(view.camera.center - place.center, dim=0)
        return float(to_camera @ forward)

    return max({view.camera_id: view for view in views}.values(), key=straightness).camera_id
