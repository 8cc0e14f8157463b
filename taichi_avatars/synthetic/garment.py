"""Shoulders in a shirt, on which the built-in subject's head stands: a mesh of rings from the collar down to the chest.

The shirt moves rigidly with the root of the head, so the neck never leaves its collar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.frames import triangle_frames
from taichi_avatars.ops.mesh import vertex_normals
from taichi_avatars.ops.subject.noise import fractal_noise
from taichi_avatars.synthetic.appearance import Texels, blend, layout, smoothstep
from taichi_avatars.synthetic.identity import Color

COLUMNS = 72
MIDDLE_Z = -0.070  # metres: of the neck, around which the columns stand
# The collar's rings around the open end of the neck: outwards and upwards from it, metres.
COLLAR = ((-0.0060, 0.004), (0.0005, 0.014), (0.0040, 0.0165), (0.0070, 0.014), (0.0085, 0.004), (0.0075, -0.0035))
# The body below: how far along, then half width, height at the sides, z in front, height in front, z behind, height behind.
BODY = np.array(
    [
        [0.00, 0.064, -0.100, -0.010, -0.133, -0.133, -0.083],
        [0.12, 0.098, -0.112, 0.004, -0.146, -0.147, -0.098],
        [0.30, 0.150, -0.132, 0.018, -0.170, -0.162, -0.128],
        [0.45, 0.190, -0.158, 0.030, -0.200, -0.172, -0.160],
        [0.58, 0.214, -0.205, 0.040, -0.245, -0.180, -0.205],
        [0.75, 0.226, -0.300, 0.050, -0.320, -0.184, -0.300],
        [1.00, 0.232, -0.520, 0.056, -0.520, -0.186, -0.520],
    ]
)
RINGS = 26
SHIRTS: tuple[Color, ...] = (
    (0.06, 0.10, 0.22),
    (0.33, 0.33, 0.34),
    (0.09, 0.16, 0.12),
    (0.36, 0.09, 0.08),
    (0.045, 0.045, 0.05),
)


@dataclass(frozen=True)
class Garment:
    """Attributes:
    vertices: (B,3) around the resting head, metres.
    faces: (G,3) int64, of these vertices.
    pivot: (3,) the head's root joint, around which both turn.
    """

    vertices: Tensor
    faces: Tensor
    pivot: Tensor

    def moved(self, rotation: Tensor, translation: Tensor) -> Tensor:
        """The vertices (B,3) after the head's own `rotation` (axis-angle) and `translation`."""
        x, y, z = rotation.double().tolist()
        turn = torch.linalg.matrix_exp(torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)).float()
        return (self.vertices - self.pivot) @ turn.T + self.pivot + translation


def make_garment(head: FlameModel, resting: Tensor, pivot: Tensor) -> Garment:
    """A shirt for the resting head `resting` (V,3) that turns around `pivot` (3,)."""
    end = neck_end(head, resting)
    angle = np.linspace(-math.pi, math.pi, COLUMNS, endpoint=False)
    at = np.arctan2(end[:, 0], end[:, 2] - MIDDLE_Z)
    order = np.argsort(at)
    loop = np.stack([np.interp(angle, at[order], end[order, k], period=2 * math.pi) for k in range(3)], 1)
    side, front = np.sin(angle), np.cos(angle)
    outward = np.stack([side, 0 * side, front], 1)
    rings = [loop + out * outward + np.array([0.0, up, 0.0]) for out, up in COLLAR]
    for share in np.linspace(0, 1, RINGS) ** 1.3:
        width, side_y, front_z, front_y, back_z, back_y = (np.interp(share, BODY[:, 0], BODY[:, k]) for k in range(1, 7))
        squareness = 1.0 - 0.28 * smooth(share, 0.0, 0.5)
        depth = np.where(front > 0, front_z, back_z) - MIDDLE_Z
        ring = np.stack(
            [
                width * np.sign(side) * np.abs(side) ** squareness,
                side_y + (np.where(front > 0, front_y, back_y) - side_y) * front**2,
                MIDDLE_Z + np.abs(depth) * np.sign(front) * np.abs(front) ** squareness,
            ],
            1,
        )
        near = 1.0 - smooth(share, 0.0, 0.25)  # the first rings follow this neck, whoever's it is
        rings.append(ring + near * (rings[len(COLLAR) - 1] - collar_of_body(angle)))
    vertices = torch.from_numpy(np.concatenate(rings)).float()
    return Garment(vertices, ring_faces(len(rings)), pivot)


