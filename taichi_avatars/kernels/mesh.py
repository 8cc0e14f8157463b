"""Triangle rasterizer with a z-buffer for the CPU.

Coverage is decided in integers on a grid of 1/1024 sample, with the top-left rule, so that triangles which share an edge
leave neither a crack nor an overlap. Bands of rows are independent tasks and every band visits the triangles in index order:
the result does not depend on the number of threads.

A sample is a pixel of the supersampled grid; its centre lies at integer + 0.5. Arguments shared by the kernels:
camera (16,) float64: rotation (row-major), translation, fx, fy, cx, cy of the supersampled grid, OpenCV axes;
grid (V, 2) int32: projected vertices in grid units; inverse_depth (V,), 0 where the vertex cannot be drawn.
"""

from taichi_avatars.engine import ti, tm
from taichi_avatars.kernels.types import F32x1, F32x2, F32x3, F64x1, I32x2

GRID = 1024
# Products of two differences of such coordinates stay below 2^63.
FARTHEST = 1 << 19
BAND = 16


@ti.kernel
def project_vertices(vertices: F32x2, camera: F64x1, near: ti.f32, grid: I32x2, inverse_depth: F32x1):
    for v in range(vertices.shape[0]):
        p = ti.Vector([ti.cast(vertices[v, 0], ti.f64), ti.cast(vertices[v, 1], ti.f64), ti.cast(vertices[v, 2], ti.f64)])
        view = ti.Vector([ti.cast(0.0, ti.f64), ti.cast(0.0, ti.f64), ti.cast(0.0, ti.f64)])
        for r in ti.static(range(3)):
            view[r] = camera[3 * r] * p[0] + camera[3 * r + 1] * p[1] + camera[3 * r + 2] * p[2] + camera[9 + r]
        inverse_depth[v] = 0.0
        grid[v, 0] = 0
        grid[v, 1] = 0
        if view[2] > near:
            x = camera[12] * view[0] / view[2] + camera[14]
            y = camera[13] * view[1] / view[2] + camera[15]
            if ti.abs(x) < FARTHEST and ti.abs(y) < FARTHEST:
                grid[v, 0] = ti.cast(ti.round(x * GRID), ti.i32)
                grid[v, 1] = ti.cast(ti.round(y * GRID), ti.i32)
                inverse_depth[v] = ti.cast(1.0 / view[2], ti.f32)


@ti.func
def edge(ax: ti.i64, ay: ti.i64, bx: ti.i64, by: ti.i64, px: ti.i64, py: ti.i64) -> ti.i64:
    """Twice the signed area of (a, b, p); positive where p lies to the right of a -> b on a grid whose y points down."""
    return (bx - ax) * (py - ay) - (by - ay) * (px - ax)


@ti.func
def top_left_bias(ax: ti.i64, ay: ti.i64, bx: ti.i64, by: ti.i64) -> ti.i64:
    """0 where a sample exactly on the edge belongs to the triangle, -1 where it belongs to the neighbour."""
    owns = by < ay or (by == ay and bx > ax)
    return ti.select(owns, ti.i64(0), ti.i64(-1))


@ti.kernel
def bound_faces(faces: I32x2, grid: I32x2, inverse_depth: F32x1, width: ti.i32, height: ti.i32, bounds: I32x2):
    """bounds (F, 4): first and last column, first and last row of samples; an empty row range where nothing is drawn."""
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        half = GRID // 2
        x0 = (ti.min(grid[a, 0], grid[b, 0], grid[c, 0]) + half - 1) // GRID
        x1 = (ti.max(grid[a, 0], grid[b, 0], grid[c, 0]) - half) // GRID
        y0 = (ti.min(grid[a, 1], grid[b, 1], grid[c, 1]) + half - 1) // GRID
        y1 = (ti.max(grid[a, 1], grid[b, 1], grid[c, 1]) - half) // GRID
        bounds[f, 0], bounds[f, 1] = ti.max(x0, 0), ti.min(x1, width - 1)
        bounds[f, 2], bounds[f, 3] = ti.max(y0, 0), ti.min(y1, height - 1)
        drawable = inverse_depth[a] > 0 and inverse_depth[b] > 0 and inverse_depth[c] > 0
        if not drawable or bounds[f, 0] > bounds[f, 1]:
            bounds[f, 2], bounds[f, 3] = 0, -1


@ti.func
def inverse_step(step: ti.i64) -> ti.f32:
    """Reciprocal of the change per sample in x; 0 for an edge along x."""
    return ti.select(step != 0, 1.0 / ti.cast(step, ti.f32), 0.0)


