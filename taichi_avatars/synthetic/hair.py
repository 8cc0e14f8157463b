"""Hair of the built-in subject: thin strands on the scalp, brows and lashes. They are not part of the head model.

A strand is a chain of points in the frame of its root triangle, so it moves rigidly with the skin that it grows from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.frames import triangle_frames
from taichi_avatars.ops.mesh import vertex_normals
from taichi_avatars.ops.subject.noise import fractal_noise
from taichi_avatars.synthetic.appearance import eye_axes, indicator, smoothed, smoothstep
from taichi_avatars.synthetic.identity import Identity

LINKS = 7  # odd: light is found at every other point
LONGEST = 0.03  # metres
normalize = torch.nn.functional.normalize


@dataclass(frozen=True)
class Strands:
    """Attributes:
    root: (S,) int32 triangle.
    local: (S,K,3) points in the root triangle's frame, metres, the root first.
    radius: (S,K) metres.
    color: (S,3) linear albedo.
    scalp: the first `scalp` strands are the hair of the head; brows and lashes follow.
    """

    root: Tensor
    local: Tensor
    radius: Tensor
    color: Tensor
    scalp: int


def grow(head: FlameModel, who: Identity, vertices: Tensor, count: int = 18000) -> Strands:
    """All strands of the person, grown on the resting head `vertices` (V,3)."""
    random = np.random.default_rng([who.seed, 30])
    normals = vertex_normals(vertices, head.faces)
    parts = [
        scalp_hair(head, who, vertices, normals, count, random),
        brows(head, who, vertices, normals, random),
        lashes(head, who, vertices, normals, random),
    ]
    points, root, radius, color = (torch.cat(field) for field in zip(*parts, strict=True))
    frames = triangle_frames(vertices, head.faces)
    rotation, center = frames.rotation[root], frames.center[root]
    local = ((points - center[:, None])[..., None, :] @ rotation[:, None])[..., 0, :]
    return Strands(
        root.int(), local.float().contiguous(), radius.float().contiguous(), color.float().contiguous(), len(parts[0][0])
    )


def scatter_roots(
    density: Tensor, vertices: Tensor, faces: Tensor, count: int, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """`count` random places on the mesh, as triangles (N,) and barycentrics (N,3); density (V,) per area."""
    corners = vertices[faces]
    area = 0.5 * torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    weight = (area * density[faces].mean(1)).double().cumsum(0)
    chosen = torch.searchsorted(weight, torch.from_numpy(random.random(count)) * weight[-1]).clamp(max=len(faces) - 1)
    u = torch.from_numpy(np.sort(random.random((count, 2)), axis=1)).float()
    return chosen, torch.stack([u[:, 0], u[:, 1] - u[:, 0], 1 - u[:, 1]], 1)


def at_roots(values: Tensor, faces: Tensor, root: Tensor, barycentric: Tensor) -> Tensor:
    return (barycentric[..., None] * values[faces[root]]).sum(1)


def nearest_skin(points: Tensor, skin: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Height over the skin (P,) and its normal (P,3), from the skin vertices around every point."""
    distance, index = torch.cdist(points, skin).topk(3, dim=1, largest=False)
    weight = 1 / (distance + 1e-4)
    weight = weight / weight.sum(1, keepdim=True)
    normal = normalize((weight[..., None] * normals[index]).sum(1), dim=1)
    foot = (weight[..., None] * skin[index]).sum(1)
    return ((points - foot) * normal).sum(1), normal


Part = tuple[Tensor, Tensor, Tensor, Tensor]


