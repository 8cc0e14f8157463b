"""World Gaussians to screen splats: EWA projection (Zwicker et al. 2001, eq. 31), colour, radius; and the adjoint.

A splat is a row of SPLAT floats, differentiable unless said:
    0 x  1 y           2D mean, pixels
    2 a  3 b  4 c      conic: q = a dx^2 + 2 b dx dy + c dy^2
    5                  opacity, 0 where culled
    6  7  8            colour
    9                  view depth, metres
    10 11              half width and half height of the region where alpha reaches 1/255, pixels (not differentiable)
"""

import taichi as ti
from taichi.math import mat3, vec3, vec4

from taichi_avatars.kernels import sh as harmonics
from taichi_avatars.kernels.tasks import TASK

SPLAT = 12
CHUNK = 256  # Gaussians per task; the pose's gradient is summed per chunk, in a fixed order, so that it repeats bit by bit
POSE = 15  # gradient to the rotation (9, by rows), the translation (3) and the camera centre (3)

MIN_ALPHA = 1.0 / 255.0
LOW_PASS = 0.3  # pixels^2 added to the diagonal of the 2D covariance

F32x1 = ti.types.ndarray(dtype=ti.f32, ndim=1)
F32x2 = ti.types.ndarray(dtype=ti.f32, ndim=2)
I32x1 = ti.types.ndarray(dtype=ti.i32, ndim=1)

# A camera comes as one array: 0-8 rotation by rows, 9-11 translation, 12-14 centre, 15 fx, 16 fy, 17 cx, 18 cy,
# 19 width, 20 height, 21 near.
View = ti.types.struct(
    R=mat3, t=vec3, center=vec3, fx=ti.f32, fy=ti.f32, cx=ti.f32, cy=ti.f32, w=ti.f32, h=ti.f32, near=ti.f32
)  # fmt: skip
# What forward and adjoint both need: view position p, slopes u v, clamped slopes uc vc, unit quaternion q and its norm before,
# rotation R; and by rows J W (j0, j1), J W R (r0, r1), J W R S (b0, b1).
Footprint = ti.types.struct(
    p=vec3, u=ti.f32, v=ti.f32, uc=ti.f32, vc=ti.f32, q=vec4, norm=ti.f32, R=mat3,
    j0=vec3, j1=vec3, r0=vec3, r1=vec3, b0=vec3, b1=vec3,
)  # fmt: skip
PoseGradient = ti.types.struct(R=mat3, t=vec3, center=vec3)


@ti.func
def read3(a: ti.template(), i):
    return vec3(a[i, 0], a[i, 1], a[i, 2])


@ti.func
def read_view(c: ti.template()):
    R = mat3(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
    t, center = vec3(c[9], c[10], c[11]), vec3(c[12], c[13], c[14])
    return View(R=R, t=t, center=center, fx=c[15], fy=c[16], cx=c[17], cy=c[18], w=c[19], h=c[20], near=c[21])


@ti.func
def rotation_matrix(q):
    w, x, y, z = q[0], q[1], q[2], q[3]
    return mat3(
        1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y),
    )  # fmt: skip


@ti.func
def rotation_matrix_adjoint(q, g):
    """Gradient to the unit quaternion q from the gradient g to its matrix."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    return 2.0 * vec4(
        x * (g[2, 1] - g[1, 2]) + y * (g[0, 2] - g[2, 0]) + z * (g[1, 0] - g[0, 1]),
        w * (g[2, 1] - g[1, 2]) + y * (g[0, 1] + g[1, 0]) + z * (g[0, 2] + g[2, 0]) - 2.0 * x * (g[1, 1] + g[2, 2]),
        w * (g[0, 2] - g[2, 0]) + x * (g[0, 1] + g[1, 0]) + z * (g[1, 2] + g[2, 1]) - 2.0 * y * (g[0, 0] + g[2, 2]),
        w * (g[1, 0] - g[0, 1]) + x * (g[0, 2] + g[2, 0]) + y * (g[1, 2] + g[2, 1]) - 2.0 * z * (g[0, 0] + g[1, 1]),
    )


@ti.func
def footprint(view, mean, quat, scale):
    """The Gaussian's way to the screen; valid only where p.z > near."""
    p = view.R @ mean + view.t
    iz = 1.0 / p.z
    u, v = p.x * iz, p.y * iz
    margin_x, margin_y = 0.15 * view.w, 0.15 * view.h
    uc = ti.min(ti.max(u, (-view.cx - margin_x) / view.fx), (view.w - view.cx + margin_x) / view.fx)
    vc = ti.min(ti.max(v, (-view.cy - margin_y) / view.fy), (view.h - view.cy + margin_y) / view.fy)
    norm = ti.sqrt(quat.dot(quat))
    q = quat / ti.max(norm, 1e-20)
    R = rotation_matrix(q)
    back = vec3(view.R[2, 0], view.R[2, 1], view.R[2, 2])
    j0 = (view.fx * iz) * (vec3(view.R[0, 0], view.R[0, 1], view.R[0, 2]) - uc * back)
    j1 = (view.fy * iz) * (vec3(view.R[1, 0], view.R[1, 1], view.R[1, 2]) - vc * back)
    r0, r1 = R.transpose() @ j0, R.transpose() @ j1
    return Footprint(p=p, u=u, v=v, uc=uc, vc=vc, q=q, norm=norm, R=R, j0=j0, j1=j1, r0=r0, r1=r1, b0=r0 * scale, b1=r1 * scale)


