"""Spherical harmonics, degree 0 to 3: view-dependent colour and its adjoint (Kerbl et al. 2023, section 4).

Coefficients come as two arrays, by rows: `base`, which begins with band 0, and `rest`, where the bands above begin at column
`at`. So both an avatar's two tensors and one tensor of all bands, given twice, can be read where they lie.
"""

import taichi as ti
from taichi.math import vec3

Basis = ti.types.vector(16, ti.f32)

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


@ti.func
def coefficient(rest: ti.template(), at, i, k: ti.template()):
    """Coefficient k > 0 of Gaussian i."""
    column = at + 3 * (k - 1)
    return vec3(rest[i, column], rest[i, column + 1], rest[i, column + 2])


@ti.func
def basis(d, degree):
    """The 16 basis functions at the unit direction d; those above `degree` are 0."""
    x, y, z = d.x, d.y, d.z
    b = Basis(0.0)
    b[0] = C0
    if degree > 0:
        b[1], b[2], b[3] = -C1 * y, C1 * z, -C1 * x
    if degree > 1:
        b[4], b[5], b[7] = C2[0] * x * y, -C2[0] * y * z, -C2[0] * x * z
        b[6] = C2[1] * (2.0 * z * z - x * x - y * y)
        b[8] = C2[2] * (x * x - y * y)
    if degree > 2:
        b[9] = -C3[0] * y * (3.0 * x * x - y * y)
        b[10] = C3[1] * x * y * z
        b[11] = -C3[2] * y * (4.0 * z * z - x * x - y * y)
        b[12] = C3[3] * z * (2.0 * z * z - 3.0 * x * x - 3.0 * y * y)
        b[13] = -C3[2] * x * (4.0 * z * z - x * x - y * y)
        b[14] = C3[4] * z * (x * x - y * y)
        b[15] = -C3[0] * x * (x * x - 3.0 * y * y)
    return b


@ti.func
def color(base: ti.template(), rest: ti.template(), at, i, degree, d):
    """Colour of Gaussian i seen along the unit direction d, before the clamp at 0."""
    b = basis(d, degree)
    c = vec3(0.5) + b[0] * vec3(base[i, 0], base[i, 1], base[i, 2])
    if degree > 0:
        for k in ti.static(range(1, 4)):
            c += b[k] * coefficient(rest, at, i, k)
    if degree > 1:
        for k in ti.static(range(4, 9)):
            c += b[k] * coefficient(rest, at, i, k)
    if degree > 2:
        for k in ti.static(range(9, 16)):
            c += b[k] * coefficient(rest, at, i, k)
    return c


@ti.func
def direction_gradient(rest: ti.template(), at, i, degree, d, g):
    """Gradient to the direction d (not yet to its length) from the gradient g to the colour."""
    x, y, z = d.x, d.y, d.z
    out = vec3(0.0)
    if degree > 0:
        out += C1 * vec3(
            -coefficient(rest, at, i, 3).dot(g), -coefficient(rest, at, i, 1).dot(g), coefficient(rest, at, i, 2).dot(g)
        )
    if degree > 1:
        s4, s5, s6 = coefficient(rest, at, i, 4).dot(g), coefficient(rest, at, i, 5).dot(g), coefficient(rest, at, i, 6).dot(g)
        s7, s8 = coefficient(rest, at, i, 7).dot(g), coefficient(rest, at, i, 8).dot(g)
        out += C2[0] * vec3(y * s4 - z * s7, x * s4 - z * s5, -y * s5 - x * s7)
        out += C2[1] * s6 * vec3(-2.0 * x, -2.0 * y, 4.0 * z)
        out += C2[2] * s8 * vec3(2.0 * x, -2.0 * y, 0.0)
    if degree > 2:
        s9, s10, s11 = (
            coefficient(rest, at, i, 9).dot(g),
            coefficient(rest, at, i, 10).dot(g),
            coefficient(rest, at, i, 11).dot(g),
        )
        s12, s13, s14 = (
            coefficient(rest, at, i, 12).dot(g),
            coefficient(rest, at, i, 13).dot(g),
            coefficient(rest, at, i, 14).dot(g),
        )
        s15 = coefficient(rest, at, i, 15).dot(g)
        xx, yy, zz = x * x, y * y, z * z
        out += -C3[0] * s9 * vec3(6.0 * x * y, 3.0 * (xx - yy), 0.0)
        out += C3[1] * s10 * vec3(y * z, x * z, x * y)
        out += -C3[2] * s11 * vec3(-2.0 * x * y, 4.0 * zz - xx - 3.0 * yy, 8.0 * y * z)
        out += C3[3] * s12 * vec3(-6.0 * x * z, -6.0 * y * z, 6.0 * zz - 3.0 * xx - 3.0 * yy)
        out += -C3[2] * s13 * vec3(4.0 * zz - 3.0 * xx - yy, -2.0 * x * y, 8.0 * x * z)
        out += C3[4] * s14 * vec3(2.0 * x * z, -2.0 * y * z, xx - yy)
        out += -C3[0] * s15 * vec3(3.0 * (xx - yy), -6.0 * x * y, 0.0)
    return out


@ti.func
def write_gradient(grad_base: ti.template(), grad_rest: ti.template(), at, i, degree, d, g):
    """Gradient of Gaussian i's coefficients: basis(d) times the gradient g to the colour; 0 above `degree`."""
    b = basis(d, degree)
    for channel in ti.static(range(3)):
        grad_base[i, channel] = b[0] * g[channel]
    for k in ti.static(range(1, 16)):
        column = at + 3 * (k - 1)
        if column < grad_rest.shape[1]:
            for channel in ti.static(range(3)):
                grad_rest[i, column + channel] = b[k] * g[channel]
