"""Gaussians from the frame of their triangle to the world (GaussianAvatars, section 3.2), forward and adjoint.

World Gaussians are packed one field after the other: means 3N, quaternions 4N, scales 3N. So are the gradients of the
local ones, followed by those of the frames in the order of frames.py.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.rotations import (
    conjugate,
    inverse_length,
    multiply,
    normalise_adjoint,
)
from taichi_avatars.kernels.types import BoundGradient, F32x1, I32x1, mat3, vec3, vec4


@ti.func
def read3(a: ti.template(), at):
    return vec3(a[at], a[at + 1], a[at + 2])


@ti.func
def read4(a: ti.template(), at):
    return vec4(a[at], a[at + 1], a[at + 2], a[at + 3])


@ti.func
def load3(a: ti.template(), i):
    return read3(a, 3 * i)


@ti.func
def load4(a: ti.template(), i):
    return read4(a, 4 * i)


@ti.func
def load9(a: ti.template(), i):
    return mat3([[a[9 * i + 3 * r + c] for c in ti.static(range(3))] for r in ti.static(range(3))])


@ti.kernel
def bind(
    means: F32x1, quats: F32x1, exp_scales: F32x1, binding: I32x1,
    rotation: F32x1, triangle_scale: F32x1, center: F32x1, frame_quat: F32x1, out: F32x1,
):  # fmt: skip
    n = binding.shape[0]
    for i in range(n):
        f = binding[i]
        s = triangle_scale[f]  # k of the paper
        mean = s * (load9(rotation, f) @ load3(means, i)) + load3(center, f)
        q = load4(quats, i)
        world_q = multiply(load4(frame_quat, f), q * inverse_length(q))
        for k in ti.static(range(3)):
            out[3 * i + k] = mean[k]
            out[7 * n + 3 * i + k] = s * exp_scales[3 * i + k]
        for k in ti.static(range(4)):
            out[3 * n + 4 * i + k] = world_q[k]


@ti.kernel
def bind_adjoint(
    means: F32x1,
    quats: F32x1,
    exp_scales: F32x1,
    binding: I32x1,
    users: I32x1,
    rotation: F32x1,
    triangle_scale: F32x1,
    frame_quat: F32x1,
    g_means: F32x1,
    g_quats: F32x1,
    g_scales: F32x1,
    records: F32x1,
    out: F32x1,
):
    """First every Gaussian, in memory order; then every triangle sums what its own Gaussians stored in `records`.

    A record is a row of `types.BoundGradient`.
    """
    n, n_faces = binding.shape[0], triangle_scale.shape[0]
    for i in range(n):
        f = binding[i]
        s, mean, g_mean = triangle_scale[f], load3(means, i), load3(g_means, i)
        g_local = s * (load9(rotation, f).transpose() @ g_mean)
        q = load4(quats, i)
        inverse = inverse_length(q)
        q = q * inverse
        g_q = load4(g_quats, i)
        g_frame_quat = multiply(g_q, conjugate(q))
        g_q = normalise_adjoint(q, inverse, multiply(conjugate(load4(frame_quat, f)), g_q))
        g_s, own = 0.0, BoundGradient.SIZE * i
        for c in ti.static(range(3)):
            g_scale = g_scales[3 * i + c] * exp_scales[3 * i + c]
            g_s += g_scale
            out[3 * i + c] = g_local[c]
            out[7 * n + 3 * i + c] = s * g_scale
            records[own + BoundGradient.G_MEAN + c] = g_mean[c]
            records[own + BoundGradient.MEAN + c] = mean[c]
        records[own + BoundGradient.G_SCALE] = g_s
        for c in ti.static(range(4)):
            out[3 * n + 4 * i + c] = g_q[c]
            records[own + BoundGradient.G_QUAT + c] = g_frame_quat[c]
    at = 10 * n
    for f in range(n_faces):
        outer, g_s, g_t, g_q = mat3(0.0), 0.0, vec3(0.0), vec4(0.0)
        for k in range(users[f], users[f + 1]):
            record = BoundGradient.SIZE * users[k]
            g_mean = read3(records, record + BoundGradient.G_MEAN)
            g_t += g_mean
            g_s += records[record + BoundGradient.G_SCALE]
            outer += g_mean.outer_product(read3(records, record + BoundGradient.MEAN))
            g_q += read4(records, record + BoundGradient.G_QUAT)
        for c in ti.static(range(9)):
            g_s += rotation[9 * f + c] * outer[c // 3, c % 3]
            out[at + 9 * f + c] = triangle_scale[f] * outer[c // 3, c % 3]
        out[at + 9 * n_faces + f] = g_s
        for c in ti.static(range(3)):
            out[at + 10 * n_faces + 3 * f + c] = g_t[c]
        for c in ti.static(range(4)):
            out[at + 13 * n_faces + 4 * f + c] = g_q[c]
