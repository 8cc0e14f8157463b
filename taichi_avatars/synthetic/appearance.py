"""The surface of the built-in subject: colour, gloss and relief of skin, lips, eyes, teeth and mouth, all computed.

It is stored as mesh colours (Yuksel, Keyser, House: Mesh colors, 2010): every triangle carries its own grid of texels, so no
texture map and no seams are needed. Everything is painted on the head's template, so it sticks to the head's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops import triangle_frames
from taichi_avatars.ops.mesh import vertex_normals
from taichi_avatars.ops.subject.noise import fractal_noise, scattered_points
from taichi_avatars.synthetic.identity import Identity

MOST_DIVISIONS = 64
CHUNK = 1 << 16  # texels painted at a time: what is in the works stays in the cache


@dataclass(frozen=True)
class Texels:
    """Attributes:
    start: (F,) int32, a triangle's first texel.
    divisions: (F,) int32, n: a grid of (n + 1)(n + 2) / 2 texels at barycentrics (1 - (i + j) / n, i / n, j / n), j fastest.
    values: (P, 9): linear albedo 3, specular strength, roughness, slope of the relief in the triangle's frame 3, translucency.
    """

    start: Tensor
    divisions: Tensor
    values: Tensor

    def with_more(self, more: Texels) -> Texels:
        """The texels of two meshes in one."""
        start = torch.cat([self.start, more.start + len(self.values)])
        return Texels(start, torch.cat([self.divisions, more.divisions]), torch.cat([self.values, more.values]))


@dataclass(frozen=True)
class Places:
    """Where texels lie on the template. `weight` holds soft membership (P,) per region; face coordinates are in eye distances:
    across to the person's left, up and forward from the point between the eyes. `teeth` are heights of the biting edge and
    the foremost z of each row, metres."""

    points: Tensor
    normals: Tensor
    across: Tensor
    up: Tensor
    forward: Tensor
    weight: dict[str, Tensor]
    teeth: dict[str, tuple[float, float]]

    def spot(self, across: float, up: float, radius: float) -> Tensor:
        """A soft round zone on the front of the face (P,), mirrored to both sides."""
        square = (self.across.abs() - across) ** 2 + (self.up - up) ** 2
        return torch.exp(-square / radius**2) * smoothstep(-0.6, -0.1, self.forward)


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def smoothed(values: Tensor, faces: Tensor, rounds: int) -> Tensor:
    """Values per vertex (V, C), averaged `rounds` times with their neighbours."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = torch.cat([edges, edges.flip(1)])
    pairs = torch.unique(both[:, 0] * len(values) + both[:, 1])
    pairs = torch.stack([pairs // len(values), pairs % len(values)], 1)
    count = torch.bincount(pairs[:, 0], minlength=len(values)).clamp(min=1)[:, None]
    for _ in range(rounds):
        total = torch.zeros_like(values).index_add_(0, pairs[:, 0], values[pairs[:, 1]])
        values = 0.5 * values + 0.5 * total / count
    return values


def indicator(head: FlameModel, name: str) -> Tensor:
    """1 at the vertices of a region, 0 elsewhere (V,); all 0 for a region that the head does not name."""
    return head.region_mask(name).float()


def layout(longest: Tensor, spacing: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """start, divisions, and every texel's triangle (P,) and barycentrics (P,3).

    Args:
        longest: (F,) the longest side of every triangle, metres.
        spacing: how far apart texels may be there, metres.
    """
    divisions = (longest / spacing).ceil().clamp(2, MOST_DIVISIONS).long()
    counts = (divisions + 1) * (divisions + 2) // 2
    start = counts.cumsum(0) - counts
    face = torch.repeat_interleave(torch.arange(len(longest)), counts)
    barycentric = torch.empty(len(face), 3)
    for n in divisions.unique().tolist():
        i, j = torch.meshgrid(torch.arange(n + 1), torch.arange(n + 1), indexing="ij")
        inside = i + j <= n
        grid = torch.stack([n - i - j, i, j], -1)[inside] / n
        chosen = torch.nonzero(divisions == n)[:, 0]
        rows = start[chosen][:, None] + torch.arange(len(grid))
        barycentric[rows.reshape(-1)] = grid.repeat(len(chosen), 1)
    return start.int(), divisions.int(), face, barycentric


def head_layout(head: FlameModel, spacing: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`layout` for a head: texels are about `spacing` metres apart, closer on the eyes, less close where little is to see."""
    corners = head.v_template[head.faces]
    longest = (corners - corners.roll(1, dims=1)).norm(dim=2).amax(1)
    eyes = indicator(head, "eye_left") + indicator(head, "eye_right")
    plain = torch.stack([indicator(head, name) for name in ("scalp", "mouth_inside", "tongue", "neck")]).amax(0)
    finer = torch.where(eyes[head.faces].amin(1) > 0, 0.35, 1.0) * (1 + 0.6 * plain[head.faces].amin(1))
    return layout(longest, spacing * finer)


def eye_axes(head: FlameModel) -> tuple[Tensor, Tensor]:
    """Centres of the eyeballs: left, right (3,)."""
    return head.v_template[head.regions["eye_left"]].mean(0), head.v_template[head.regions["eye_right"]].mean(0)


REGIONS = ("lips", "eyelids", "scalp", "ears", "neck", "mouth_inside", "teeth_upper", "teeth_lower", "tongue", "brows")


class Canvas:
    """What is the same for all texels of a head: soft regions, normals and where the face is."""

    def __init__(self, head: FlameModel) -> None:
        self.head = head
        self.normals = vertex_normals(head.v_template, head.faces)
        self.soft = smoothed(torch.stack([indicator(head, name) for name in REGIONS], 1), head.faces, 2)
        scalp = REGIONS.index("scalp")  # a hairline without the corners of the region
        self.soft[:, scalp] = smoothed(self.soft[:, scalp : scalp + 1], head.faces, 2)[:, 0]
        self.eyes = eye_axes(head)
        rows = {name: head.regions[name] for name in TEETH if name in head.regions}
        self.teeth = {name: tooth_edge(head.v_template[ids], name == "teeth_upper") for name, ids in rows.items()}
        self.rotation = triangle_frames(head.v_template, head.faces).rotation

    def places(self, face: Tensor, barycentric: Tensor) -> Places:
        corners = self.head.faces[face]
        values = torch.cat([self.head.v_template, self.normals, self.soft], 1)
        at = torch.zeros(len(face), values.shape[1])
        for k in range(3):
            at += barycentric[:, k : k + 1] * values[corners[:, k]]
        left, right = self.eyes
        distance = float((left - right).norm())
        relative = (at[:, :3] - 0.5 * (left + right)) / distance
        return Places(
            points=at[:, :3].contiguous(),
            normals=torch.nn.functional.normalize(at[:, 3:6], dim=1),
            across=relative[:, 0].contiguous(),
            up=relative[:, 1].contiguous(),
            forward=relative[:, 2].contiguous(),
            weight={name: at[:, 6 + k].contiguous() for k, name in enumerate(REGIONS)},
            teeth=self.teeth,
        )


def blend(below: Tensor, above: Tensor, share: Tensor) -> Tensor:
    return below + share[:, None] * (above - below)


def bake(head: FlameModel, who: Identity, pixel: float) -> Texels:
    """Paints the subject for pictures whose pixels cover about `pixel` metres; nothing finer than two pixels is painted."""
    start, divisions, face, barycentric = head_layout(head, 0.7 * pixel)
    canvas = Canvas(head)
    eyes = [indicator(head, name)[head.faces].amin(1) > 0 for name in ("eye_left", "eye_right")]
    values = torch.empty(len(face), 9)
    for begin in range(0, len(face), CHUNK):
        part = slice(begin, begin + CHUNK)
        where = canvas.places(face[part], barycentric[part])
        material = paint_skin(where, who, pixel)
        paint_lips(material, where, who, pixel)
        paint_mouth(material, where, who)
        for of_eye, center in zip(eyes, canvas.eyes, strict=True):
            inside = of_eye[face[part]]
            if inside.any():
                paint_eye(material, where, inside, center, who)
        slope = material["slope"]
        slope = slope - where.normals * (slope * where.normals).sum(1, keepdim=True)
        values[part, 0:3] = material["albedo"].clamp(0, 1)
        values[part, 3], values[part, 4] = material["specular"], material["roughness"]
        values[part, 5:8] = (canvas.rotation[face[part]] * slope[:, :, None]).sum(1)
        values[part, 8] = material["soft"]
    return Texels(start, divisions, values)


def paint_skin(where: Places, who: Identity, pixel: float) -> dict[str, Tensor]:
    p, seed = where.points, 1000 * who.seed
    finest = 2.0 * pixel
    broad, _ = fractal_noise(p, 0.05, seed + 1, 3)
    patches, _ = fractal_noise(p, 0.012, seed + 11, 3)
    mottle, _ = fractal_noise(p, max(0.004, finest), seed + 21, 2, 0.7)
    grain, grain_slope = fractal_noise(p, finest, seed + 31)
    face = smoothstep(0.2, 0.0, where.weight["scalp"]) * smoothstep(0.3, 0.0, where.weight["neck"])

    red = 0.9 * where.spot(0.62, -0.72, 0.33) + 0.75 * where.spot(0.0, -0.68, 0.2) + 0.35 * where.spot(0.0, -1.75, 0.25)
    red = red + 0.55 * where.weight["ears"] + 0.3 * where.weight["eyelids"] + 0.12 * broad
    red = (who.redness * (red * (0.75 + 0.6 * patches) + 0.10 * mottle)).clamp(-0.3, 1.2)
    shadow = where.spot(0.45, -0.27, 0.17) + 0.7 * where.spot(0.22, -0.08, 0.12)  # blood under the thin skin below the eyes
    brown = 0.07 * broad + 0.08 * patches + 0.06 * mottle + 0.05 * grain
    density = -torch.log(torch.tensor(who.skin))
    density = density + red[:, None] * torch.tensor([0.02, 0.34, 0.27]) + brown[:, None] * torch.tensor([0.8, 1.0, 1.2])
    density = density + 0.55 * shadow[:, None] * torch.tensor([0.42, 0.45, 0.30])

    for spacing, size, chance in ((0.0042, 0.0009, 0.55), (0.0075, 0.0013, 0.5)):
        size = max(size, 0.45 * finest)
        distance, lot = scattered_points(p, spacing, seed + 41)
        zone = (where.spot(0.5, -0.55, 0.5) + where.spot(0.0, -0.5, 0.25) + 0.15 * face).clamp(max=1)
        dot = smoothstep(size, 0.4 * size, distance) * (lot < chance * who.freckles * zone)
        density = density + (0.5 * dot * (0.5 + lot))[:, None] * torch.tensor([0.55, 0.9, 1.2])
    distance, lot = scattered_points(p, 0.03, seed + 51)
    mole = smoothstep(0.0016, 0.0009, distance) * (lot < 0.16) * face
    density = density + mole[:, None] * torch.tensor([0.8, 1.1, 1.3])

    beard = (
        smoothstep(-0.95, -1.2, where.up) * smoothstep(0.05, 0.3, where.forward + 0.35 * (where.up + 2.2).clamp(max=0)) * face
    )
    beard = beard * smoothstep(0.45, 0.1, where.weight["lips"])
    hairs, lot = scattered_points(p, max(0.0011, 0.8 * finest), seed + 61)
    shadowed = who.stubble * beard * (0.35 + 0.65 * smoothstep(0.5 * finest, 0.2 * finest, hairs) * (0.5 + lot))
    density = density + 0.75 * shadowed[:, None] * torch.tensor([0.9, 0.75, 0.6])
    albedo = torch.exp(-density)

    scalp = smoothstep(0.35, 0.75, where.weight["scalp"] + 0.12 * patches + 0.08 * mottle)
    under_hair = 0.04 * albedo + 0.4 * torch.tensor(who.hair)
    albedo = blend(albedo, under_hair, 0.9 * scalp)

    slope = 0.00016 * grain_slope * (finest / 0.0016)
    _, coarse_slope = fractal_noise(p, 2.2 * finest, seed + 71)
    _, lump_slope = fractal_noise(p, 0.008, seed + 81, 2)
    slope = slope + 0.00020 * coarse_slope * (finest / 0.0016) + 0.00012 * lump_slope
    slope = slope + forehead_lines(where, seed) + neck_lines(where, seed)
    slope = slope * (1 - 0.7 * scalp)[:, None]

    oily = (where.spot(0.0, 0.55, 0.5) + 1.2 * where.spot(0.0, -0.5, 0.25) + 0.4 * where.spot(0.55, -0.5, 0.35)).clamp(max=1)
    specular = (0.55 + 0.5 * oily + 0.15 * patches) * (1 - 0.8 * scalp)
    roughness = (0.52 - 0.10 * oily + 0.04 * mottle).clamp(0.3, 0.8)
    soft = torch.ones_like(roughness) * (1 - 0.5 * scalp)
    return {"albedo": albedo, "specular": specular, "roughness": roughness, "slope": slope, "soft": soft}


def forehead_lines(where: Places, seed: int) -> Tensor:
    """Slope (P,3) of faint horizontal lines on the forehead."""
    bend = where.points * torch.tensor([0.12, 1.0, 0.12])
    _, slope = fractal_noise(bend, 0.009, seed + 91, 2)
    zone = (
        torch.exp(-((where.up - 0.75) ** 2) / 0.12)
        * smoothstep(0.9, 0.4, where.across.abs())
        * smoothstep(0.0, 0.3, where.forward)
    )
    return 0.0005 * zone[:, None] * slope * torch.tensor([0.12, 1.0, 0.12])


def neck_lines(where: Places, seed: int) -> Tensor:
    bend = where.points * torch.tensor([0.15, 1.0, 0.15])
    _, slope = fractal_noise(bend, 0.012, seed + 101, 2)
    return 0.0006 * where.weight["neck"][:, None] * slope * torch.tensor([0.15, 1.0, 0.15])


def paint_lips(material: dict[str, Tensor], where: Places, who: Identity, pixel: float) -> None:
    seed = 1000 * who.seed
    ragged, _ = fractal_noise(where.points, 0.004, seed + 111, 2)
    lips = smoothstep(0.40, 0.72, where.weight["lips"] + 0.06 * ragged)
    fold = torch.tensor([1.0, 0.18, 0.4])
    lines, line_slope = fractal_noise(where.points * fold, max(0.0022, 2 * pixel), seed + 121, 2, 0.6)
    tint = torch.exp(0.10 * lines + 0.08 * ragged)[:, None] * torch.tensor(who.lips)
    material["albedo"] = blend(material["albedo"], tint, 0.92 * lips)
    material["slope"] = blend(material["slope"], 0.00045 * line_slope * fold, lips)
    material["specular"] = torch.lerp(material["specular"], torch.full_like(lips, 1.1), lips)
    material["roughness"] = torch.lerp(material["roughness"], torch.full_like(lips, 0.38), lips)


def paint_mouth(material: dict[str, Tensor], where: Places, who: Identity) -> None:
    patches, slope = fractal_noise(where.points, 0.003, 1000 * who.seed + 131, 2)

    def cover(share: Tensor, color: Tensor, specular: float | Tensor, roughness: float, relief: float) -> None:
        material["albedo"] = blend(material["albedo"], color * (1 + 0.18 * patches)[:, None], share)
        material["slope"] = blend(material["slope"], relief * slope, share)
        material["specular"] = torch.lerp(material["specular"], torch.zeros_like(share) + specular, share)
        material["roughness"] = torch.lerp(material["roughness"], torch.full_like(share, roughness), share)
        material["soft"] = torch.lerp(material["soft"], torch.full_like(share, 0.7), share)

    cover(smoothstep(0.35, 0.75, where.weight["mouth_inside"]), torch.tensor([0.30, 0.085, 0.075]), 0.5, 0.4, 0.0001)
    cover(smoothstep(0.35, 0.75, where.weight["tongue"]), torch.tensor([0.46, 0.17, 0.15]), 0.35, 0.5, 0.0002)
    for name in where.teeth:
        # Little light finds its way to the molars, less than the occlusion at a few vertices can tell.
        lit = 0.12 + 0.88 * smoothstep(-0.030, -0.012, where.points[:, 2] - where.teeth[name][1])
        cover(smoothstep(0.5, 0.9, where.weight[name]), lit[:, None] * tooth_color(where, name), lit, 0.28, 0.00003)


# Widths of the teeth from the middle outwards, metres.
TEETH = {
    "teeth_upper": (0.0083, 0.0066, 0.0076, 0.0070, 0.0068, 0.010, 0.010),
    "teeth_lower": (0.0054, 0.0059, 0.0068, 0.0070, 0.0070, 0.011, 0.011),
}


def tooth_edge(vertices: Tensor, upper: bool) -> tuple[float, float]:
    """Height of the biting edge in front, and how far forward the row reaches, metres."""
    front = float(vertices[:, 2].max())
    heights = vertices[vertices[:, 2] > front - 0.004, 1]
    return float(heights.min() if upper else heights.max()), front


def tooth_color(where: Places, row: str) -> Tensor:
    """Enamel (P,3), yellower towards the gum, with dark gaps between the teeth and gum beyond the crowns."""
    x, y, z = where.points.unbind(1)
    inside = where.weight[row] > 0.5
    if not inside.any():
        return torch.zeros(len(x), 3)
    edge, front = where.teeth[row]
    # Position along the arch: the angle around its middle, times its half width.
    arc = torch.atan2(x.abs(), z - front + 0.024) * 0.024
    ends = torch.tensor(TEETH[row]).cumsum(0)
    gap = (arc[:, None] - torch.cat([torch.zeros(1), ends])).abs().amin(1)
    along = (y - edge).abs()
    crown = 0.0095 - 1.2 * (0.0022 - gap).clamp(min=0)  # the gum reaches down between the teeth
    enamel = blend(
        torch.tensor([0.70, 0.66, 0.56]).expand(len(x), 3),
        torch.tensor([0.60, 0.50, 0.36]).expand(len(x), 3),
        (along / 0.0095).clamp(0, 1),
    )
    enamel = enamel * (1 - 0.75 * smoothstep(0.0005, 0.0001, gap))[:, None]
    return blend(enamel, torch.tensor([0.50, 0.20, 0.19]).expand(len(x), 3), smoothstep(-0.0006, 0.0006, along - crown))


def paint_eye(material: dict[str, Tensor], where: Places, inside: Tensor, center: Tensor, who: Identity) -> None:
    """White, iris with fibres, dark rim and pupil, under a wet cornea. Gaze forward is +z of the template."""
    seed = 1000 * who.seed
    offset = where.points[inside] - center
    radius = offset.norm(dim=1)
    direction = offset / radius[:, None]
    size = float(radius.mean())
    # Distance from the optical axis on the sphere, metres.
    away = torch.atan2(direction[:, :2].norm(dim=1), direction[:, 2]) * size
    around = torch.nn.functional.normalize(direction[:, :2], dim=1, eps=1e-9)
    iris_radius, pupil_radius = 0.0060, 0.0021
    part = away / iris_radius

    white = torch.tensor([0.55, 0.51, 0.475]).expand(len(part), 3)
    veins, _ = fractal_noise(direction * size, 0.0022, seed + 141, 3, 0.6)
    corner = smoothstep(0.007, 0.016, away)
    white = blend(white, torch.tensor([0.48, 0.22, 0.18]).expand_as(white), 0.4 * corner)
    white = blend(
        white,
        torch.tensor([0.5, 0.12, 0.1]).expand_as(white),
        (0.25 + 0.5 * corner) * smoothstep(0.16, 0.02, veins.abs()) * 0.5,
    )

    ray = torch.cat([around * 0.03, 0.12 * away[:, None]], 1)
    fibres, _ = fractal_noise(ray, 0.003, seed + 151, 3, 0.7)
    color = torch.tensor(who.iris) * torch.exp(0.75 * fibres)[:, None]
    amber = torch.exp(-(((part - 0.45) / 0.13) ** 2)) * (0.6 + 0.5 * fibres)
    color = blend(color, torch.tensor([0.22, 0.12, 0.04]) * torch.exp(0.4 * fibres)[:, None], (0.6 * amber).clamp(0, 1))
    color = color * (1 - 0.8 * smoothstep(0.78, 0.98, part))[:, None]
    color = color * (1 - smoothstep(pupil_radius * 1.1, pupil_radius * 0.9, away))[:, None] + 0.003
    limbus = smoothstep(1.06, 0.94, part)
    albedo = blend(white, color, limbus)

    # The cornea stands out from the ball: its normal leans away from the axis more than the ball's.
    outward = torch.cat([around, torch.zeros_like(away[:, None])], 1)
    bulge = 0.16 * part * smoothstep(1.15, 0.85, part)
    material["albedo"][inside] = albedo
    material["slope"][inside] = -bulge[:, None] * outward
    material["specular"][inside] = 3.0
    material["roughness"][inside] = 0.13
    material["soft"][inside] = 0.35 * (1 - limbus)