def smooth(value: float, low: float, high: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def collar_of_body(angle: np.ndarray) -> np.ndarray:
    """The body's first ring (COLUMNS,3) as `BODY` has it, for any neck."""
    side, front = np.sin(angle), np.cos(angle)
    _, width, side_y, front_z, front_y, back_z, back_y = BODY[0]
    depth = np.where(front > 0, front_z, back_z) - MIDDLE_Z
    height = side_y + (np.where(front > 0, front_y, back_y) - side_y) * front**2
    return np.stack([width * side, height, MIDDLE_Z + np.abs(depth) * front], 1)


def neck_end(head: FlameModel, vertices: Tensor) -> np.ndarray:
    """Vertices (N,3) on the open border of the neck."""
    sides = torch.cat([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]]).sort(1).values
    edges, count = torch.unique(sides, dim=0, return_counts=True)
    open_edges = edges[count == 1]
    of_neck = torch.isin(open_edges, head.regions["neck"]).all(1)
    return vertices[open_edges[of_neck].unique()].numpy().astype(np.float64)


def ring_faces(count: int) -> Tensor:
    """Two triangles between each two neighbours of a ring and the next ring's, seen from outside against the clock."""
    ring, column = np.meshgrid(np.arange(count - 1), np.arange(COLUMNS), indexing="ij")
    a, b = ring * COLUMNS + column, ring * COLUMNS + (column + 1) % COLUMNS
    below_a, below_b = a + COLUMNS, b + COLUMNS
    quads = np.stack([np.stack([a, below_a, below_b], -1), np.stack([a, below_b, b], -1)], 2)
    return torch.from_numpy(quads.reshape(-1, 3))


def dye(garment: Garment, seed: int, pixel: float) -> Texels:
    """Cloth for pictures whose pixels cover about `pixel` metres: knitted, in folds, plain or striped."""
    random = np.random.default_rng([seed, 60])
    color = torch.tensor(SHIRTS[seed % len(SHIRTS)])
    stripe = torch.tensor(SHIRTS[(seed + 1) % len(SHIRTS)]) if seed % 2 else None
    period, finest = float(random.uniform(0.018, 0.03)), 2.0 * pixel
    longest = (garment.vertices[garment.faces] - garment.vertices[garment.faces].roll(1, 1)).norm(dim=2).amax(1)
    start, divisions, face, barycentric = layout(longest, pixel)
    corners = garment.faces[face]
    normals = vertex_normals(garment.vertices, garment.faces)
    p = (barycentric[..., None] * garment.vertices[corners]).sum(1)
    n = torch.nn.functional.normalize((barycentric[..., None] * normals[corners]).sum(1), dim=1)
    knit, knit_slope = fractal_noise(p * torch.tensor([1.0, 0.6, 1.0]), finest, 1000 * seed + 301, 2)
    broad, _ = fractal_noise(p, 0.06, 1000 * seed + 311, 3)
    _, folds = fractal_noise(p * torch.tensor([1.0, 0.5, 1.0]), 0.055, 1000 * seed + 321, 3, 0.55)
    albedo = color.expand(len(p), 3)
    below = smoothstep(-0.14, -0.16, p[:, 1])
    if stripe is not None:
        wave = torch.sin(2 * math.pi * p[:, 1] / period)
        albedo = blend(albedo, stripe.expand(len(p), 3), below * smoothstep(0.45, 0.55 + 4 * pixel / period, wave))
    ring = corners.amin(1) // COLUMNS
    albedo = albedo * torch.where(ring < len(COLLAR) - 1, 0.8, 1.0)[:, None]
    albedo = albedo * torch.exp(0.10 * knit + 0.08 * broad)[:, None]
    # A fold leans the surface by a tenth or so; the noise's gradient counts per metre.
    slope = 0.0016 * folds * below[:, None] + 0.00022 * knit_slope * (finest / 0.0016)
    slope = slope - n * (slope * n).sum(1, keepdim=True)
    rotation = triangle_frames(garment.vertices, garment.faces).rotation
    rest = torch.tensor([0.18, 0.75]).expand(len(p), 2)
    local = (rotation[face] * slope[:, :, None]).sum(1)
    values = torch.cat([albedo.clamp(0, 1), rest, local, torch.full((len(p), 1), 0.25)], 1)
    return Texels(start, divisions, values.contiguous())