@ti.func
def covered_span(low: ti.f32, high: ti.f32, area: ti.i64, step: ti.i64, inverse: ti.f32) -> tm.vec2:
    """The part of the samples [low, high] of a row that lies inside an edge, up to rounding.

    `area` is the edge's signed area at sample 0; it falls by `step` from sample to sample.
    """
    crossing = ti.cast(area, ti.f32) * inverse
    if step > 0:
        high = ti.min(high, crossing)
    elif step < 0:
        low = ti.max(low, crossing)
    elif area < 0:
        high = low - 2.0
    return tm.vec2(low, high)


@ti.kernel
def rasterize_faces(faces: I32x2, grid: I32x2, inverse_depth: F32x1, bounds: I32x2, face: I32x2, nearest: F32x2):
    """face (H, W): index of the nearest triangle, -1 where none; nearest (H, W): its inverse view depth, 0 where none."""
    height, width = face.shape[0], face.shape[1]
    ti.loop_config(block_dim=1)
    for band in range((height + BAND - 1) // BAND):
        first, last = band * BAND, ti.min(band * BAND + BAND, height) - 1
        for y in range(first, last + 1):
            for x in range(width):
                face[y, x] = -1
                nearest[y, x] = 0.0
        for f in range(faces.shape[0]):
            y0, y1 = ti.max(bounds[f, 2], first), ti.min(bounds[f, 3], last)
            if y0 <= y1:
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                ax, ay = ti.cast(grid[a, 0], ti.i64), ti.cast(grid[a, 1], ti.i64)
                bx, by = ti.cast(grid[b, 0], ti.i64), ti.cast(grid[b, 1], ti.i64)
                cx, cy = ti.cast(grid[c, 0], ti.i64), ti.cast(grid[c, 1], ti.i64)
                za, zb, zc = inverse_depth[a], inverse_depth[b], inverse_depth[c]
                area = edge(ax, ay, bx, by, cx, cy)
                if area < 0:
                    bx, by, cx, cy = cx, cy, bx, by
                    zb, zc = zc, zb
                    area = -area
                if area > 0:
                    bias_a = top_left_bias(bx, by, cx, cy)
                    bias_b = top_left_bias(cx, cy, ax, ay)
                    bias_c = top_left_bias(ax, ay, bx, by)
                    scale = 1.0 / ti.cast(area, ti.f32)
                    za, zb, zc = za * scale, zb * scale, zc * scale
                    x0, x1 = bounds[f, 0], bounds[f, 1]
                    px, py = ti.cast(x0, ti.i64) * GRID + GRID // 2, ti.cast(y0, ti.i64) * GRID + GRID // 2
                    row_a = edge(bx, by, cx, cy, px, py) + bias_a
                    row_b = edge(cx, cy, ax, ay, px, py) + bias_b
                    row_c = edge(ax, ay, bx, by, px, py) + bias_c
                    step_a, step_b, step_c = (cy - by) * GRID, (ay - cy) * GRID, (by - ay) * GRID
                    rate_a, rate_b, rate_c = inverse_step(step_a), inverse_step(step_b), inverse_step(step_c)
                    for y in range(y0, y1 + 1):
                        span = covered_span(0.0, ti.cast(x1 - x0, ti.f32), row_a, step_a, rate_a)
                        span = covered_span(span[0], span[1], row_b, step_b, rate_b)
                        span = covered_span(span[0], span[1], row_c, step_c, rate_c)
                        # Rounded outwards; the integers decide.
                        begin, end = x0 + ti.max(ti.cast(span[0], ti.i32) - 1, 0), ti.min(x0 + ti.cast(span[1], ti.i32) + 1, x1)
                        wa, wb, wc = row_a - step_a * (begin - x0), row_b - step_b * (begin - x0), row_c - step_c * (begin - x0)
                        for x in range(begin, end + 1):
                            if (wa | wb | wc) >= 0:
                                z = ti.cast(wa, ti.f32) * za + ti.cast(wb, ti.f32) * zb + ti.cast(wc, ti.f32) * zc
                                if z > nearest[y, x]:
                                    nearest[y, x] = z
                                    face[y, x] = f
                            wa -= step_a
                            wb -= step_b
                            wc -= step_c
                        row_a += (cx - bx) * GRID
                        row_b += (ax - cx) * GRID
                        row_c += (bx - ax) * GRID


def on_cpu() -> bool:
    return ti.lang.impl.current_cfg().arch in (ti.x64, ti.arm64)


@ti.func
def exact_areas(grid: ti.template(), a: ti.i32, b: ti.i32, c: ti.i32, x: ti.i32, y: ti.i32) -> tm.vec3:
    """Signed areas of sample (x, y) with the three edges."""
    ax, ay = ti.cast(grid[a, 0], ti.i64), ti.cast(grid[a, 1], ti.i64)
    bx, by = ti.cast(grid[b, 0], ti.i64), ti.cast(grid[b, 1], ti.i64)
    cx, cy = ti.cast(grid[c, 0], ti.i64), ti.cast(grid[c, 1], ti.i64)
    px, py = ti.cast(x, ti.i64) * GRID + GRID // 2, ti.cast(y, ti.i64) * GRID + GRID // 2
    wa = ti.cast(edge(bx, by, cx, cy, px, py), ti.f32)
    wb = ti.cast(edge(cx, cy, ax, ay, px, py), ti.f32)
    wc = ti.cast(edge(ax, ay, bx, by, px, py), ti.f32)
    return tm.vec3(wa, wb, wc)


@ti.func
def rounded_areas(grid: ti.template(), a: ti.i32, b: ti.i32, c: ti.i32, x: ti.i32, y: ti.i32) -> tm.vec3:
    """The same without 64-bit integers, which not every Vulkan device has."""
    px, py = x * GRID + GRID // 2, y * GRID + GRID // 2
    ax, ay = ti.cast(grid[a, 0] - px, ti.f32), ti.cast(grid[a, 1] - py, ti.f32)
    bx, by = ti.cast(grid[b, 0] - px, ti.f32), ti.cast(grid[b, 1] - py, ti.f32)
    cx, cy = ti.cast(grid[c, 0] - px, ti.f32), ti.cast(grid[c, 1] - py, ti.f32)
    return tm.vec3(bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx)


@ti.func
def barycentric_at(
    faces: ti.template(), grid: ti.template(), inverse_depth: ti.template(), f: ti.i32, x: ti.i32, y: ti.i32
) -> tm.vec3:
    """Perspective-correct barycentric coordinates of sample (x, y) in triangle f."""
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    weight = tm.vec3(0.0)
    if ti.static(on_cpu()):
        weight = exact_areas(grid, a, b, c, x, y)
    else:
        weight = rounded_areas(grid, a, b, c, x, y)
    weight *= tm.vec3(inverse_depth[a], inverse_depth[b], inverse_depth[c])
    return weight / (weight[0] + weight[1] + weight[2])


@ti.kernel
def find_barycentrics(faces: I32x2, grid: I32x2, inverse_depth: F32x1, face: I32x2, barycentric: F32x3):
    """barycentric (H, W, 3): 0 where no triangle is."""
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            at = tm.vec3(0.0)
            if face[y, x] >= 0:
                at = barycentric_at(faces, grid, inverse_depth, face[y, x], x, y)
            for k in ti.static(range(3)):
                barycentric[y, x, k] = at[k]


@ti.kernel
def shade_faces(
    vertices: F32x2,
    normals: F32x3,
    colors: F32x3,
    faces: I32x2,
    eye: F32x1,
    face: I32x2,
    barycentric: F32x3,
    background: F32x1,
    ambient: ti.f32,
    factor: ti.i32,
    rgb: F32x3,
    alpha: F32x2,
):
    """normals, colors (F, 3, 3): per corner. A light at the eye plus ambient light; a pixel is the mean of its samples."""
    for y in range(alpha.shape[0]):
        for x in range(alpha.shape[1]):
            total = tm.vec3(0.0)
            covered = 0.0
            for j in range(factor):
                for i in range(factor):
                    f = face[y * factor + j, x * factor + i]
                    if f >= 0:
                        position, normal, color = tm.vec3(0.0), tm.vec3(0.0), tm.vec3(0.0)
                        for k in ti.static(range(3)):
                            w = barycentric[y * factor + j, x * factor + i, k]
                            v = faces[f, k]
                            position += w * tm.vec3(vertices[v, 0], vertices[v, 1], vertices[v, 2])
                            normal += w * tm.vec3(normals[f, k, 0], normals[f, k, 1], normals[f, k, 2])
                            color += w * tm.vec3(colors[f, k, 0], colors[f, k, 1], colors[f, k, 2])
                        to_eye = tm.vec3(eye[0], eye[1], eye[2]) - position
                        cosine = ti.abs(normal.dot(to_eye)) / ti.max(normal.norm() * to_eye.norm(), 1e-12)
                        total += color * (ambient + (1.0 - ambient) * cosine)
                        covered += 1.0
            share = 1.0 / ti.cast(factor * factor, ti.f32)
            alpha[y, x] = covered * share
            for c in ti.static(range(3)):
                rgb[c, y, x] = total[c] * share + (1.0 - covered * share) * background[c]
