"""The fitted mesh and the landmarks over a picture, to see whether they fit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import shade_mesh
from taichi_avatars.scene.cameras import Camera

MESH = 0.45  # opacity
MESH_COLOR, EYE_COLOR = (0.45, 0.68, 0.95), (0.95, 0.95, 0.9)
POINT_COLOR, LOST_COLOR = (60, 230, 60), (230, 60, 40)


class Overlay:
    """Draws one head model."""

    def __init__(self, head: FlameModel) -> None:
        self.head = head
        self.colors = torch.tensor(MESH_COLOR).repeat(head.num_vertices, 1)
        for side in ("left", "right"):
            self.colors[head.regions[f"eye_{side}"]] = torch.tensor(EYE_COLOR)
        inside = [head.regions[name] for name in ("mouth_inside", "tongue", "eye_socket_left", "eye_socket_right")]
        hidden = torch.zeros(head.num_vertices, dtype=torch.bool)
        hidden[torch.cat(inside)] = True
        self.faces = head.faces[~hidden[head.faces].any(1)]

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
        mesh, alpha = shade_mesh(vertices, self.faces, camera, vertex_colors=self.colors, supersample=1)
        out = picture.copy()
        rows, columns = alpha.any(1).nonzero()[:, 0].tolist(), alpha.any(0).nonzero()[:, 0].tolist()
        if rows:
            part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            weight = 1 - MESH * alpha[part].numpy()[..., None]
            out[part] = picture[part] * weight + (255 * MESH) * mesh[:, part[0], part[1]].permute(1, 2, 0).numpy()
        if landmarks is not None:
            x, y = landmarks[:, 0].astype(int), landmarks[:, 1].astype(int)
            inside = (x >= 0) & (y >= 0) & (x < picture.shape[1]) & (y < picture.shape[0])
            out[y[inside], x[inside]] = POINT_COLOR if used else LOST_COLOR
        return out
