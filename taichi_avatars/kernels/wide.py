"""Functions of a number or of 16 numbers at once: with `wide`, the numbers of 16 consecutive rows.

A CPU kernel computes on vectors (see `lanes.py`), a GPU's thread on scalars; between loads and stores they share one
source. It is written by components, since a vector of vectors does not exist, and within the rules of `lanes.py`.

Strides and columns are templates: with them known, the offsets of the 16 numbers are constants, and a kernel with a thousand of
them compiles in a third of the time.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import LANES, Vec


@ti.func
def load(a: ti.template(), i, stride: ti.template(), k: ti.template(), wide: ti.template()):
    """Number k of row i of a table with `stride` numbers per row; with `wide` that of rows i to i + 15."""
    first = i * stride + k
    if ti.static(wide):
        return Vec([a[first + lane * stride] for lane in ti.static(range(LANES))])
    else:
        return a[first]


@ti.func
def store(a: ti.template(), i, stride: ti.template(), k: ti.template(), value, wide: ti.template()):
    first = i * stride + k
    if ti.static(wide):
        for lane in ti.static(range(LANES)):
            a[first + lane * stride] = value[lane]
    else:
        a[first] = value


@ti.func
def log(x, wide: ti.template()):
    if ti.static(wide):
        return Vec([ti.log(x[lane]) for lane in ti.static(range(LANES))])
    else:
        return ti.log(x)


@ti.func
def triple(x, y, z):
    return ti.Struct(x=x, y=y, z=z)


@ti.func
def load3(a: ti.template(), i, stride: ti.template(), k: ti.template(), wide: ti.template()):
    return triple(load(a, i, stride, k, wide), load(a, i, stride, k + 1, wide), load(a, i, stride, k + 2, wide))


@ti.func
def store3(a: ti.template(), i, stride: ti.template(), k: ti.template(), value, wide: ti.template()):
    store(a, i, stride, k, value.x, wide)
    store(a, i, stride, k + 1, value.y, wide)
    store(a, i, stride, k + 2, value.z, wide)


@ti.func
def plus(a, b):
    return triple(a.x + b.x, a.y + b.y, a.z + b.z)


@ti.func
def minus(a, b):
    return triple(a.x - b.x, a.y - b.y, a.z - b.z)


@ti.func
def times(a, s):
    return triple(a.x * s, a.y * s, a.z * s)


@ti.func
def by_parts(a, b):
    return triple(a.x * b.x, a.y * b.y, a.z * b.z)


@ti.func
def dot(a, b):
    return a.x * b.x + a.y * b.y + a.z * b.z


@ti.func
def cross(a, b):
    return triple(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x)


@ti.func
def rotated(rows, v):
    """M v for a matrix given by its three rows."""
    return triple(dot(rows.x, v), dot(rows.y, v), dot(rows.z, v))


@ti.func
def rotated_back(rows, v):
    """M^T v."""
    return plus(plus(times(rows.x, v.x), times(rows.y, v.y)), times(rows.z, v.z))


@ti.func
def where(holds, a):
    """a, or 0 where `holds` is 0: a number, since a comparison cannot be passed on."""
    return triple(
        ti.select(holds > 0.0, a.x, 0.0), ti.select(holds > 0.0, a.y, 0.0), ti.select(holds > 0.0, a.z, 0.0)
    )  # fmt: skip
