"""Gaussians from the frame of their triangle into the world (GaussianAvatars, section 3.2), forward and adjoint.

World Gaussians are packed one field after the other: means 3N, quaternions 4N, scales 3N. So are the gradients of the
local ones, and behind them those of the frames in the order of frames.py.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.rotations import (
    conjugate,
    inverse_length,
    mat3,
    multiply,
    normalise_adjoint,
    vec3,
    vec4,
)

F32 = ti.types.ndarray(dtype=ti.f32, ndim=1)
I32 = ti.types.ndarray(dtype=ti.i32, ndim=1)


@ti.func
def load3(a: ti.template(), i):
    return vec3(a[3 * i], a[3 * i + 1], a[3 * i + 2])


@ti.func
def load4(a: ti.template(), i):
    return vec4(a[4 * i], a[4 * i + 1], a[4 * i + 2], a[4 * i + 3])


@ti.func
def load9(a: ti.template(), i):
    return mat3([[a[9 * i + 3 * r + c] for c in ti.static(range(3))] for r in ti.static(range(3))])


@ti.kernel
def bind(
    means: F32, quats: F32, exp_scales: F32, binding: I32, rotation: F32, scale: F32, center: F32, frame_quat: F32, out: F32
):
    n = binding.shape[0]
    for i in range(n):
        f = binding[i]
        s = scale[f]
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
    means: F32,
    quats: F32,
    exp_scales: F32,
    binding: I32,
    users: I32,
    rotation: F32,
    scale: F32,
    frame_quat: F32,
    g_means: F32,
    g_quats: F32,
    g_scales: F32,
    records: F32,
    out: F32,
):
    """First every Gaussian, in the order of memory; then every triangle sums up what its own Gaussians left in `records`.

    A record is a cache line of 16: gradients of world mean and scale, local mean, gradient of the frame's quaternion.
    """
    n, n_faces = binding.shape[0], scale.shape[0]
    for i in range(n):
        f = binding[i]
        s, mean, g_mean = scale[f], load3(means, i), load3(g_means, i)
        g_local = s * (load9(rotation, f).transpose() @ g_mean)
        q = load4(quats, i)
        inverse = inverse_length(q)
        q = q * inverse
        g_q = load4(g_quats, i)
        g_frame_quat = multiply(g_q, conjugate(q))
        g_q = normalise_adjoint(q, inverse, multiply(conjugate(load4(frame_quat, f)), g_q))
        g_s = 0.0
        for c in ti.static(range(3)):
            g_scale = g_scales[3 * i + c] * exp_scales[3 * i + c]
            g_s += g_scale
            out[3 * i + c] = g_local[c]
            out[7 * n + 3 * i + c] = s * g_scale
            records[16 * i + c] = g_mean[c]
            records[16 * i + 4 + c] = mean[c]
        records[16 * i + 3] = g_s
        for c in ti.static(range(4)):
            out[3 * n + 4 * i + c] = g_q[c]
            records[16 * i + 8 + c] = g_frame_quat[c]
    at = 10 * n
    for f in range(n_faces):
        outer, g_s, g_t, g_q = mat3(0.0), 0.0, vec3(0.0), vec4(0.0)
        for k in range(users[f], users[f + 1]):
            i = users[k]
            g_mean = vec3(records[16 * i], records[16 * i + 1], records[16 * i + 2])
            g_t += g_mean
            g_s += records[16 * i + 3]
            outer += g_mean.outer_product(vec3(records[16 * i + 4], records[16 * i + 5], records[16 * i + 6]))
            g_q += load4(records, 4 * i + 2)
        for c in ti.static(range(9)):
            g_s += rotation[9 * f + c] * outer[c // 3, c % 3]
            out[at + 9 * f + c] = scale[f] * outer[c // 3, c % 3]
        out[at + 9 * n_faces + f] = g_s
        for c in ti.static(range(3)):
            out[at + 10 * n_faces + 3 * f + c] = g_t[c]
        for c in ti.static(range(4)):
            out[at + 13 * n_faces + 4 * f + c] = g_q[c]
