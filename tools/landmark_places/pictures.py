"""Pictures of people with truth: what the network says where its landmarks are, and where every vertex is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from taichi_avatars import FlameModel
from taichi_avatars.faces.detector import find_faces
from taichi_avatars.faces.landmarks import find_landmarks
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.renderer import make_subject, photograph, pose

SIZE = 320  # pixels
FIELD = 0.42  # radians, of the picture's height; the camera stands about a metre away
SURE = 0.8  # least presence


@dataclass(frozen=True)
class Observations:
    """N pictures, V vertices.

    Attributes:
        landmarks: (N,478,2) pixels, the network's.
        size: (N,) of the face, pixels: the longer side of the landmarks' box.
        vertices: (N,V,2) pixels, the truth.
        facing: (N,V) cosine between a vertex's normal and the way to the camera.
    """

    landmarks: np.ndarray
    size: np.ndarray
    vertices: np.ndarray
    facing: np.ndarray


def random_expression(head: FlameModel, random: np.random.Generator) -> torch.Tensor:
    """A few of the units at once, as faces do."""
    expr = torch.zeros(head.n_expr)
    for name in random.choice(head.expression_names or [], 6, replace=False):
        strength = float(random.uniform(0, 0.8))
        other = name.replace("Left", "Right") if "Left" in name else name.replace("Right", "Left")
        for unit in {name, other} if random.random() < 0.8 else {name}:
            expr[head.expression_names.index(unit)] = strength
    expr[head.expression_names.index("tongueOut")] = 0
    return expr


def observe(head: FlameModel, seeds: range, pictures: int) -> Observations:
    """`pictures` of every person with one of the seeds: turned by up to 45 degrees, nodding, tilted, with expressions."""
    rows: list[tuple[np.ndarray, float, np.ndarray, np.ndarray]] = []
    for seed in seeds:
        random = np.random.default_rng([seed, 77])
        subject = make_subject(head, seed, 0.42 / SIZE, strand_count=2500)
        for _ in range(pictures):
            turn = torch.tensor(random.uniform((-0.4, -0.85, -0.25), (0.4, 0.85, 0.25))).float()
            gaze = torch.tensor(random.normal(0, (0.1, 0.2))).float()
            eyes = torch.tensor([gaze[0], gaze[1], 0, gaze[0], gaze[1], 0])
            vertices = head(subject.who.shape, random_expression(head, random), turn, eyes=eyes).vertices
            eye = torch.tensor([0.0, 0.0, random.uniform(0.5, 1.3)]).float()
            field = 2 * math.atan(math.tan(0.5 * FIELD) / float(eye[2]))
            camera = Camera.look_at(eye, torch.tensor([0.0, 0.0, 0.0]), field, SIZE, SIZE)
            wall = torch.tensor(random.uniform(0.1, 0.9, 3)).float()
            shot = photograph(subject, pose(subject, vertices), camera, 2)
            rgb = shot.rgb + (1 - shot.alpha) * wall[:, None, None]
            row = look(rgb.permute(1, 2, 0).clamp(0, 1).mul(255).byte().numpy(), head, vertices, camera)
            if row is not None:
                rows.append(row)
        print(f"person {seed}: {len(rows)} pictures", flush=True)
    landmarks, size, seen, facing = (np.stack([row[k] for row in rows]) for k in range(4))
    return Observations(landmarks, size, seen, facing)


def look(
    picture: np.ndarray, head: FlameModel, vertices: torch.Tensor, camera: Camera
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray] | None:
    faces = find_faces(picture, finest=0)
    if not faces:
        return None
    found = find_landmarks(picture, faces[0].region())
    found = find_landmarks(picture, found.surrounding())
    if found.presence < SURE:
        return None
    moved = vertices @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    seen = (moved[:, :2] / moved[:, 2:] * camera.fx + torch.tensor([camera.cx, camera.cy])).numpy()
    corners = vertices[head.faces]
    normals = torch.zeros_like(vertices)
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for k in range(3):
        normals.index_add_(0, head.faces[:, k], across)
    way = torch.nn.functional.normalize(camera.center - vertices, dim=1)
    facing = (torch.nn.functional.normalize(normals, dim=1) * way).sum(1).numpy()
    return found.points[:, :2], found.surrounding().size / 1.5, seen, facing
