"""Thin strands of hair as ribbons that face the camera, into the same z-buffer as the mesh.

A strand is a chain of K points; a ribbon's row of samples is an interval, so a segment costs what it covers.
points (S, K, 3); screen (S, K, 5): x, y in samples, inverse view depth, half width in samples
as drawn, and the opacity. Ribbons thinner than `thinnest` samples would break up into dots and are drawn that wide.
"""

from taichi_avatars.engine import ti, tm
from taichi_avatars.kernels.types import F32x2, F32x3, F64x1, I32x1, I32x2

BAND = 16


@ti.kernel
def pose_strands(local: F32x3, root: I32x1, rotation: F32x3, center: F32x2, points: F32x3):
    """Strand points from the frame of their root triangle to the world: rigid, hair does not stretch with the skin."""
    for s in range(local.shape[0]):
        f = root[s]
        for k in range(local.shape[1]):
            for r in ti.static(range(3)):
                p = center[f, r]
                for c in ti.static(range(3)):
                    p += rotation[f, r, c] * local[s, k, c]
                points[s, k, r] = p


@ti.kernel
def project_strands(
    points: F32x3,
    radius: F32x2,
    camera: F64x1,
    near: ti.f32,
    solid: ti.i32,
    thinnest: ti.f32,
    nearest: F32x2,
    margin: ti.f32,
    screen: F32x3,
    rows: I32x2,
):
    """rows (S, 2): first and last row of samples a strand can touch, before clipping; first > last: it cannot be seen.

    Strands from `solid` on fade where they are too thin: less than in proportion, since a sample keeps only the nearest
    strand though others lie behind it. A strand is left out if all of its points lie more than `margin` metres behind
    `nearest`, which is what was drawn before.
    """
    height, width = nearest.shape[0], nearest.shape[1]
    for s in range(points.shape[0]):
        top, bottom, drawable, hidden = 1e9, -1e9, True, True
        for k in range(points.shape[1]):
            view = tm.vec3(0.0)
            for r in ti.static(range(3)):
                view[r] = ti.cast(
                    camera[3 * r] * points[s, k, 0]
                    + camera[3 * r + 1] * points[s, k, 1]
                    + camera[3 * r + 2] * points[s, k, 2]
                    + camera[9 + r],
                    ti.f32,
                )
            if view[2] <= near:
                drawable = False
            z = ti.max(view[2], 1e-6)
            x = ti.cast(camera[12], ti.f32) * view[0] / z + ti.cast(camera[14], ti.f32)
            y = ti.cast(camera[13], ti.f32) * view[1] / z + ti.cast(camera[15], ti.f32)
            true_half = 0.5 * ti.cast(camera[12] + camera[13], ti.f32) * radius[s, k] / z
            half = ti.max(true_half, 0.5 * thinnest)
            screen[s, k, 4] = ti.select(s < solid, 1.0, ti.sqrt(true_half / half))
            screen[s, k, 0], screen[s, k, 1], screen[s, k, 2], screen[s, k, 3] = x, y, 1.0 / z, half
            top, bottom = ti.min(top, y - half), ti.max(bottom, y + half)
            covered = 0.0
            if x >= 0.0 and y >= 0.0 and x < width and y < height:
                covered = nearest[ti.cast(y, ti.i32), ti.cast(x, ti.i32)]
            hidden = hidden and covered * (z - margin) > 1.0
        rows[s, 0], rows[s, 1] = 0, -1
        if drawable and not hidden and bottom > 0.0 and top < 1e6:
            rows[s, 0] = ti.cast(tm.floor(ti.max(top, 0.0)), ti.i32)
            rows[s, 1] = ti.cast(tm.floor(ti.min(bottom, 1e6)), ti.i32)


@ti.func
def clip_interval(low: ti.f32, high: ti.f32, slope: ti.f32, offset: ti.f32, least: ti.f32, most: ti.f32) -> tm.vec2:
    """The part of [low, high] where least <= slope x + offset <= most."""
    if ti.abs(slope) > 1e-6:
        a, b = (least - offset) / slope, (most - offset) / slope
        low, high = ti.max(low, ti.min(a, b)), ti.min(high, ti.max(a, b))
    elif offset < least or offset > most:
        high = low - 1.0
    return tm.vec2(low, high)


@ti.kernel
def rasterize_strands(screen: F32x3, rows: I32x2, nearest: F32x2, strand: I32x2, along: F32x2):
    """Where a strand is nearer than `nearest`, writes its depth, the point s * K + k where the segment begins, 0..1 on it."""
    height, width, segments = nearest.shape[0], nearest.shape[1], screen.shape[1] - 1
    ti.loop_config(block_dim=1)
    for band in range((height + BAND - 1) // BAND):
        first, last = band * BAND, ti.min(band * BAND + BAND, height) - 1
        for y in range(first, last + 1):
            for x in range(width):
                strand[y, x] = -1
        for s in range(screen.shape[0]):
            if rows[s, 0] <= last and rows[s, 1] >= first:
                for k in range(segments):
                    ax, ay, az = screen[s, k, 0], screen[s, k, 1], screen[s, k, 2]
                    dx, dy, dz = screen[s, k + 1, 0] - ax, screen[s, k + 1, 1] - ay, screen[s, k + 1, 2] - az
                    half = 0.5 * (screen[s, k, 3] + screen[s, k + 1, 3])
                    square = dx * dx + dy * dy
                    length = ti.sqrt(square)
                    y0 = ti.max(first, ti.cast(tm.ceil(ti.min(ay, ay + dy) - half - 0.5), ti.i32))
                    y1 = ti.min(last, ti.cast(tm.floor(ti.max(ay, ay + dy) + half - 0.5), ti.i32))
                    overlap = 0.5 * half * length  # closes the wedge on the outside of a bend
                    if square > 1e-8:
                        for y in range(y0, y1 + 1):
                            py = ti.cast(y, ti.f32) + 0.5 - ay
                            span = clip_interval(-ax, ti.cast(width, ti.f32) - ax, dy, -py * dx, -half * length, half * length)
                            span = clip_interval(span[0], span[1], dx, py * dy, -overlap, square + overlap)
                            x0 = ti.max(0, ti.cast(tm.ceil(span[0] + ax - 0.5), ti.i32))
                            x1 = ti.min(width - 1, ti.cast(tm.floor(span[1] + ax - 0.5), ti.i32))
                            for x in range(x0, x1 + 1):
                                px = ti.cast(x, ti.f32) + 0.5 - ax
                                t = tm.clamp((px * dx + py * dy) / square, 0.0, 1.0)
                                z = az + t * dz
                                if z > nearest[y, x]:
                                    nearest[y, x] = z
                                    strand[y, x] = s * screen.shape[1] + k
                                    along[y, x] = t
