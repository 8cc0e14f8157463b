"""Quaternions (w,x,y,z) and matrices, with adjoints, for use inside kernels."""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.types import mat3, vec3, vec4

# Below this squared length a vector has no direction: n(x) = x / sqrt(max(x.x, TINY)), and its gradient is cut.
TINY = 1e-20
LONGEST_INVERSE = 0.99999e10  # inverse lengths above this come from the maximum, with a margin for rounding


@ti.func
def inverse_length(x):
    return 1.0 / ti.sqrt(ti.max(x.dot(x), TINY))


@ti.func
def known(inverse):
    """1 if a vector has a direction, 0 if it is too short, from its inverse length."""
    return ti.select(inverse < LONGEST_INVERSE, 1.0, 0.0)


@ti.func
def normalise_adjoint(unit, inverse, g):
    """Gradient of n(x) from its value and the inverse length of x: 0 where x is too short to have a direction."""
    return known(inverse) * inverse * (g - unit * unit.dot(g))


@ti.func
def columns(a, b, c):
    return mat3([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [a[2], b[2], c[2]]])


@ti.func
def column(m, j: ti.template()):
    return vec3(m[0, j], m[1, j], m[2, j])


@ti.func
def multiply(a, b):
    """Quaternion product a b."""
    return vec4(
        a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
        a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
        a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
        a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
    )


@ti.func
def conjugate(q):
    return vec4(q[0], -q[1], -q[2], -q[3])


@ti.func
def quat_branch(m):
    """Which of w, x, y, z is largest in the quaternion of a rotation matrix: the one that is safe to divide by."""
    branch, largest = 0, m[0, 0] + m[1, 1] + m[2, 2]
    for i in ti.static(range(3)):
        t = 2.0 * m[i, i] - m[0, 0] - m[1, 1] - m[2, 2]
        if t > largest:
            branch, largest = i + 1, t
    return branch


@ti.func
def quat_row(m, branch):
    """Row `branch` of the matrix 4 q q^T, which is linear in the rotation matrix of q."""
    row = vec4(1.0 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1])
    if branch == 1:
        row = vec4(m[2, 1] - m[1, 2], 1.0 + m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0])
    elif branch == 2:
        row = vec4(m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], 1.0 - m[0, 0] + m[1, 1] - m[2, 2], m[2, 1] + m[1, 2])
    elif branch == 3:
        row = vec4(m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], 1.0 - m[0, 0] - m[1, 1] + m[2, 2])
    return row


@ti.func
def quat_row_adjoint(g, branch):
    m = mat3([[g[0], -g[3], g[2]], [g[3], g[0], -g[1]], [-g[2], g[1], g[0]]])
    if branch == 1:
        m = mat3([[g[1], g[2], g[3]], [g[2], -g[1], -g[0]], [g[3], g[0], -g[1]]])
    elif branch == 2:
        m = mat3([[-g[2], g[1], g[0]], [g[1], g[2], g[3]], [-g[0], g[3], -g[2]]])
    elif branch == 3:
        m = mat3([[-g[3], -g[0], g[1]], [g[0], -g[3], g[2]], [g[1], g[2], g[3]]])
    return m


@ti.func
def pick(v, branch):
    return ti.select(branch == 0, v[0], ti.select(branch == 1, v[1], ti.select(branch == 2, v[2], v[3])))


@ti.func
def quat_from_matrix(m):
    """The unit quaternion of a rotation matrix, its largest component positive; finite for every matrix."""
    branch = quat_branch(m)
    row = quat_row(m, branch)
    return row * (0.5 / ti.sqrt(pick(row, branch)))


@ti.func
def quat_from_matrix_adjoint(m, g):
    branch = quat_branch(m)
    row = quat_row(m, branch)
    t = pick(row, branch)
    q = row * (0.5 / ti.sqrt(t))
    g_row = g * (0.5 / ti.sqrt(t))
    g_t = -0.5 * g.dot(q) / t
    for i in ti.static(range(4)):
        if i == branch:
            g_row[i] += g_t
    return quat_row_adjoint(g_row, branch)