def scalp_hair(
    head: FlameModel, who: Identity, vertices: Tensor, normals: Tensor, count: int, random: np.random.Generator
) -> Part:
    """Short hair: from a whorl at the back forwards, parted in front, shorter at the sides and the nape, in clumps."""
    scalp = smoothed(indicator(head, "scalp")[:, None], head.faces, 4)[:, 0]
    ragged, _ = fractal_noise(vertices, 0.02, 1000 * who.seed + 201, 2)
    density = smoothstep(0.3, 0.6, scalp + 0.08 * ragged)
    root, barycentric = scatter_roots(density, vertices, head.faces, count, random)
    p = at_roots(vertices, head.faces, root, barycentric)
    n = normalize(at_roots(normals, head.faces, root, barycentric), dim=1)

    ids = torch.nonzero(density > 0.05)[:, 0]
    low, high = vertices[ids].amin(0), vertices[ids].amax(0)
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    height = ((p[:, 1] - low[1]) / (high[1] - low[1])).clamp(0, 1)
    whorl = torch.stack([middle[0] - 0.1 * half[0], high[1], middle[2] - 0.5 * half[2]])
    top = smoothstep(0.45, 0.85, height)
    edge = smoothstep(0.35, 0.95, at_roots(density[:, None], head.faces, root, barycentric)[:, 0])
    length = who.hair_length * (0.30 + 0.70 * top) * (0.3 + 0.7 * edge)
    length = length * torch.from_numpy(random.uniform(0.75, 1.0, count)).float()

    away = normalize(p - whorl, dim=1)
    sweep = torch.tensor([math.copysign(1.0, who.parting), 0.0, 0.35]).expand_as(p)
    beyond = (p[:, 0] - middle[0]) * math.copysign(1, who.parting) - abs(who.parting) * half[0]
    parted = torch.tanh(beyond / 0.012)
    front = smoothstep(-0.1, 0.7, (p[:, 2] - middle[2]) / half[2]) * top
    turbulence = torch.stack([fractal_noise(p, 0.035, 1000 * who.seed + 211 + k, 2)[0] for k in range(3)], 1)
    flow = away * torch.tensor([1.0, 1.0, 1.1]) + (0.9 * front * parted)[:, None] * sweep + 0.45 * turbulence
    flow = flow - (1 - top)[:, None] * torch.tensor([0.0, 0.8, 0.25])
    target = (0.0022 + 0.0058 * top * edge) * torch.from_numpy(random.uniform(0.35, 1.25, count)).float()

    points = [p]
    step = length / (LINKS - 1)
    for k in range(1, LINKS):
        over, skin_normal = nearest_skin(points[-1], vertices[ids], normals[ids])
        along = normalize(flow - skin_normal * (flow * skin_normal).sum(1, keepdim=True), dim=1)
        rise = ((target * math.sin(0.5 * math.pi * min(1.0, 1.6 * k / (LINKS - 1))) - over) / step).clamp(-0.7, 0.9)
        points.append(points[-1] + step[:, None] * normalize(along + rise[:, None] * skin_normal, dim=1))
    points = no_longer_than(LONGEST, clump(torch.stack(points, 1), n, random))
    shade = torch.from_numpy(np.exp(random.normal(0, 0.22, count))).float()
    streak, _ = fractal_noise(p, 0.012, 1000 * who.seed + 221, 2)
    color = torch.tensor(who.hair) * (shade * torch.exp(0.25 * streak))[:, None]
    taper = torch.linspace(1, 0, LINKS).clamp(min=0.12) ** 0.4
    radius = 0.00015 * taper * torch.from_numpy(random.uniform(0.8, 1.2, (count, 1))).float()
    return points, root, radius, color


def no_longer_than(limit: float, points: Tensor) -> Tensor:
    length = (points[:, 1:] - points[:, :-1]).norm(dim=2).sum(1)
    return points[:, :1] + (limit / length).clamp(max=1)[:, None, None] * (points - points[:, :1])


