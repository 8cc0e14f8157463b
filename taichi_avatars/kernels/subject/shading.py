"""Light on the built-in subject: skin, eyes, teeth and hair, deferred over the samples of a camera.

Colours are linear until `displayed`. lights (L, 6): unit direction towards the light, colour. sky (2, 3): light from above and
from below. record (V, 8): position, normal, and what the vertex receives of the key light and of the surroundings.
Texels (mesh colours: every triangle of n divisions carries (n + 1)(n + 2) / 2 of them on its own grid) hold
albedo 3, specular strength, roughness, slope of the relief in the triangle's frame 3, translucency.
"""

from taichi_avatars.engine import ti, tm
from taichi_avatars.kernels.mesh import barycentric_at
from taichi_avatars.kernels.types import F32x1, F32x2, F32x3, I32x1, I32x2

CHANNELS = 9
Texel = ti.types.vector(CHANNELS, ti.f32)


@ti.func
def displayed(linear: tm.vec3) -> tm.vec3:
    """Linear light to display values in [0, 1]: a filmic shoulder, then gamma 2.2."""
    c = ti.max(linear, 0.0)
    shoulder = c * (2.51 * c + 0.03) / (c * (2.43 * c + 0.59) + 0.14)
    return tm.pow(tm.clamp(shoulder, 0.0, 1.0), tm.vec3(1.0 / 2.2))


@ti.func
def texel_at(texels: ti.template(), start: ti.i32, n: ti.i32, barycentric: tm.vec3) -> Texel:
    """Linear interpolation on the triangle's own grid of texels."""
    u, v = tm.clamp(barycentric[1], 0.0, 1.0) * n, tm.clamp(barycentric[2], 0.0, 1.0) * n
    i, j = ti.min(ti.cast(u, ti.i32), n - 1), ti.min(ti.cast(v, ti.i32), n - 1)
    if i + j > n - 1:
        j = n - 1 - i
    fu, fv = u - i, v - j
    row = start + i * (2 * n + 3 - i) // 2
    next_row = start + (i + 1) * (2 * n + 2 - i) // 2
    out = Texel(0.0)
    if fu + fv <= 1.0 or i + j + 2 > n:
        for c in ti.static(range(CHANNELS)):
            out[c] = texels[row + j, c] * (1.0 - fu - fv) + texels[next_row + j, c] * fu + texels[row + j + 1, c] * fv
    else:
        for c in ti.static(range(CHANNELS)):
            corner, side, other = texels[next_row + j + 1, c], texels[row + j + 1, c], texels[next_row + j, c]
            out[c] = corner * (fu + fv - 1.0) + side * (1.0 - fu) + other * (1.0 - fv)
    return out


@ti.func
def microfacet(normal: tm.vec3, to_eye: tm.vec3, to_light: tm.vec3, roughness: ti.f32, f0: ti.f32) -> ti.f32:
    """GGX lobe with Schlick's Fresnel term and the Kelemen visibility, times the cosine to the light."""
    half = tm.normalize(to_eye + to_light)
    nl, nh, lh = ti.max(normal.dot(to_light), 0.0), ti.max(normal.dot(half), 0.0), ti.max(to_light.dot(half), 0.1)
    a = roughness * roughness
    d = nh * nh * (a * a - 1.0) + 1.0
    fresnel = f0 + (1.0 - f0) * (1.0 - lh) ** 5
    return nl * a * a / (12.5664 * d * d * lh * lh) * fresnel


@ti.func
def lit_surface(
    t: Texel,
    smooth: tm.vec3,
    normal: tm.vec3,
    to_eye: tm.vec3,
    key: ti.f32,
    ambient: ti.f32,
    lights: ti.template(),
    sky: ti.template(),
) -> tm.vec3:
    albedo, soft = tm.vec3(t[0], t[1], t[2]), t[8]
    above, below = tm.vec3(sky[0, 0], sky[0, 1], sky[0, 2]), tm.vec3(sky[1, 0], sky[1, 1], sky[1, 2])
    # Light scattered under the skin emerges redder, wraps further round and blurs the relief.
    wrap = soft * tm.vec3(0.42, 0.2, 0.12)
    relief = 1.0 - soft * tm.vec3(0.55, 0.3, 0.1)
    bleed = 0.35 * soft * tm.vec3(1.0, 0.3, 0.15)
    diffuse = tm.mix(below, above, 0.5 + 0.5 * normal[1]) * ambient * (1.0 + bleed * (1.0 - ambient))
    gloss = tm.vec3(0.0)
    for l in range(lights.shape[0]):
        toward, color = tm.vec3(lights[l, 0], lights[l, 1], lights[l, 2]), tm.vec3(lights[l, 3], lights[l, 4], lights[l, 5])
        reach = ti.select(l == 0, key, ti.min(1.0, 1.3 * ambient))
        cosine = tm.mix(tm.vec3(smooth.dot(toward)), tm.vec3(normal.dot(toward)), relief)
        diffuse += color * ti.max((cosine + wrap) / (1.0 + wrap), 0.0) * reach * (1.0 + bleed * (1.0 - reach))
        gloss += color * reach * t[3] * microfacet(normal, to_eye, toward, t[4], 0.04)
    mirrored = 2.0 * normal.dot(to_eye) * normal - to_eye
    grazing = 0.04 + 0.5 * (1.0 - t[4]) * (1.0 - ti.max(normal.dot(to_eye), 0.0)) ** 5
    gloss += t[3] * grazing * ambient * tm.mix(below, above, 0.5 + 0.5 * mirrored[1])
    return albedo * diffuse + gloss


