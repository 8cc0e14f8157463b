"""The fitted mesh and the landmarks over a picture, to see whether they fit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import camera_center, rasterize_depth
from taichi_avatars.scene.cameras import Camera

MESH = 0.45  # opacity
WHOLE = 256  # what 1 is in integers
AMBIENT = 0.3  # share of the light; the rest comes from the camera
MESH_COLOR, EYE_COLOR = (115, 173, 242), (242, 242, 230)
POINT_COLOR, LOST_COLOR = (60, 230, 60), (230, 60, 40)


class Overlay:
    """Draws one head model."""

    def __init__(self, head: FlameModel) -> None:
        hidden = head.region_mask("mouth_inside", "tongue", "eye_socket_left", "eye_socket_right")
        eye = head.region_mask("eye_left", "eye_right")
        self.faces = head.faces[~hidden[head.faces].any(1)]
        self.colors = torch.where(eye[self.faces].all(1)[:, None], torch.tensor(EYE_COLOR), torch.tensor(MESH_COLOR))

    def draw(
        self, picture: np.ndarray, vertices: Tensor, camera: Camera, landmarks: np.ndarray | None, used: bool
    ) -> np.ndarray:
        """(H,W,3) uint8.

        Args:
            picture: (H,W,3) uint8, as the camera saw it.
            vertices: (V,3) world.
            landmarks: (L,2) pixels of the picture; None where there are none.
            used: whether the fit is trusted: landmarks are green, else red.
        """
        first, second, third = vertices[self.faces.T]
        normals = torch.nn.functional.normalize(torch.linalg.cross(second - first, third - first), dim=1)
        light = (normals * torch.nn.functional.normalize(camera_center(camera) - first, dim=1)).sum(1)
        front = (light > 0).nonzero()[:, 0]  # those behind are hidden by these
        shade = MESH * (AMBIENT + (1 - AMBIENT) * light[front, None])
        added = np.concatenate([(self.colors[front] * shade).numpy(), np.zeros((1, 3))]).astype(np.uint8)  # the last: no mesh
        triangle = rasterize_depth(vertices, self.faces[front], camera)[1].numpy()
        kept = np.where(triangle < 0, WHOLE, round((1 - MESH) * WHOLE)).astype(np.uint16)[..., None]
        out = (picture * kept // WHOLE).astype(np.uint8) + added[triangle]
        if landmarks is not None:
            x, y = landmarks[:, 0].astype(int), landmarks[:, 1].astype(int)
            inside = (x >= 0) & (y >= 0) & (x < picture.shape[1]) & (y < picture.shape[0])
            out[y[inside], x[inside]] = POINT_COLOR if used else LOST_COLOR
        return out