@ti.func
def screen_radius(x, y, a, b, c, det, view):
    """The radius that decides visibility: 3 sigma of the longer axis, 0 where its square touches no 16x16 tile of the image."""
    mid = 0.5 * (a + c)
    radius = ti.ceil(3.0 * ti.sqrt(mid + ti.sqrt(ti.max(0.1, mid * mid - det))))
    left, right = (x - 0.5 - radius) / 16.0, (x - 0.5 + radius + 15.0) / 16.0
    top, bottom = (y - 0.5 - radius) / 16.0, (y - 0.5 + radius + 15.0) / 16.0
    # Whole tiles, rounded towards 0 and clamped to the grid; the extremes are clamped first, since a huge float is no integer.
    nx, ny = ti.ceil(view.w / 16.0), ti.ceil(view.h / 16.0)
    across = ti.min(ti.floor(ti.max(right, 0.0)), nx) - ti.min(ti.floor(ti.max(left, 0.0)), nx)
    down = ti.min(ti.floor(ti.max(bottom, 0.0)), ny) - ti.min(ti.floor(ti.max(top, 0.0)), ny)
    return ti.select(across * down > 0.0, radius, 0.0)


@ti.kernel
def project(
    degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x2, quats: F32x2, scales: F32x2, opacities: F32x1,
    sh_base: F32x2, sh_rest: F32x2, splats: F32x2, radii: I32x1,
):  # fmt: skip
    ti.loop_config(block_dim=CHUNK)
    for i in range(means.shape[0]):
        view = read_view(camera)
        mean = read3(means, i)
        f = footprint(view, mean, vec4(quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]), read3(scales, i))
        radius = 0
        for k in ti.static(range(SPLAT)):
            splats[i, k] = 0.0
        if f.p.z > view.near:
            a, b, c = f.b0.dot(f.b0), f.b0.dot(f.b1), f.b1.dot(f.b1)
            cross = f.b0.cross(f.b1)
            det = cross.dot(cross) + LOW_PASS * (a + c) + LOW_PASS * LOW_PASS  # stable for needles, where a c - b^2 cancels
            a += LOW_PASS
            c += LOW_PASS
            x, y = view.fx * f.u + view.cx, view.fy * f.v + view.cy
            d = (mean - view.center).normalized()
            rgb = ti.max(harmonics.color(sh_base, sh_rest, sh_at, i, degree, d), 0.0)
            radius = ti.cast(ti.min(screen_radius(x, y, a, b, c, det, view), 1e9), ti.i32)
            opacity = opacities[i]
            # alpha >= 1/255 where q <= 2 ln(255 opacity)
            reach = ti.sqrt(2.0 * ti.log(ti.max(opacity / MIN_ALPHA, 1.0)))
            splats[i, 0], splats[i, 1] = x, y
            splats[i, 2], splats[i, 3], splats[i, 4] = c / det, -b / det, a / det
            splats[i, 5] = opacity
            splats[i, 6], splats[i, 7], splats[i, 8] = rgb.x, rgb.y, rgb.z
            splats[i, 9] = f.p.z
            splats[i, 10], splats[i, 11] = reach * ti.sqrt(a), reach * ti.sqrt(c)
        radii[i] = radius