def clump(points: Tensor, normals: Tensor, random: np.random.Generator) -> Tensor:
    """Strands draw together towards their tips, each to the nearest of some leading strands."""
    leaders = torch.from_numpy(random.choice(len(points), max(1, len(points) // 16), replace=False))
    nearest = torch.cdist(points[:, 0], points[leaders, 0]).argmin(1)
    follow = points[leaders][nearest]
    t = torch.linspace(0, 1, points.shape[1])[None, :, None]
    pull = torch.from_numpy(random.uniform(0.15, 0.75, (len(points), 1, 1))).float() * t**1.5
    loose = 0.0012 * t * torch.from_numpy(random.normal(0, 1, (len(points), 1, 3))).float()
    return (
        points
        + pull * (follow - points)
        + loose * (1 - 0.8 * (normals[:, None] * loose).sum(-1, keepdim=True).sign().clamp(max=0).abs())
    )


def brow_arch(head: FlameModel, vertices: Tensor) -> Callable[[Tensor], Tensor]:
    """How dense the brows are at points (P,3): a band along a parabola through the brow region, thinner outwards."""
    left, right = eye_axes(head)
    half, middle = 0.5 * float((left - right).norm()), 0.5 * float(left[0] + right[0])
    region = vertices[head.regions["brows"]]
    x = (region[:, 0] - middle).abs() / half
    fit = (
        torch.linalg.lstsq(torch.stack([torch.ones_like(x), x, x * x], 1).double(), region[:, 1:2].double())
        .solution[:, 0]
        .float()
    )

    def density(points: Tensor) -> Tensor:
        at = (points[:, 0] - middle).abs() / half
        off = points[:, 1] - (fit[0] + fit[1] * at + fit[2] * at * at) - 0.0022 * (at - 0.9)  # the region hangs at its ends
        width = 0.0036 - 0.0022 * smoothstep(1.0, 1.75, at)
        return torch.exp(-((off / width) ** 2)) * smoothstep(0.38, 0.62, at) * smoothstep(1.85, 1.6, at)

    return density


def brows(head: FlameModel, who: Identity, vertices: Tensor, normals: Tensor, random: np.random.Generator) -> Part:
    """Fine strands that lie nearly flat, up at the nose and outwards from there."""
    region = smoothed(indicator(head, "brows")[:, None], head.faces, 3)[:, 0]
    root, barycentric = scatter_roots((region > 0.02).float(), vertices, head.faces, 12000, random)
    place = at_roots(vertices, head.faces, root, barycentric)
    arch = brow_arch(head, vertices)
    kept = torch.nonzero(torch.from_numpy(random.random(len(place))) < arch(place))[:700, 0]
    root, barycentric, count = root[kept], barycentric[kept], len(kept)
    p = at_roots(vertices, head.faces, root, barycentric)
    n = normalize(at_roots(normals, head.faces, root, barycentric), dim=1)
    left, right = eye_axes(head)
    half = 0.5 * float((left - right).norm())
    outward = (p[:, 0] - 0.5 * float(left[0] + right[0])) / half
    side, far = outward.sign(), outward.abs()
    rising = 0.9 * smoothstep(0.9, 0.3, far) - 0.35 * smoothstep(0.9, 1.6, far)
    spread = torch.from_numpy(random.normal(0, 0.16, (count, 3))).float()
    flow = torch.stack([side, rising, torch.zeros_like(side)], 1) + spread
    flow = normalize(flow - n * (flow * n).sum(1, keepdim=True), dim=1)
    length = 0.0075 * torch.from_numpy(random.uniform(0.6, 1.1, count)).float()
    t = torch.linspace(0, 1, LINKS)[None, :, None]
    lift = 0.0009 * (2 * t - t * t)
    points = p[:, None] + t * length[:, None, None] * flow[:, None] + lift * n[:, None]
    points = points - 0.0022 * t**2 * torch.tensor([0.0, 1.0, 0.0]) * (length / 0.0075)[:, None, None]
    color = torch.tensor(who.hair) * torch.from_numpy(np.exp(random.normal(-0.5, 0.2, (count, 1)))).float()
    radius = 0.00012 * torch.linspace(1, 0.3, LINKS).expand(count, -1)
    return points, root, radius, color


def lid_margins(head: FlameModel, vertices: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices of the upper and the lower lid's margin, sorted across the eye: where the lid's skin turns in to the ball."""
    ids = head.regions["eyelids"]
    offset = vertices[ids] - center
    near = offset.norm(dim=1) < 0.024
    ids, offset = ids[near], offset[near]
    bins = 12
    across = offset[:, 0]
    low, high = float(across.min()), float(across.max())
    rows: dict[bool, list[Tensor]] = {True: [], False: []}
    for k in range(bins):
        inside = (across >= low + (high - low) * (k + 0.5) / (bins + 1)) & (
            across < low + (high - low) * (k + 1.5) / (bins + 1)
        )
        for upper in (True, False):
            of_lid = torch.nonzero(inside & ((offset[:, 1] > 0) == upper))[:, 0]
            if len(of_lid):
                # Of the lid's vertices in this column the margin is the one that closes the opening furthest while in front.
                score = offset[of_lid, 1].abs() - 1.0 * offset[of_lid, 2]
                rows[upper].append(ids[of_lid[score.argmin()]])
    return torch.stack(rows[True]), torch.stack(rows[False])


def lashes(head: FlameModel, who: Identity, vertices: Tensor, normals: Tensor, random: np.random.Generator) -> Part:
    """Short strands along both margins, curved away from the ball."""
    # The last triangle of a vertex; by assignment, threads would race for which one comes last.
    of_corners = torch.arange(head.num_faces).repeat_interleave(3)
    vertex_face = torch.zeros(head.num_vertices, dtype=torch.long).scatter_reduce(0, head.faces.reshape(-1), of_corners, "amax")
    parts: list[tuple[Tensor, Tensor]] = []
    for region in ("eye_left", "eye_right"):
        center = vertices[head.regions[region]].mean(0)
        for margin, up, count, length in zip(
            lid_margins(head, vertices, center), (1.0, -1.0), (60, 26), (0.0068, 0.003), strict=True
        ):
            at = torch.from_numpy(np.sort(random.uniform(0, len(margin) - 1.001, count)))
            k, f = at.long(), (at - at.floor()).float()[:, None]
            p = (1 - f) * vertices[margin[k]] + f * vertices[margin[k + 1]]
            away = normalize(p - center, dim=1)
            sideways = torch.tensor([1.0, 0, 0]) * (0.5 * away[:, :1])
            forward = normalize(torch.tensor([0.0, -0.15 * up, 1.0]) + sideways, dim=1)
            jitter = torch.from_numpy(random.normal(0, 0.12, (count, 3))).float()
            size = length * torch.from_numpy(random.uniform(0.65, 1.0, (count, 1, 1))).float()
            t = torch.linspace(0, 1, LINKS)[None, :, None]
            curve = t * (forward + jitter)[:, None] + 0.5 * up * t**2 * torch.tensor([0.0, 1.0, 0.0])
            parts.append((p[:, None] + size * curve, vertex_face[margin[k]]))
    points, root = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    radius = 0.00007 * torch.linspace(1, 0.2, LINKS).expand(len(points), -1)
    return points, root, radius, (0.3 * torch.tensor(who.hair)).expand(len(points), 3)


def wrapping_offset(head: FlameModel, strands: Strands, points: Tensor, vertices: Tensor) -> Tensor:
    """The static offset (V,3) with which a tracker would explain the hair: the surface raised to the hair's, smoothly."""
    normals = vertex_normals(vertices, head.faces)
    hair = points[: strands.scalp, 2:].reshape(-1, 3)[::3]
    scalp = smoothstep(0.2, 0.8, smoothed(indicator(head, "scalp")[:, None], head.faces, 2)[:, 0])
    ids = torch.nonzero(scalp > 0)[:, 0]
    height, _ = nearest_skin(hair, vertices[ids], normals[ids])
    nearest = torch.cdist(hair, vertices[ids]).argmin(1)
    total = torch.zeros(len(ids), 2).index_add_(0, nearest, torch.stack([height.clamp(min=0), torch.ones_like(height)], 1))
    raised = torch.zeros(head.num_vertices, 1)
    raised[ids, 0] = 1.1 * total[:, 0] / total[:, 1].clamp(min=1)
    return smoothed(raised, head.faces, 6) * normals