@ti.func
def shaded_face(
    f: ti.i32,
    b: tm.vec3,
    faces: ti.template(),
    record: ti.template(),
    rotation: ti.template(),
    start: ti.template(),
    divisions: ti.template(),
    texels: ti.template(),
    eye: ti.template(),
    lights: ti.template(),
    sky: ti.template(),
) -> tm.vec3:
    """Display colour of the point of triangle f with barycentrics b."""
    position, smooth, key, ambient = tm.vec3(0.0), tm.vec3(0.0), 0.0, 0.0
    for k in ti.static(range(3)):
        v = faces[f, k]
        position += b[k] * tm.vec3(record[v, 0], record[v, 1], record[v, 2])
        smooth += b[k] * tm.vec3(record[v, 3], record[v, 4], record[v, 5])
        key += b[k] * record[v, 6]
        ambient += b[k] * record[v, 7]
    t = texel_at(texels, start[f], divisions[f], b)
    slope = tm.vec3(0.0)
    for r in ti.static(range(3)):
        slope[r] = rotation[f, r, 0] * t[5] + rotation[f, r, 1] * t[6] + rotation[f, r, 2] * t[7]
    smooth = tm.normalize(smooth)
    to_eye = tm.normalize(tm.vec3(eye[0], eye[1], eye[2]) - position)
    if smooth.dot(to_eye) < -0.2:  # the inside of the open neck
        ambient *= 0.1
        key = 0.0
    normal = tm.normalize(smooth - (slope - smooth * slope.dot(smooth)))
    return displayed(lit_surface(t, smooth, normal, to_eye, key, ambient, lights, sky))


@ti.kernel
def light_strands(
    points: F32x3,
    color: F32x2,
    received: F32x3,
    gloss: ti.f32,
    eye: F32x1,
    lights: F32x2,
    sky: F32x2,
    rows: I32x2,
    out: F32x3,
):
    """Display colours of strand points (S, K, 3). received (S, K, 2): share of the key light and of the surroundings.

    Strands that no row of samples can show, rows (S, 2), are skipped.

    Diffuse and two highlights of a fibre: a white one shifted towards the root and one of the hair's colour towards the tip.
    """
    last = points.shape[1] - 1
    for s in range(points.shape[0]):
        own = tm.vec3(color[s, 0], color[s, 1], color[s, 2])
        above, below = tm.vec3(sky[0, 0], sky[0, 1], sky[0, 2]), tm.vec3(sky[1, 0], sky[1, 1], sky[1, 2])
        for k in range(ti.select(rows[s, 0] <= rows[s, 1], last + 1, 0)):
            a, b = ti.max(k - 1, 0), ti.min(k + 1, last)
            p = tm.vec3(points[s, k, 0], points[s, k, 1], points[s, k, 2])
            tangent = tm.vec3(
                points[s, b, 0] - points[s, a, 0], points[s, b, 1] - points[s, a, 1], points[s, b, 2] - points[s, a, 2]
            )
            tangent /= ti.max(tangent.norm(), 1e-9)
            to_eye = tm.normalize(tm.vec3(eye[0], eye[1], eye[2]) - p)
            key, ambient = received[s, k, 0], received[s, k, 1]
            total = own * tm.mix(below, above, 0.65) * ambient
            for l in range(lights.shape[0]):
                toward = tm.vec3(lights[l, 0], lights[l, 1], lights[l, 2])
                light = tm.vec3(lights[l, 3], lights[l, 4], lights[l, 5]) * ti.select(l == 0, key, ambient)
                along = tangent.dot(toward)
                half = tm.normalize(toward + to_eye)
                th = tangent.dot(half)
                first = ti.sqrt(ti.max(1.0 - (th + 0.12) ** 2, 0.0)) ** 90
                second = ti.sqrt(ti.max(1.0 - (th - 0.18) ** 2, 0.0)) ** 22
                total += light * (
                    own * (0.75 * ti.sqrt(ti.max(1.0 - along * along, 0.0)) + 1.1 * gloss * second) + 0.12 * gloss * first
                )
            shown = displayed(total)
            for c in ti.static(range(3)):
                out[s, k, c] = shown[c]


