"""Pictures of the built-in subject: pose head and hair, find what light reaches where, shade every sample of a camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel, HeadMesh
from taichi_avatars.kernels.subject import shading
from taichi_avatars.ops.frames import triangle_frames
from taichi_avatars.ops.mesh import rasterize_depth, vertex_normals
from taichi_avatars.ops.subject.strands import draw_strands, light_strands, pose_strands
from taichi_avatars.ops.subject.visibility import Query, disc_directions, sphere_directions, visible_share
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.appearance import Texels, bake
from taichi_avatars.synthetic.defaults import SUPERSAMPLE
from taichi_avatars.synthetic.garment import Garment, dye, make_garment
from taichi_avatars.synthetic.hair import LONGEST, Strands, grow
from taichi_avatars.synthetic.identity import Identity, identity

# Direction towards the light and its colour: a large soft key from the upper left, a weak cool fill, a rim from behind.
KEY = torch.nn.functional.normalize(torch.tensor([0.55, 0.6, 0.75]), dim=0)
LIGHTS = torch.stack(
    [
        torch.cat([KEY, torch.tensor([1.05, 0.97, 0.87])]),
        torch.cat([torch.nn.functional.normalize(torch.tensor([-0.85, 0.15, 0.6]), dim=0), torch.tensor([0.20, 0.22, 0.25])]),
        torch.cat([torch.nn.functional.normalize(torch.tensor([-0.5, 0.5, -0.8]), dim=0), torch.tensor([0.30, 0.31, 0.34])]),
    ]
)
SKY = torch.tensor([[0.31, 0.33, 0.36], [0.17, 0.155, 0.145]])
KEY_RADIUS = 0.22  # radians
HAIR_GLOSS = 0.8
# Where a pixel's surface is shaded twice only: it spans less than so many pixels' depth, and display values less than this.
STEEP, ALIKE = 4.0, 0.03
# Metres: where the skin is asked what it sees, and how its shadows begin and fade; see `ops/subject/visibility.py`.
LIFT, SKIN_SHADOW = 0.002, (0.0012, 0.003)
# Wet walls pass light on, and the vertices of teeth lie where the lips hide them.
MOUTH_GLOW = {"mouth_inside": 0.12, "tongue": 0.16, "teeth_upper": 0.4, "teeth_lower": 0.35}


@dataclass(frozen=True)
class Subject:
    """A person on a head.

    Attributes:
        faces: (F,3) of the head, then those of the garment; vertices are counted in the same order.
        garment: None: the head alone.
        hidden: (V,) what the hair leaves to the skin of the light from around.
        strand_ambient: (S,K) what strand points receive of it.
    """

    head: FlameModel
    who: Identity
    faces: Tensor
    garment: Garment | None
    texels: Texels
    strands: Strands
    hidden: Tensor
    strand_ambient: Tensor


@dataclass(frozen=True)
class Posed:
    """The subject at one moment, lit; pictures from any camera can be taken of it.

    Attributes:
        vertices: (V,3) world, metres.
        record: (V,8) position, normal, received key light, received light from around.
        rotation: (F,3,3) triangle frames.
        points: (S,K,3) strands in the world.
        received: (S,K,2) what strand points receive of the key light and from around.
    """

    vertices: Tensor
    record: Tensor
    rotation: Tensor
    points: Tensor
    received: Tensor


@dataclass(frozen=True)
class Photo:
    """Display values premultiplied by alpha, (3,H,W), and shares of the pixel, (H,W).

    Attributes:
        rgb, alpha: of everything.
        head_rgb, head_alpha: of the head with its hair; the same where there is no garment.
        hair: the scalp hair's share.
    """

    rgb: Tensor
    alpha: Tensor
    head_rgb: Tensor
    head_alpha: Tensor
    hair: Tensor

    def over(self, background: tuple[float, float, float]) -> Tensor:
        """Composited, (3,H,W)."""
        return self.rgb + (1 - self.alpha) * torch.tensor(background)[:, None, None]


def make_subject(
    head: FlameModel,
    seed: int,
    pixel: float,
    strand_count: int = 14000,
    dressed: bool = False,
    who: Identity | None = None,
) -> Subject:
    """The person with this seed on this head.

    Args:
        head: a head with the built-in one's regions.
        pixel: size of a pixel at the head in the pictures to come, metres; finer detail is left out.
        dressed: on shoulders in a shirt.
        who: the same person with this head's own identity coefficients, where it is not the built-in one.
    """
    who = who or identity(head, seed)
    vertices = resting_vertices(head, who)
    strands = grow(head, who, vertices, strand_count)
    frames = triangle_frames(vertices, head.faces)
    points = pose_strands(strands.local, strands.root, frames)
    normals = vertex_normals(vertices, head.faces)
    skin = Query(vertices + LIFT * normals, normals, *SKIN_SHADOW)
    fibres = Query(points.reshape(-1, 3), None, 0.002, 0.006)
    around = sphere_directions(40)
    bare = visible_share([skin], around, vertices, head.faces, size=144)[0]
    covered, ambient = visible_share([skin, fibres], around, vertices, head.faces, occluding(strands, points), size=144)
    hidden = (covered / bare.clamp(min=0.02)).clamp(max=1.0)
    faces, texels, garment = head.faces, bake(head, who, pixel), None
    if dressed:
        garment = make_garment(head, vertices, resting_mesh(head, who).joints[0])
        faces = torch.cat([faces, garment.faces + head.num_vertices])
        texels = texels.with_more(dye(garment, seed, pixel))
        hidden = torch.cat([hidden, torch.ones(len(garment.vertices))])
    strand_ambient = (2 * ambient).clamp(max=1.0).view(points.shape[:2])
    return Subject(head, who, faces, garment, texels, strands, hidden, strand_ambient)


def resting_mesh(head: FlameModel, who: Identity) -> HeadMesh:
    return head(who.shape)


def resting_vertices(head: FlameModel, who: Identity) -> Tensor:
    return resting_mesh(head, who).vertices


def occluding(strands: Strands, points: Tensor) -> tuple[Tensor, Tensor]:
    """Every third strand of the scalp, three times as wide: as dark a shadow for a third of the time."""
    return points[: strands.scalp : 3].contiguous(), 3 * strands.radius[: strands.scalp : 3].contiguous()


def between(values: Tensor) -> Tensor:
    """Values at every point of strands (S, 2n-1) from values at every other one (S, n)."""
    out = torch.empty(len(values), 2 * values.shape[1] - 1)
    out[:, ::2], out[:, 1::2] = values, 0.5 * (values[:, 1:] + values[:, :-1])
    return out


def pose(subject: Subject, vertices: Tensor) -> Posed:
    """Moves hair with the head and finds the light that arrives everywhere; `vertices` (V,3) of head, then garment."""
    head, faces, strands = subject.head, subject.faces, subject.strands
    vertices = vertices.detach().contiguous()
    of_head = vertices[: head.num_vertices]
    frames = triangle_frames(vertices, faces)
    points = pose_strands(strands.local, strands.root, frames)
    normals = vertex_normals(vertices, faces)
    lifted = vertices + LIFT * normals
    queries = [Query(lifted, None, *SKIN_SHADOW), Query(points[:, ::2].reshape(-1, 3), None, 0.0015, 0.004)]
    disc = disc_directions(KEY, KEY_RADIUS, 7)
    key, strand_key = visible_share(queries, disc, vertices, faces, occluding(strands, points), size=224, within=of_head)
    skin = Query(lifted, normals, *SKIN_SHADOW)
    around = visible_share([skin], sphere_directions(32), vertices, faces, size=144, within=of_head)[0]
    ambient = around * subject.hidden
    for name, glow in MOUTH_GLOW.items():
        if name not in head.regions:
            continue
        ambient[head.regions[name]] = glow + (1 - glow) * ambient[head.regions[name]]
    record = torch.cat([vertices, normals, key[:, None], ambient[:, None]], 1).contiguous()
    received = torch.stack([between(strand_key.view(len(points), -1)), subject.strand_ambient], 2).contiguous()
    return Posed(vertices, record, frames.rotation.contiguous(), points, received)


def photograph(subject: Subject, posed: Posed, camera: Camera, supersample: int = SUPERSAMPLE) -> Photo:
    """The subject from a camera, antialiased."""
    left, top, right, bottom = outline(posed.vertices, camera)
    # By numpy, which gets the zeros from the system: torch would start a team of threads to write them.
    rgb, cover = (torch.from_numpy(np.zeros((n, camera.height, camera.width), np.float32)) for n in (6, 3))
    if left < right and top < bottom:
        part = replace(camera, cx=camera.cx - left, cy=camera.cy - top, width=right - left, height=bottom - top)
        photograph_part(subject, posed, part, supersample, (left, top), rgb, cover)
    return Photo(rgb[:3], cover[0], rgb[3:], cover[1], cover[2])


def outline(vertices: Tensor, camera: Camera) -> tuple[int, int, int, int]:
    """The part of a picture that the subject and its hair fill: first column and row, and the ones behind the last."""
    world_to_camera = camera.world_to_camera.numpy()
    view = vertices.numpy() @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    nearest = float(view[:, 2].min())
    if nearest <= camera.near:
        return 0, 0, camera.width, camera.height
    margin = LONGEST * max(camera.fx, camera.fy) / nearest + 1
    x, y = camera.fx * view[:, 0] / view[:, 2] + camera.cx, camera.fy * view[:, 1] / view[:, 2] + camera.cy
    left, top = max(0, math.floor(x.min() - margin)), max(0, math.floor(y.min() - margin))
    return left, top, min(camera.width, math.ceil(x.max() + margin)), min(camera.height, math.ceil(y.max() + margin))


def photograph_part(
    subject: Subject,
    posed: Posed,
    camera: Camera,
    supersample: int,
    corner: tuple[int, int],
    rgb: Tensor,
    cover: Tensor,
) -> None:
    """Writes what `camera` sees into a larger picture, from column and row `corner` on; see `shade_samples`."""
    strands, texels = subject.strands, subject.texels
    projection, face, nearest = rasterize_depth(posed.vertices, subject.faces, camera, supersample)
    drawn = draw_strands(posed.points, strands.radius, camera, supersample, nearest, strands.scalp)
    eye = camera.center.detach().float().contiguous()
    shown = light_strands(posed.points, strands.color, posed.received, HAIR_GLOSS, eye, LIGHTS, SKY, drawn.rows)
    surface = posed.record, posed.rotation, texels.start, texels.divisions, texels.values
    fibres = drawn.strand, drawn.along, drawn.screen.flatten(0, 1), shown.flatten(0, 1), strands.scalp * shown.shape[1]
    light, detail = (eye, LIGHTS, SKY), (supersample, STEEP / camera.fx, ALIKE)
    own = subject.head.num_faces
    shading.shade_samples(*projection, face, nearest, *surface, *fibres, own, *light, *detail, *corner, rgb, cover)
