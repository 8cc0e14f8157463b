"""Spherical harmonics, degree 0 to 3: view-dependent colour and its adjoint (Kerbl et al. 2023, section 4).

Coefficients come as two tables: `base`, whose rows begin with band 0, and `rest`, where the bands above begin at column `at` of
every row. So both an avatar's two tensors and one tensor of all bands, given twice, can be read in place. Directions are
unit vectors; scalars or 16 at once, see `wide.py`.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.wide import load, load3, plus, store, store3, times, triple

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


@ti.func
def band_1(d):
    return C1 * (0.0 - d.y), C1 * d.z, C1 * (0.0 - d.x)


@ti.func
def band_2(d):
    x, y, z = d.x, d.y, d.z
    middle = C2[1] * (2.0 * z * z - x * x - y * y)
    return C2[0] * x * y, (0.0 - C2[0]) * y * z, middle, (0.0 - C2[0]) * x * z, C2[2] * (x * x - y * y)


@ti.func
def band_3(d):
    x, y, z = d.x, d.y, d.z
    xx, yy, zz = x * x, y * y, z * z
    return (
        (0.0 - C3[0]) * y * (3.0 * xx - yy),
        C3[1] * x * y * z,
        (0.0 - C3[2]) * y * (4.0 * zz - xx - yy),
        C3[3] * z * (2.0 * zz - 3.0 * xx - 3.0 * yy),
        (0.0 - C3[2]) * x * (4.0 * zz - xx - yy),
        C3[4] * z * (xx - yy),
        (0.0 - C3[0]) * x * (xx - 3.0 * yy),
    )


@ti.func
def coefficient(rest: ti.template(), stride, at, i, k: ti.template(), wide: ti.template()):
    """Coefficient k > 0 of Gaussian i."""
    return load3(rest, i, stride, at + 3 * (k - 1), wide)


@ti.func
def color(
    base: ti.template(), base_stride, rest: ti.template(), stride, at, i, degree, d, wide: ti.template()
):  # fmt: skip
    """Colour of Gaussian i seen along d, before the clamp at 0."""
    c = times(load3(base, i, base_stride, 0, wide), C0)
    c = triple(c.x + 0.5, c.y + 0.5, c.z + 0.5)
    if degree > 0:
        b = band_1(d)
        for k in ti.static(range(3)):
            c = plus(c, times(coefficient(rest, stride, at, i, 1 + k, wide), b[k]))
    if degree > 1:
        b = band_2(d)
        for k in ti.static(range(5)):
            c = plus(c, times(coefficient(rest, stride, at, i, 4 + k, wide), b[k]))
    if degree > 2:
        b = band_3(d)
        for k in ti.static(range(7)):
            c = plus(c, times(coefficient(rest, stride, at, i, 9 + k, wide), b[k]))
    return c


@ti.func
def channel(g, c):
    """Red, green or blue of g by index: a loop over channels is compiled once for all three."""
    value = g.x
    if c == 1:
        value = g.y
    if c == 2:
        value = g.z
    return value


@ti.func
def direction_gradient(rest: ti.template(), stride, at, i, degree, d, g, wide: ti.template()):
    """Gradient with respect to the direction d (before normalisation) from the gradient g with respect to the colour."""
    x, y, z = d.x, d.y, d.z
    out = times(g, 0.0)
    zero = out.x
    if degree > 0:
        s1, s2, s3 = zero, zero, zero
        for c in range(3):
            g_c = channel(g, c)
            s1 = s1 + load(rest, i, stride, at + c, wide) * g_c
            s2 = s2 + load(rest, i, stride, at + c + 3, wide) * g_c
            s3 = s3 + load(rest, i, stride, at + c + 6, wide) * g_c
        out = plus(out, times(triple(0.0 - s3, 0.0 - s1, s2), C1))
    if degree > 1:
        s4, s5, s6, s7, s8 = zero, zero, zero, zero, zero
        for c in range(3):
            g_c = channel(g, c)
            s4 = s4 + load(rest, i, stride, at + c + 9, wide) * g_c
            s5 = s5 + load(rest, i, stride, at + c + 12, wide) * g_c
            s6 = s6 + load(rest, i, stride, at + c + 15, wide) * g_c
            s7 = s7 + load(rest, i, stride, at + c + 18, wide) * g_c
            s8 = s8 + load(rest, i, stride, at + c + 21, wide) * g_c
        out = plus(out, times(triple(y * s4 - z * s7, x * s4 - z * s5, 0.0 - y * s5 - x * s7), C2[0]))
        out = plus(out, times(triple(0.0 - x * s6, 0.0 - y * s6, 2.0 * z * s6), 2.0 * C2[1]))
        out = plus(out, triple(2.0 * C2[2] * s8 * x, (0.0 - 2.0 * C2[2]) * s8 * y, 0.0 * s8))
    if degree > 2:
        xx, yy, zz = x * x, y * y, z * z
        s9, s10, s11, s12, s13, s14, s15 = zero, zero, zero, zero, zero, zero, zero
        for c in range(3):
            g_c = channel(g, c)
            s9 = s9 + load(rest, i, stride, at + c + 24, wide) * g_c
            s10 = s10 + load(rest, i, stride, at + c + 27, wide) * g_c
            s11 = s11 + load(rest, i, stride, at + c + 30, wide) * g_c
            s12 = s12 + load(rest, i, stride, at + c + 33, wide) * g_c
            s13 = s13 + load(rest, i, stride, at + c + 36, wide) * g_c
            s14 = s14 + load(rest, i, stride, at + c + 39, wide) * g_c
            s15 = s15 + load(rest, i, stride, at + c + 42, wide) * g_c
        out = plus(out, times(triple(6.0 * x * y * s9, 3.0 * (xx - yy) * s9, 0.0 * s9), 0.0 - C3[0]))
        out = plus(out, times(triple(y * z * s10, x * z * s10, x * y * s10), C3[1]))
        side = triple((0.0 - 2.0) * x * y * s11, (4.0 * zz - xx - 3.0 * yy) * s11, 8.0 * y * z * s11)
        out = plus(out, times(side, 0.0 - C3[2]))
        along = triple((0.0 - 6.0) * x * z * s12, (0.0 - 6.0) * y * z * s12, (6.0 * zz - 3.0 * xx - 3.0 * yy) * s12)
        out = plus(out, times(along, C3[3]))
        side = triple((4.0 * zz - 3.0 * xx - yy) * s13, (0.0 - 2.0) * x * y * s13, 8.0 * x * z * s13)
        out = plus(out, times(side, 0.0 - C3[2]))
        out = plus(out, times(triple(2.0 * x * z * s14, (0.0 - 2.0) * y * z * s14, (xx - yy) * s14), C3[4]))
        out = plus(out, times(triple(3.0 * (xx - yy) * s15, (0.0 - 6.0) * x * y * s15, 0.0 * s15), 0.0 - C3[0]))
    return out


@ti.func
def write_gradient(
    grad_base: ti.template(), base_stride, grad_rest: ti.template(), stride, at, i, degree, d, g, wide: ti.template()
):  # fmt: skip
    """Gradient of Gaussian i's coefficients: basis(d) times the gradient g with respect to the colour; 0 above `degree`."""
    store3(grad_base, i, base_stride, 0, times(g, C0), wide)
    for bands, first, needed in ti.static(((band_1, 1, 0), (band_2, 4, 1), (band_3, 9, 2))):
        if at + 3 * (first - 1) < stride:
            b = bands(d)
            for c in range(3):
                g_c = channel(g, c)
                if degree <= needed:
                    g_c = 0.0 * g_c
                for k in ti.static(range(2 * needed + 3)):
                    store(grad_rest, i, stride, at + c + 3 * (first + k - 1), g_c * b[k], wide)
