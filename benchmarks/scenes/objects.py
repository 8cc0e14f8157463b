"""A small still life to photograph, all of our own making: a head, a ball, a ring and a box on a plate, a room around them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import MeshBuffers, camera_center, interpolate, rasterize_mesh, vertex_normals
from taichi_avatars.scene.cameras import Camera

SUPERSAMPLE = 3
LIGHT = torch.nn.functional.normalize(torch.tensor([0.5, 0.8, 0.4]), dim=0)
AMBIENT, SHININESS = 0.45, 40.0
HEAD_SIZE = 4.0  # times life size


@dataclass(frozen=True)
class Mesh:
    """vertices (V,3), y up; faces (F,3); colours (V,3) in [0,1] before light; gloss (V,) of the highlight."""

    vertices: Tensor
    faces: Tensor
    colours: Tensor
    gloss: Tensor


def still_life(room: bool) -> Mesh:
    """Within [-1.3,1.3]^3; the room is a ball of radius 6 around it."""
    head = FlameModel.builtin()
    zeros = torch.zeros(head.n_shape), torch.zeros(head.n_expr), *(torch.zeros(size) for size in (3, 3, 3, 6, 3))
    face = head(*zeros).vertices
    face = (face - 0.5 * (face.amin(0) + face.amax(0))) * HEAD_SIZE
    face = face + torch.tensor([-0.1, -0.5 - face[:, 1].min().item(), -0.25])
    parts = [
        (face, head.faces.long(), _noise(face, 3.0, 1) * 0.4 + torch.tensor([0.35, 0.25, 0.2]), 0.2),
        _part(_plate, 260, 2, 4.0, 0.0),
        _part(lambda u, v: _ball(u, v, 0.32) + torch.tensor([-0.7, -0.18, 0.5]), 200, 3, 6.0, 0.6),
        _part(lambda u, v: _ring(u, v) + torch.tensor([0.55, -0.36, 0.45]), 240, 4, 8.0, 0.3),
        *(_part(lambda u, v, k=k: _side(u, v, k) + torch.tensor([0.7, -0.2, -0.45]), 90, 5, 7.0, 0.0) for k in range(6)),
    ]
    if room:
        parts.append(_part(lambda u, v: _ball(u, v, 6.0), 300, 6, 0.8, 0.0))
    start, faces = 0, []
    for vertices, triangles, _, _ in parts:
        faces.append(triangles + start)
        start += len(vertices)
    gloss = [torch.full((len(vertices),), shine) for vertices, _, _, shine in parts]
    vertices, colours = (torch.cat([part[k] for part in parts]) for k in (0, 2))
    return Mesh(vertices, torch.cat(faces), colours, torch.cat(gloss))


def photograph(mesh: Mesh, camera: Camera) -> tuple[Tensor, Tensor, MeshBuffers]:
    """Colours (H,W,3) times alpha, alpha (H,W), and what every sample sees."""
    normals = vertex_normals(mesh.vertices, mesh.faces)
    away = torch.nn.functional.normalize(camera_center(camera) - mesh.vertices, dim=1)
    normals = normals * (normals * away).sum(1, keepdim=True).sign()
    half = torch.nn.functional.normalize(away + LIGHT, dim=1)
    light = AMBIENT + (1.0 - AMBIENT) * (normals @ LIGHT).clamp_min(0.0)
    shine = mesh.gloss * (normals * half).sum(1).clamp_min(0.0) ** SHININESS
    colours = (mesh.colours * light[:, None] + shine[:, None]).clamp(0.0, 1.0)
    buffers = rasterize_mesh(mesh.vertices, mesh.faces, camera, SUPERSAMPLE)
    samples = torch.cat([interpolate(buffers, mesh.faces, colours), (buffers.face >= 0)[..., None].float()], 2)
    samples[buffers.face < 0] = 0.0
    pixels = samples.unflatten(1, (-1, SUPERSAMPLE)).unflatten(0, (-1, SUPERSAMPLE)).mean((1, 3))
    return pixels[..., :3], pixels[..., 3], buffers


def _part(shape, count: int, seed: int, detail: float, gloss: float) -> tuple[Tensor, Tensor, Tensor, float]:
    """A grid of count x count quads bent into a shape, with a pattern on it."""
    u, v = torch.meshgrid(torch.linspace(0, 1, count + 1), torch.linspace(0, 1, count + 1), indexing="ij")
    vertices = shape(u.reshape(-1), v.reshape(-1))
    corner = (torch.arange(count)[:, None] * (count + 1) + torch.arange(count)).reshape(-1)
    faces = [corner, corner + 1, corner + count + 2, corner, corner + count + 2, corner + count + 1]
    checks = ((u * 12).floor() + (v * 12).floor()).reshape(-1, 1) % 2
    return vertices, torch.stack(faces, 1).view(-1, 3), 0.8 * _noise(vertices, detail, seed) + 0.2 * checks, gloss


def _noise(at: Tensor, detail: float, seed: int) -> Tensor:
    """(V,3) in [0,1]: waves in all directions, the finer the weaker, as in pictures of most things."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(at), 3)
    for octave in range(5):
        waves = torch.randn(3, 8, generator=generator) * detail * 2.0**octave
        phases = torch.rand(8, generator=generator) * 2 * math.pi
        mix = torch.randn(8, 3, generator=generator) / math.sqrt(8)
        total += torch.sin(at @ waves + phases) @ mix * 0.6**octave
    return torch.sigmoid(1.6 * total)


def _plate(u: Tensor, v: Tensor) -> Tensor:
    radius, angle = 1.2 * v.sqrt(), 2 * math.pi * u
    return torch.stack([radius * angle.cos(), torch.full_like(u, -0.5), radius * angle.sin()], 1)


def _ball(u: Tensor, v: Tensor, radius: float) -> Tensor:
    a, b = 2 * math.pi * u, math.pi * v
    return radius * torch.stack([a.cos() * b.sin(), b.cos(), a.sin() * b.sin()], 1)


def _ring(u: Tensor, v: Tensor) -> Tensor:
    a, b = 2 * math.pi * u, 2 * math.pi * v
    around = 0.32 + 0.13 * b.cos()
    return torch.stack([around * a.cos(), 0.13 * b.sin(), around * a.sin()], 1)


def _side(u: Tensor, v: Tensor, which: int) -> Tensor:
    """One side of a box, turned by 30 degrees."""
    flat = torch.stack([0.3 * (2 * u - 1), 0.3 * (2 * v - 1), torch.full_like(u, 0.3 if which % 2 else -0.3)], 1)
    flat = flat.roll(which // 2, 1)
    c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
    return flat @ torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
