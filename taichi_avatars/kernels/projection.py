"""World Gaussians to screen splats: EWA projection (Zwicker et al. 2001, eq. 31), colour, radius; and the adjoint.

A splat is a row of `types.Splat`, differentiable but for its half width and half height: 2D mean, conic a, b, c with
q = a dx^2 + 2 b dx dy + c dy^2, opacity (0 where culled), colour, view depth.

All tables are flat. Everything between loads and stores is written once, for scalars and for 16 Gaussians at once (`wide.py`).
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels import sh as harmonics
from taichi_avatars.kernels.lanes import LANES, Vec, lane_sum
from taichi_avatars.kernels.tasks import TASK, TILE_STRIDE
from taichi_avatars.kernels.tiles import MIN_ALPHA
from taichi_avatars.kernels.types import Camera, F32x1, I32x1, PoseGradient, Splat, WorldGradient
from taichi_avatars.kernels.wide import (
    by_parts,
    cross,
    dot,
    load,
    load3,
    log,
    minus,
    plus,
    rotated,
    rotated_back,
    store,
    store3,
    times,
    triple,
    where,
)

CHUNK = 256  # Gaussians per task; the pose's gradient is summed per chunk, in a fixed order, so that it is bit-exact

PUBLISHED_TILE = 16.0  # pixels along each side of the tiles by which Kerbl et al.'s rasterizer decides what is visible
MARGIN = 0.15  # of the image's size: how far outside the image x/z and y/z are clamped in the Jacobian


@ti.func
def read_view(c: ti.template()):
    """A camera from its array."""
    R = triple(
        load3(c, 0, 0, Camera.ROTATION, False), load3(c, 0, 0, Camera.ROTATION + 3, False),
        load3(c, 0, 0, Camera.ROTATION + 6, False),
    )  # fmt: skip
    t, center = load3(c, 0, 0, Camera.TRANSLATION, False), load3(c, 0, 0, Camera.CENTER, False)
    return ti.Struct(
        R=R, t=t, center=center, fx=c[Camera.FX], fy=c[Camera.FY], cx=c[Camera.CX], cy=c[Camera.CY],
        w=c[Camera.WIDTH], h=c[Camera.HEIGHT], near=c[Camera.NEAR], low_pass=c[Camera.LOW_PASS],
    )  # fmt: skip


@ti.func
def rotation_rows(w, v):
    """Rows of the rotation matrix of the unit quaternion w, v."""
    x, y, z = v.x, v.y, v.z
    return triple(
        triple(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        triple(2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        triple(2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@ti.func
def rotation_adjoint(w, v, g):
    """Gradients with respect to w and v of a unit quaternion, from that with respect to its matrix, given by rows."""
    x, y, z = v.x, v.y, v.z
    twist = triple(g.z.y - g.y.z, g.x.z - g.z.x, g.y.x - g.x.y)
    xy, xz, yz = g.x.y + g.y.x, g.x.z + g.z.x, g.y.z + g.z.y
    g_x = w * twist.x + y * xy + z * xz - 2.0 * x * (g.y.y + g.z.z)
    g_y = w * twist.y + x * xy + z * yz - 2.0 * y * (g.x.x + g.z.z)
    g_z = w * twist.z + x * xz + y * yz - 2.0 * z * (g.x.x + g.y.y)
    return 2.0 * dot(v, twist), times(triple(g_x, g_y, g_z), 2.0)


@ti.func
def footprint(view, means: ti.template(), quats: ti.template(), scales: ti.template(), i, wide: ti.template()):
    """Intermediate values of Gaussian i, with the letters of docs/method.md, "5 Projection"; matrices by rows."""
    mean, scale = load3(means, i, 3, 0, wide), load3(scales, i, 3, 0, wide)
    p = plus(rotated(view.R, mean), view.t)
    shown = ti.select(p.z > view.near, 1.0, 0.0)
    iz = 1.0 / ti.select(shown > 0.0, p.z, 1.0)
    u, v = p.x * iz, p.y * iz
    margin_x, margin_y = MARGIN * view.w, MARGIN * view.h
    uc = ti.min(ti.max(u, (0.0 - view.cx - margin_x) / view.fx), (view.w - view.cx + margin_x) / view.fx)
    vc = ti.min(ti.max(v, (0.0 - view.cy - margin_y) / view.fy), (view.h - view.cy + margin_y) / view.fy)
    w, q = load(quats, i, 4, 0, wide), load3(quats, i, 4, 1, wide)
    norm = ti.max(ti.sqrt(w * w + dot(q, q)), 1e-20)
    w, q = w / norm, times(q, 1.0 / norm)
    R = rotation_rows(w, q)
    fx, fy = view.fx * iz, view.fy * iz
    W = view.R
    j0 = triple(fx * (W.x.x - uc * W.z.x), fx * (W.x.y - uc * W.z.y), fx * (W.x.z - uc * W.z.z))
    j1 = triple(fy * (W.y.x - vc * W.z.x), fy * (W.y.y - vc * W.z.y), fy * (W.y.z - vc * W.z.z))
    r0, r1 = rotated_back(R, j0), rotated_back(R, j1)
    return ti.Struct(
        shown=shown,  # 1 where p.z > near, else 0, and then no other field is valid
        mean=mean,  # mu'
        scale=scale,  # s'
        p=p,  # W mu' + t
        iz=iz,  # 1 / p.z
        u=u,  # x / z
        v=v,  # y / z
        uc=uc,  # the same, clamped for J
        vc=vc,
        w=w,  # r' / |r'|, the real part
        q=q,  # and the imaginary one
        norm=norm,  # |r'|
        R=R,  # the matrix of r'
        fx=fx,  # fx / z
        fy=fy,  # fy / z
        j0=j0,  # J W
        j1=j1,
        r0=r0,  # J W R
        r1=r1,
        b0=by_parts(r0, scale),  # B = J W R S
        b1=by_parts(r1, scale),
    )


@ti.func
def visible_radius(x, y, a, c, det, view):
    """3 sigma of the longer axis, rounded up; 0 if its square touches no tile of the published rasterizer's grid.

    Losses and density control take it as visibility. What is drawn is decided in `tiles.py`, on tiles of another size.
    """
    mid = 0.5 * (a + c)
    radius = ti.ceil(3.0 * ti.sqrt(mid + ti.sqrt(ti.max(mid * mid - det, 0.1))))
    left, right = (x - 0.5 - radius) / PUBLISHED_TILE, (x - 0.5 + radius + (PUBLISHED_TILE - 1.0)) / PUBLISHED_TILE
    top, bottom = (y - 0.5 - radius) / PUBLISHED_TILE, (y - 0.5 + radius + (PUBLISHED_TILE - 1.0)) / PUBLISHED_TILE
    # Whole tiles, rounded towards 0 and clamped to the grid.
    nx, ny = ti.ceil(view.w / PUBLISHED_TILE), ti.ceil(view.h / PUBLISHED_TILE)
    across = ti.min(ti.floor(ti.max(right, 0.0)), nx) - ti.min(ti.floor(ti.max(left, 0.0)), nx)
    down = ti.min(ti.floor(ti.max(bottom, 0.0)), ny) - ti.min(ti.floor(ti.max(top, 0.0)), ny)
    return ti.select(across * down > 0.0, ti.min(radius, 1e9), 0.0)


@ti.func
def project_at(
    i, degree, sh_at, base_stride, rest_stride, camera: ti.template(), means: ti.template(), quats: ti.template(),
    scales: ti.template(), opacities: ti.template(), sh_base: ti.template(), sh_rest: ti.template(),
    splats: ti.template(), radii: ti.template(), wide: ti.template(),
):  # fmt: skip
    view = read_view(camera)
    f = footprint(view, means, quats, scales, i, wide)
    a, b, c = dot(f.b0, f.b0), dot(f.b0, f.b1), dot(f.b1, f.b1)
    across = cross(f.b0, f.b1)
    blur = view.low_pass
    det = dot(across, across) + blur * (a + c) + blur * blur  # stable for needles, where a c - b^2 cancels
    a = a + blur
    c = c + blur
    x, y = view.fx * f.u + view.cx, view.fy * f.v + view.cy
    away = minus(f.mean, view.center)
    d = times(away, 1.0 / ti.sqrt(ti.max(dot(away, away), 1e-30)))
    rgb = harmonics.color(sh_base, base_stride, sh_rest, rest_stride, sh_at, i, degree, d, wide)
    rgb = where(f.shown, triple(ti.max(rgb.x, 0.0), ti.max(rgb.y, 0.0), ti.max(rgb.z, 0.0)))
    opacity = load(opacities, i, 1, 0, wide)
    # alpha >= 1/255 where q <= 2 ln(255 opacity)
    reach = ti.sqrt(2.0 * log(ti.max(opacity / MIN_ALPHA, 1.0), wide))
    store(splats, i, Splat.SIZE, Splat.X, ti.select(f.shown > 0.0, x, 0.0), wide)
    store(splats, i, Splat.SIZE, Splat.Y, ti.select(f.shown > 0.0, y, 0.0), wide)
    store3(splats, i, Splat.SIZE, Splat.A, where(f.shown, triple(c / det, (0.0 - b) / det, a / det)), wide)
    store(splats, i, Splat.SIZE, Splat.OPACITY, ti.select(f.shown > 0.0, opacity, 0.0), wide)
    store3(splats, i, Splat.SIZE, Splat.RED, rgb, wide)
    store3(splats, i, Splat.SIZE, Splat.DEPTH, where(f.shown, triple(f.p.z, reach * ti.sqrt(a), reach * ti.sqrt(c))), wide)
    radius = ti.select(f.shown > 0.0, visible_radius(x, y, a, c, det, view), 0.0)
    if ti.static(wide):
        for lane in ti.static(range(LANES)):
            radii[i + lane] = ti.cast(radius[lane], ti.i32)
    else:
        radii[i] = ti.cast(radius, ti.i32)


@ti.func
def row_lengths(n, sh_base: ti.template(), sh_rest: ti.template()):
    return sh_base.shape[0] // n, sh_rest.shape[0] // n


@ti.kernel
def project(
    n: ti.i32, degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x1, quats: F32x1, scales: F32x1, opacities: F32x1,
    sh_base: F32x1, sh_rest: F32x1, splats: F32x1, radii: I32x1,
):  # fmt: skip
    """16 Gaussians at once; needs at least 16. The last vector overlaps the previous one and writes the same values again."""
    for step in range((n + LANES - 1) // LANES * TILE_STRIDE):
        if step % TILE_STRIDE != 0:
            continue
        vector = step // TILE_STRIDE
        base_stride, rest_stride = row_lengths(n, sh_base, sh_rest)
        project_at(
            ti.min(vector * LANES, n - LANES), degree, sh_at, base_stride, rest_stride, camera, means, quats, scales,
            opacities, sh_base, sh_rest, splats, radii, True,
        )  # fmt: skip


@ti.kernel
def project_gpu(
    n: ti.i32, degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x1, quats: F32x1, scales: F32x1, opacities: F32x1,
    sh_base: F32x1, sh_rest: F32x1, splats: F32x1, radii: I32x1,
):  # fmt: skip
    """The same with a thread per Gaussian."""
    for i in range(n):
        base_stride, rest_stride = row_lengths(n, sh_base, sh_rest)
        project_at(
            i, degree, sh_at, base_stride, rest_stride, camera, means, quats, scales, opacities, sh_base, sh_rest,
            splats, radii, False,
        )  # fmt: skip


@ti.func
def project_adjoint_at(
    i, degree, sh_at, base_stride, rest_stride, camera: ti.template(), means: ti.template(), quats: ti.template(),
    scales: ti.template(), sh_rest: ti.template(), splats: ti.template(), grad_splats: ti.template(),
    grad_world: ti.template(), grad_base: ti.template(), grad_rest: ti.template(), wide: ti.template(),
):  # fmt: skip
    """Writes a Gaussian's gradients and returns its contribution to the pose's: rows x, y, z of the rotation, t, centre."""
    view = read_view(camera)
    f = footprint(view, means, quats, scales, i, wide)
    # Conic to covariance: d(S^-1) = -S^-1 dS S^-1
    conic, g_conic = load3(splats, i, Splat.SIZE, Splat.A, wide), load3(grad_splats, i, Splat.SIZE, Splat.A, wide)
    a, b, c, ga, gb, gc = conic.x, conic.y, conic.z, g_conic.x, g_conic.y, g_conic.z
    h00 = 0.0 - (a * a * ga + a * b * gb + b * b * gc)
    h01 = 0.0 - (a * b * ga + 0.5 * (a * c + b * b) * gb + b * c * gc)
    h11 = 0.0 - (b * b * ga + b * c * gb + c * c * gc)
    g_b0 = times(plus(times(f.b0, h00), times(f.b1, h01)), 2.0)
    g_b1 = times(plus(times(f.b1, h11), times(f.b0, h01)), 2.0)
    g_scale = plus(by_parts(g_b0, f.r0), by_parts(g_b1, f.r1))
    g_r0, g_r1 = by_parts(g_b0, f.scale), by_parts(g_b1, f.scale)
    g_R = triple(
        plus(times(g_r0, f.j0.x), times(g_r1, f.j1.x)),
        plus(times(g_r0, f.j0.y), times(g_r1, f.j1.y)),
        plus(times(g_r0, f.j0.z), times(g_r1, f.j1.z)),
    )
    g_w, g_q = rotation_adjoint(f.w, f.q, g_R)
    along = f.w * g_w + dot(f.q, g_q)
    g_w, g_q = (g_w - f.w * along) / f.norm, times(minus(g_q, times(f.q, along)), 1.0 / f.norm)
    g_j0, g_j1 = rotated(f.R, g_r0), rotated(f.R, g_r1)

    back = view.R.z
    g_u = view.fx * load(grad_splats, i, Splat.SIZE, Splat.X, wide)
    g_v = view.fy * load(grad_splats, i, Splat.SIZE, Splat.Y, wide)
    g_u = g_u - ti.select(f.u == f.uc, f.fx * dot(g_j0, back), 0.0)  # cut where clamped
    g_v = g_v - ti.select(f.v == f.vc, f.fy * dot(g_j1, back), 0.0)
    g_depth = load(grad_splats, i, Splat.SIZE, Splat.DEPTH, wide)
    g_z = g_depth - f.iz * (dot(g_j0, f.j0) + dot(g_j1, f.j1) + g_u * f.u + g_v * f.v)
    g_p = triple(g_u * f.iz, g_v * f.iz, g_z)

    away = minus(f.mean, view.center)
    nearness = 1.0 / ti.sqrt(ti.max(dot(away, away), 1e-30))
    d = times(away, nearness)
    rgb, g_color = load3(splats, i, Splat.SIZE, Splat.RED, wide), load3(grad_splats, i, Splat.SIZE, Splat.RED, wide)
    g_color = triple(  # cut where clamped
        ti.select(rgb.x > 0.0, g_color.x, 0.0), ti.select(rgb.y > 0.0, g_color.y, 0.0), ti.select(rgb.z > 0.0, g_color.z, 0.0)
    )
    g_d = harmonics.direction_gradient(sh_rest, rest_stride, sh_at, i, degree, d, g_color, wide)
    g_away = where(f.shown, times(minus(g_d, times(d, dot(d, g_d))), nearness))
    g_p = where(f.shown, g_p)
    g_j0, g_j1 = where(f.shown, times(g_j0, f.fx)), where(f.shown, times(g_j1, f.fy))

    store3(grad_world, i, WorldGradient.SIZE, WorldGradient.MEAN, plus(rotated_back(view.R, g_p), g_away), wide)
    store(grad_world, i, WorldGradient.SIZE, WorldGradient.QUAT, ti.select(f.shown > 0.0, g_w, 0.0), wide)
    store3(grad_world, i, WorldGradient.SIZE, WorldGradient.QUAT + 1, where(f.shown, g_q), wide)
    store3(grad_world, i, WorldGradient.SIZE, WorldGradient.SCALE, where(f.shown, g_scale), wide)
    g_opacity = ti.select(f.shown > 0.0, load(grad_splats, i, Splat.SIZE, Splat.OPACITY, wide), 0.0)
    store(grad_world, i, WorldGradient.SIZE, WorldGradient.OPACITY, g_opacity, wide)
    harmonics.write_gradient(grad_base, base_stride, grad_rest, rest_stride, sh_at, i, degree, d, g_color, wide)
    to_back = plus(times(g_j0, f.uc), times(g_j1, f.vc))
    return ti.Struct(
        x=plus(times(f.mean, g_p.x), g_j0), y=plus(times(f.mean, g_p.y), g_j1), z=minus(times(f.mean, g_p.z), to_back),
        t=g_p, center=times(g_away, 0.0 - 1.0),
    )  # fmt: skip


@ti.func
def pose_plus(a, b, share):
    return ti.Struct(
        x=plus(a.x, times(b.x, share)), y=plus(a.y, times(b.y, share)), z=plus(a.z, times(b.z, share)),
        t=plus(a.t, times(b.t, share)), center=plus(a.center, times(b.center, share)),
    )  # fmt: skip


@ti.func
def store_pose(grad_pose: ti.template(), row, pose):
    for k, part in ti.static(enumerate((pose.x, pose.y, pose.z, pose.t, pose.center))):
        store3(grad_pose, row, PoseGradient.SIZE, 3 * k, part, False)


@ti.func
def lane_sum3(a):
    return triple(lane_sum(a.x), lane_sum(a.y), lane_sum(a.z))


@ti.kernel
def project_adjoint(
    n: ti.i32, degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x1, quats: F32x1, scales: F32x1, sh_rest: F32x1,
    splats: F32x1, grad_splats: F32x1, grad_world: F32x1, grad_base: F32x1, grad_rest: F32x1, grad_pose: F32x1,
):  # fmt: skip
    """16 Gaussians at once; needs at least 16. grad_pose: PoseGradient.SIZE numbers per chunk of CHUNK Gaussians."""
    ti.loop_config(block_dim=1)
    for step in range(grad_pose.shape[0] // PoseGradient.SIZE * TASK):
        if step % TASK != 0:
            continue
        chunk = step // TASK
        base_stride, rest_stride = row_lengths(n, grad_base, sh_rest)
        nothing = triple(Vec(0.0), Vec(0.0), Vec(0.0))
        total = ti.Struct(x=nothing, y=nothing, z=nothing, t=nothing, center=nothing)
        first = chunk * CHUNK
        while first < ti.min((chunk + 1) * CHUNK, n):
            i = ti.min(first, n - LANES)  # the last vector overlaps the previous one: Gaussians counted there are skipped
            fresh = ti.select(Vec([float(lane) for lane in range(LANES)]) >= ti.cast(first - i, ti.f32), 1.0, 0.0)
            own = project_adjoint_at(
                i, degree, sh_at, base_stride, rest_stride, camera, means, quats, scales, sh_rest, splats, grad_splats,
                grad_world, grad_base, grad_rest, True,
            )  # fmt: skip
            total = pose_plus(total, own, fresh)
            first += LANES
        whole = ti.Struct(
            x=lane_sum3(total.x), y=lane_sum3(total.y), z=lane_sum3(total.z), t=lane_sum3(total.t),
            center=lane_sum3(total.center),
        )  # fmt: skip
        store_pose(grad_pose, chunk, whole)


@ti.kernel
def project_adjoint_gpu(
    n: ti.i32, degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x1, quats: F32x1, scales: F32x1, sh_rest: F32x1,
    splats: F32x1, grad_splats: F32x1, grad_world: F32x1, grad_base: F32x1, grad_rest: F32x1, grad_pose: F32x1,
):  # fmt: skip
    """The same with a thread per Gaussian. grad_pose: PoseGradient.SIZE numbers per Gaussian."""
    for i in range(n):
        base_stride, rest_stride = row_lengths(n, grad_base, sh_rest)
        own = project_adjoint_at(
            i, degree, sh_at, base_stride, rest_stride, camera, means, quats, scales, sh_rest, splats, grad_splats,
            grad_world, grad_base, grad_rest, False,
        )  # fmt: skip
        store_pose(grad_pose, i, own)
