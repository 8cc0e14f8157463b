"""What colours say of where an object ends: every pixel of a band is compared with colours that surely belong to either side.

The picture is divided into cells. Those of the band have a number n and K samples of either side, front and back (N,K,3);
lightness (N,) says how much a difference in lightness counts, beside one in hue: shade changes it, too.
"""

from taichi_avatars.engine import ti, tm
from taichi_avatars.kernels.types import F32x1, F32x2, F32x3, I32x2, vec3

FRONT, BEHIND = -1, -2  # numbers of cells outside the band
SURE = 6.0  # logit


@ti.func
def colour(values: F32x3, row: ti.i32, column: ti.i32) -> vec3:
    return vec3(values[row, column, 0], values[row, column, 1], values[row, column, 2])


@ti.func
def likeness(a: vec3, b: vec3, lightness: ti.f32, noise: ti.f32) -> ti.f32:
    """1 for equal colours, falling with the square of their distance (a Cauchy density), which noise is the scale of."""
    d = a - b
    d -= (1.0 - lightness) * (d.sum() / 3.0)
    return 1.0 / (1.0 + d.dot(d) / (noise * noise))


@ti.func
def number(cells: I32x2, y: ti.i32, x: ti.i32, down: ti.f32, across: ti.f32) -> ti.i32:
    """Of the cell that a pixel lies in; down, across: cells per pixel."""
    return cells[ti.cast((y + 0.5) * down, ti.i32), ti.cast((x + 0.5) * across, ti.i32)]


@ti.func
def between(values: F32x2, y: ti.f32, x: ti.f32) -> ti.f32:
    """Bilinear interpolation at (y, x) in pixels, whose centres lie at integer + 0.5; beyond the border its value."""
    rows, columns = values.shape[0], values.shape[1]
    v, u = tm.clamp(y - 0.5, 0.0, rows - 1.0), tm.clamp(x - 0.5, 0.0, columns - 1.0)
    i, j = ti.min(ti.cast(v, ti.i32), rows - 2), ti.min(ti.cast(u, ti.i32), columns - 2)
    b, a = v - i, u - j
    upper = (1.0 - a) * values[i, j] + a * values[i, j + 1]
    return (1.0 - b) * upper + b * ((1.0 - a) * values[i + 1, j] + a * values[i + 1, j + 1])


@ti.kernel
def weigh_colours(
    picture: F32x3,
    cells: I32x2,
    front: F32x3,
    back: F32x3,
    lightness: F32x1,
    place: F32x2,
    segmented: F32x2,
    left: ti.f32,
    top: ti.f32,
    size: ti.f32,
    noise: ti.f32,
    power: ti.f32,
    logit: F32x2,
):
    """logit (H,W) of what each pixel of picture (H,W,3) belongs to: by its place, by a segmentation and by its colour.

    A mixture of two colours is as far from each as its share of the other: the ratio of the distances is that of the shares.

    cells (h,w): FRONT, BEHIND or numbers. place (h,w): a logit. segmented (S,S): another, of a square whose left and top edges
    and size are in pixels. noise: distance of colours that are the same; power: weight of the colours.
    """
    height, width = logit.shape[0], logit.shape[1]
    down, across = cells.shape[0] / height, cells.shape[1] / width
    for y, x in ti.ndrange(height, width):
        n = number(cells, y, x, down, across)
        if n < 0:
            logit[y, x] = ti.select(n == FRONT, SURE, -SURE)
        else:
            own = colour(picture, y, x)
            of_front, of_back = 0.0, 0.0
            for k in range(front.shape[1]):
                of_front += likeness(own, colour(front, n, k), lightness[n], noise)
                of_back += likeness(own, colour(back, n, k), lightness[n], noise)
            says = power * ti.log(of_front / of_back)
            says += between(place, (y + 0.5) * down, (x + 0.5) * across)
            scale = segmented.shape[0] / size
            says += between(segmented, (y + 0.5 - top) * scale, (x + 0.5 - left) * scale)
            logit[y, x] = tm.clamp(says, -SURE, SURE)


@ti.kernel
def soften(logit: F32x2, cells: I32x2, nothing: ti.f32, everything: ti.f32, alpha: F32x2):
    """alpha (H,W): of the binomial mean of logit over 3x3 pixels, its range [nothing, everything] stretched to [0, 1]."""
    height, width = logit.shape[0], logit.shape[1]
    down, across = cells.shape[0] / height, cells.shape[1] / width
    for y, x in ti.ndrange(height, width):
        n = number(cells, y, x, down, across)
        if n < 0:
            alpha[y, x] = ti.select(n == FRONT, 1.0, 0.0)
        else:
            total = 0.0
            for i, j in ti.static(ti.ndrange((-1, 2), (-1, 2))):
                yy, xx = tm.clamp(y + i, 0, height - 1), tm.clamp(x + j, 0, width - 1)
                total += (2 - abs(i)) * (2 - abs(j)) / 16.0 * logit[yy, xx]
            share = 1.0 / (1.0 + ti.exp(-total))
            alpha[y, x] = tm.clamp((share - nothing) / (everything - nothing), 0.0, 1.0)
