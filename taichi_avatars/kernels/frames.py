"""Triangle frames (GaussianAvatars, section 3.1): rotation, scale and centre of every triangle, forward and adjoint.

Frames are packed one field after the other, in the order rotation, scale, center, quat: 9F + F + 3F + 4F numbers.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.rotations import (
    column,
    columns,
    inverse_length,
    known,
    normalise_adjoint,
    quat_from_matrix,
    quat_from_matrix_adjoint,
)
from taichi_avatars.kernels.types import F32x1, F32x2, I32x1, I32x2, mat3, vec3, vec4


@ti.func
def corner(vertices: ti.template(), v):
    return vec3(vertices[v, 0], vertices[v, 1], vertices[v, 2])


@ti.func
def axes(e1, e2):
    """The columns a0, a1, a2 of R, and the inverse lengths that made a0 and a1."""
    i0 = inverse_length(e1)
    a0 = e1 * i0
    c = a0.cross(e2)
    i1 = inverse_length(c)
    a1 = c * i1
    return a0, a1, a0.cross(a1), i0, i1


@ti.kernel
def frames(vertices: F32x2, faces: I32x2, out: F32x1):
    n = faces.shape[0]
    for f in range(n):
        v0 = corner(vertices, faces[f, 0])
        v1 = corner(vertices, faces[f, 1])
        v2 = corner(vertices, faces[f, 2])
        e1, e2 = v1 - v0, v2 - v0
        a0, a1, a2, _, _ = axes(e1, e2)
        rotation = columns(a0, a1, a2)
        q = quat_from_matrix(rotation)
        center = (v0 + v1 + v2) * (1.0 / 3.0)
        for i in ti.static(range(9)):
            out[9 * f + i] = rotation[i // 3, i % 3]
        out[9 * n + f] = 0.5 * (ti.sqrt(e1.dot(e1)) + ti.abs(a2.dot(e2)))
        for i in ti.static(range(3)):
            out[10 * n + 3 * f + i] = center[i]
        for i in ti.static(range(4)):
            out[13 * n + 4 * f + i] = q[i]


@ti.kernel
def frames_adjoint(
    vertices: F32x2,
    faces: I32x2,
    g_rotation: F32x1,
    g_scale: F32x1,
    g_center: F32x1,
    g_quat: F32x1,
    users: I32x1,
    out: F32x1,
    n_vertices: ti.i32,
):
    """out: the gradient of the vertices (3V), then scratch space for the gradient of every corner (9F)."""
    base = 3 * n_vertices
    for f in range(faces.shape[0]):
        v0 = corner(vertices, faces[f, 0])
        e1 = corner(vertices, faces[f, 1]) - v0
        e2 = corner(vertices, faces[f, 2]) - v0
        a0, a1, a2, i0, i1 = axes(e1, e2)
        g = vec4(g_quat[4 * f], g_quat[4 * f + 1], g_quat[4 * f + 2], g_quat[4 * f + 3])
        g_r = quat_from_matrix_adjoint(columns(a0, a1, a2), g)
        g_r += mat3([[g_rotation[9 * f + 3 * i + j] for j in ti.static(range(3))] for i in ti.static(range(3))])
        g_s = 0.5 * g_scale[f]
        g_h = g_s * ti.math.sign(a2.dot(e2))
        g0, g1, g2 = column(g_r, 0), column(g_r, 1), column(g_r, 2) + g_h * e2
        g0 += a1.cross(g2)
        g1 += g2.cross(a0)
        g_c = normalise_adjoint(a1, i1, g1)
        g0 += e2.cross(g_c)
        g_e2 = g_h * a2 + g_c.cross(a0)
        g_e1 = normalise_adjoint(a0, i0, g0) + g_s * known(i0) * a0
        g_t = vec3(g_center[3 * f], g_center[3 * f + 1], g_center[3 * f + 2]) * (1.0 / 3.0)
        for i in ti.static(range(3)):
            out[base + 9 * f + i] = g_t[i] - g_e1[i] - g_e2[i]
            out[base + 9 * f + 3 + i] = g_t[i] + g_e1[i]
            out[base + 9 * f + 6 + i] = g_t[i] + g_e2[i]
    for v in range(n_vertices):
        total = vec3(0.0)
        for k in range(users[v], users[v + 1]):
            at = base + 3 * users[k]
            total += vec3(out[at], out[at + 1], out[at + 2])
        for i in ti.static(range(3)):
            out[3 * v + i] = total[i]