@ti.func
def gaussian_adjoint(
    view, degree, sh_at, i, means: ti.template(), quats: ti.template(), scales: ti.template(), sh_rest: ti.template(),
    splats: ti.template(), grad_splats: ti.template(), grad_world: ti.template(),
    grad_base: ti.template(), grad_rest: ti.template(),
):  # fmt: skip
    """One Gaussian: writes its own gradients, returns what it gives to the pose's."""
    pose = PoseGradient(R=mat3(0.0), t=vec3(0.0), center=vec3(0.0))
    mean, scale = read3(means, i), read3(scales, i)
    f = footprint(view, mean, vec4(quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3]), scale)
    g_mean, g_scale, g_quat, g_color, d = vec3(0.0), vec3(0.0), vec4(0.0), vec3(0.0), vec3(0.0)
    touched = 0.0
    for k in ti.static(range(10)):
        touched += ti.abs(grad_splats[i, k])
    if f.p.z > view.near and touched > 0.0:
        # Conic to covariance: d(S^-1) = -S^-1 dS S^-1
        a, b, c = splats[i, 2], splats[i, 3], splats[i, 4]
        ga, gb, gc = grad_splats[i, 2], grad_splats[i, 3], grad_splats[i, 4]
        h00 = -(a * a * ga + a * b * gb + b * b * gc)
        h01 = -(a * b * ga + 0.5 * (a * c + b * b) * gb + b * c * gc)
        h11 = -(b * b * ga + b * c * gb + c * c * gc)
        g_b0, g_b1 = 2.0 * (h00 * f.b0 + h01 * f.b1), 2.0 * (h11 * f.b1 + h01 * f.b0)
        g_scale = g_b0 * f.r0 + g_b1 * f.r1
        g_r0, g_r1 = g_b0 * scale, g_b1 * scale
        g_R = f.j0.outer_product(g_r0) + f.j1.outer_product(g_r1)
        g_q = rotation_matrix_adjoint(f.q, g_R)
        g_quat = (g_q - f.q * f.q.dot(g_q)) / ti.max(f.norm, 1e-20)
        g_j0, g_j1 = f.R @ g_r0, f.R @ g_r1

        iz = 1.0 / f.p.z
        back = vec3(view.R[2, 0], view.R[2, 1], view.R[2, 2])
        fx, fy = view.fx * iz, view.fy * iz
        g_u, g_v = view.fx * grad_splats[i, 0], view.fy * grad_splats[i, 1]
        if f.u == f.uc:  # cut where clamped
            g_u -= fx * g_j0.dot(back)
        if f.v == f.vc:
            g_v -= fy * g_j1.dot(back)
        g_z = grad_splats[i, 9] - iz * (g_j0.dot(f.j0) + g_j1.dot(f.j1) + g_u * f.u + g_v * f.v)
        g_p = vec3(g_u * iz, g_v * iz, g_z)

        away = mean - view.center
        distance = away.norm()
        d = away / distance
        for channel in ti.static(range(3)):
            if splats[i, 6 + channel] > 0.0:  # cut where clamped
                g_color[channel] = grad_splats[i, 6 + channel]
        g_d = harmonics.direction_gradient(sh_rest, sh_at, i, degree, d, g_color)
        g_away = (g_d - d * d.dot(g_d)) / distance

        g_mean = view.R.transpose() @ g_p + g_away
        pose.t = g_p
        pose.center = -g_away
        pose.R = g_p.outer_product(mean)
        rows = ti.Matrix.rows([fx * g_j0, fy * g_j1, -fx * f.uc * g_j0 - fy * f.vc * g_j1])
        pose.R += rows
    for k in ti.static(range(3)):
        grad_world[i, k] = g_mean[k]
        grad_world[i, 7 + k] = g_scale[k]
    for k in ti.static(range(4)):
        grad_world[i, 3 + k] = g_quat[k]
    grad_world[i, 10] = grad_splats[i, 5] * ti.select(f.p.z > view.near, 1.0, 0.0)
    harmonics.write_gradient(grad_base, grad_rest, sh_at, i, degree, d, g_color)
    return pose


@ti.func
def write_pose(grad_pose: ti.template(), row, pose):
    for r in ti.static(range(3)):
        for k in ti.static(range(3)):
            grad_pose[row, 3 * r + k] = pose.R[r, k]
        grad_pose[row, 9 + r] = pose.t[r]
        grad_pose[row, 12 + r] = pose.center[r]


@ti.kernel
def project_adjoint(
    degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x2, quats: F32x2, scales: F32x2, sh_rest: F32x2,
    splats: F32x2, grad_splats: F32x2, grad_world: F32x2, grad_base: F32x2, grad_rest: F32x2, grad_pose: F32x2,
):  # fmt: skip
    """grad_world (N,11): mean 0-2, quaternion 3-6, scale 7-9, opacity 10. grad_pose (chunks, POSE): a sum per chunk."""
    ti.loop_config(block_dim=1)
    for step in range(grad_pose.shape[0] * TASK):
        if step % TASK != 0:
            continue
        chunk = step // TASK
        view = read_view(camera)
        total = PoseGradient(R=mat3(0.0), t=vec3(0.0), center=vec3(0.0))
        for i in range(chunk * CHUNK, ti.min((chunk + 1) * CHUNK, means.shape[0])):
            own = gaussian_adjoint(
                view, degree, sh_at, i, means, quats, scales, sh_rest, splats, grad_splats, grad_world, grad_base, grad_rest
            )
            total.R += own.R
            total.t += own.t
            total.center += own.center
        write_pose(grad_pose, chunk, total)


@ti.kernel
def project_adjoint_gpu(
    degree: ti.i32, sh_at: ti.i32, camera: F32x1, means: F32x2, quats: F32x2, scales: F32x2, sh_rest: F32x2,
    splats: F32x2, grad_splats: F32x2, grad_world: F32x2, grad_base: F32x2, grad_rest: F32x2, grad_pose: F32x2,
):  # fmt: skip
    """The same with a thread per Gaussian. grad_pose (N, POSE)."""
    for i in range(means.shape[0]):
        view = read_view(camera)
        own = gaussian_adjoint(
            view, degree, sh_at, i, means, quats, scales, sh_rest, splats, grad_splats, grad_world, grad_base, grad_rest
        )
        write_pose(grad_pose, i, own)