@ti.func
def strand_share(strand: ti.template(), along: ti.template(), screen: ti.template(), y: ti.i32, x: ti.i32) -> ti.f32:
    """How much of a sample is hidden by the strand that it shows, 0 where it shows none."""
    share, at = 0.0, strand[y, x]
    if at >= 0:
        share = tm.mix(screen[at, 4], screen[at + 1, 4], along[y, x])
    return share


@ti.kernel
def shade_samples(
    faces: I32x2,
    grid: I32x2,
    inverse_depth: F32x1,
    face: I32x2,
    nearest: F32x2,
    record: F32x2,
    rotation: F32x3,
    start: I32x1,
    divisions: I32x1,
    texels: F32x2,
    strand: I32x2,
    along: F32x2,
    screen: F32x2,
    strand_color: F32x2,
    scalp_hair: ti.i32,
    own_faces: ti.i32,
    eye: F32x1,
    lights: F32x2,
    sky: F32x2,
    factor: ti.i32,
    steep: ti.f32,
    alike: ti.f32,
    left: ti.i32,
    top: ti.i32,
    rgb: F32x3,
    cover: F32x3,
):
    """Means over the samples of a pixel, 0 where none is covered, written into images from (left, top) on.

    rgb (6, H, W): display colour of everything, then of the head alone: its first `own_faces` triangles and its strands.
    cover (3, H, W): the share of samples covered at all, by the head, and by hair of the scalp.
    screen (S * K, 5), strand_color (S * K, 3): of strand points, of which the first `scalp_hair` are the scalp's.

    Coverage and strands count at every sample. The surface is shaded at the first and the last sample that show it. If these
    differ by less than `alike` in every channel, and the depths of all by less than `steep` of a depth, and all show the head
    or none, their mean stands for all; otherwise every sample is shaded.
    """
    ti.loop_config(block_dim=4)
    for y in range(face.shape[0] // factor):
        for x in range(face.shape[1] // factor):
            hairs, covered, hair = tm.vec3(0.0), 0.0, 0.0
            weight, own_weight, first, last, near, far = 0.0, 0.0, -1, -1, 0.0, 1e9
            for j in range(factor):
                row = y * factor + j
                for i in range(factor):
                    column, share = x * factor + i, 0.0
                    at = strand[row, column]
                    if at >= 0:
                        t = along[row, column]
                        share = tm.mix(screen[at, 4], screen[at + 1, 4], t)
                        for c in ti.static(range(3)):
                            hairs[c] += share * tm.mix(strand_color[at, c], strand_color[at + 1, c], t)
                        hair += ti.select(at < scalp_hair, 1.0, 0.0)
                        covered += share
                    if share < 0.99 and face[row, column] >= 0:
                        weight += 1.0 - share
                        own_weight += ti.select(face[row, column] < own_faces, 1.0 - share, 0.0)
                        last = j * factor + i
                        first = ti.select(first < 0, last, first)
                        near, far = ti.max(near, nearest[row, column]), ti.min(far, nearest[row, column])
            smooth = near - far < steep * near and (own_weight == 0.0 or own_weight == weight)
            surface, own_surface, one_end = tm.vec3(0.0), tm.vec3(0.0), tm.vec3(0.0)
            n, ends = first, 0
            while n >= 0:
                row, column = y * factor + n // factor, x * factor + n % factor
                f, share = face[row, column], strand_share(strand, along, screen, row, column)
                b = barycentric_at(faces, grid, inverse_depth, f, column, row)
                shown = shaded_face(f, b, faces, record, rotation, start, divisions, texels, eye, lights, sky)
                surface += (1.0 - share) * shown
                own_surface += ti.select(f < own_faces, 1.0 - share, 0.0) * shown
                following = n + 1
                if ends == 0:
                    one_end, ends, following = shown, 1, ti.select(last > first, last, last + 1)
                elif ends == 1:
                    ends, following = 2, first + 1
                    if smooth and ti.abs(shown - one_end).max() < alike:
                        surface, own_surface = 0.5 * weight * (one_end + shown), 0.5 * own_weight * (one_end + shown)
                        following = last
                # Continue with the next sample that shows the surface; the last one is already shaded.
                n = -1
                while n < 0 and following < last + ti.select(ends == 1, 1, 0):
                    row, column = y * factor + following // factor, x * factor + following % factor
                    if face[row, column] >= 0:
                        if strand_share(strand, along, screen, row, column) < 0.99:
                            n = following
                    following += 1
            each, row, column = 1.0 / ti.cast(factor * factor, ti.f32), top + y, left + x
            cover[0, row, column] = ti.min((covered + weight) * each, 1.0)
            cover[1, row, column] = ti.min((covered + own_weight) * each, 1.0)
            cover[2, row, column] = hair * each
            for c in ti.static(range(3)):
                rgb[c, row, column] = (hairs[c] + surface[c]) * each
                rgb[c + 3, row, column] = (hairs[c] + own_surface[c]) * each
