"""L1 and SSIM (Wang et al. 2004) with their gradient, 16 pixels at a time; intermediate values are kept one row at a time.

Images are planes of 16-lane vectors with one vector of zeros at either end of each row: (3, H, columns + 2). The zeros are the
zero padding of the 11x11 window. Launch inside `runtime.native_vectors()`.
"""

import math

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import LANES, Vec
from taichi_avatars.kernels.tasks import TASK
from taichi_avatars.kernels.types import VecX2, VecX3, VecX4

RADIUS = 5
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
MOMENTS = 5  # E[x], E[y], E[xx], E[yy], E[xy] under the window
SLOPES = 3  # dSSIM to E[x], E[xx], E[xy]

_bell = [math.exp(-0.5 * ((k - RADIUS) / SIGMA) ** 2) for k in range(2 * RADIUS + 1)]
WINDOW = [w / sum(_bell) for w in _bell]


@ti.func
def earlier(left, middle, d: ti.template()):
    """The 16 lanes that begin d pixels before the first of `middle`."""
    return Vec([left[i] for i in ti.static(range(LANES - d, LANES))] + [middle[i] for i in ti.static(range(LANES - d))])


@ti.func
def later(middle, right, d: ti.template()):
    """The 16 lanes that begin d pixels after the first of `middle`."""
    return Vec([middle[i] for i in ti.static(range(d, LANES))] + [right[i] for i in ti.static(range(d))])


@ti.func
def blur_row(rows: ti.template(), chunk, k, column):
    """Row `k` of the scratch under the horizontal window."""
    left, middle, right = rows[chunk, k, column - 1], rows[chunk, k, column], rows[chunk, k, column + 1]
    total = WINDOW[RADIUS] * middle
    for d in ti.static(range(1, RADIUS + 1)):
        total = total + WINDOW[RADIUS + d] * (earlier(left, middle, d) + later(middle, right, d))
    return total


@ti.kernel
def ssim_l1(width: ti.i32, chunk_rows: ti.i32, image: VecX3, truth: VecX3, rows: VecX3, slopes: VecX4, sums: VecX2):
    """rows (chunks, MOMENTS, columns + 2): scratch. slopes (SLOPES, 3, H, columns + 2). sums (chunks, 2): |x - y| and SSIM."""
    ti.loop_config(block_dim=1)
    for step in range(rows.shape[0] * TASK):
        if step % TASK != 0:
            continue
        chunk = step // TASK
        height, columns = image.shape[1], image.shape[2] - 2
        zero = Vec(0.0)
        l1, similarity = zero, zero
        lane = Vec([i + 0.0 for i in range(LANES)])
        for line in range(chunk * chunk_rows, ti.min((chunk + 1) * chunk_rows, 3 * height)):
            c, y = line // height, line % height
            for column in range(1, columns + 1):
                ex, ey, exx, eyy, exy = zero, zero, zero, zero, zero
                for d in ti.static(range(-RADIUS, RADIUS + 1)):
                    if y + d >= 0 and y + d < height:
                        a, b = image[c, y + d, column], truth[c, y + d, column]
                        wa, wb = WINDOW[RADIUS + d] * a, WINDOW[RADIUS + d] * b
                        ex, ey = ex + wa, ey + wb
                        exx, eyy, exy = exx + wa * a, eyy + wb * b, exy + wa * b
                rows[chunk, 0, column], rows[chunk, 1, column] = ex, ey
                rows[chunk, 2, column], rows[chunk, 3, column], rows[chunk, 4, column] = exx, eyy, exy
            for column in range(1, columns + 1):
                mx, my = blur_row(rows, chunk, 0, column), blur_row(rows, chunk, 1, column)
                vx, vy = blur_row(rows, chunk, 2, column) - mx * mx, blur_row(rows, chunk, 3, column) - my * my
                vxy = blur_row(rows, chunk, 4, column) - mx * my
                a1, a2 = 2.0 * mx * my + C1, 2.0 * vxy + C2
                b1, b2 = mx * mx + my * my + C1, vx + vy + C2
                r = 1.0 / (b1 * b2)
                s = a1 * a2 * r
                inside = lane + ti.cast((column - 1) * LANES, ti.f32) < ti.cast(width, ti.f32)
                # dSSIM to E[x] goes through the mean itself and through the variances, which subtract it
                slope_mean = 2.0 * r * my * (a2 - a1) + 2.0 * mx * s * (b1 - b2) * r
                slopes[0, c, y, column] = ti.select(inside, slope_mean, zero)
                slopes[1, c, y, column] = ti.select(inside, 0.0 - a1 * a2 * r * r * b1, zero)
                slopes[2, c, y, column] = ti.select(inside, 2.0 * a1 * r, zero)
                similarity = similarity + ti.select(inside, s, zero)
                x, t = image[c, y, column], truth[c, y, column]
                l1 = l1 + ti.max(x - t, t - x)
        sums[chunk, 0] = l1
        sums[chunk, 1] = similarity


@ti.kernel
def ssim_l1_adjoint(
    g_l1: ti.f32, g_ssim: ti.f32, chunk_rows: ti.i32, image: VecX3, truth: VecX3, rows: VecX3, slopes: VecX4, grad: VecX3
):  # fmt: skip
    """grad (3, H, columns + 2): gradient with respect to the image of g_l1 * sum |x - y| + g_ssim * sum SSIM."""
    ti.loop_config(block_dim=1)
    for step in range(rows.shape[0] * TASK):
        if step % TASK != 0:
            continue
        chunk = step // TASK
        height, columns = image.shape[1], image.shape[2] - 2
        zero = Vec(0.0)
        for line in range(chunk * chunk_rows, ti.min((chunk + 1) * chunk_rows, 3 * height)):
            c, y = line // height, line % height
            for column in range(1, columns + 1):
                p, q, r = zero, zero, zero
                for d in ti.static(range(-RADIUS, RADIUS + 1)):
                    if y + d >= 0 and y + d < height:
                        p = p + WINDOW[RADIUS + d] * slopes[0, c, y + d, column]
                        q = q + WINDOW[RADIUS + d] * slopes[1, c, y + d, column]
                        r = r + WINDOW[RADIUS + d] * slopes[2, c, y + d, column]
                rows[chunk, 0, column], rows[chunk, 1, column], rows[chunk, 2, column] = p, q, r
            for column in range(1, columns + 1):
                p, q, r = blur_row(rows, chunk, 0, column), blur_row(rows, chunk, 1, column), blur_row(rows, chunk, 2, column)
                x, t = image[c, y, column], truth[c, y, column]
                sign = ti.select(x > t, 1.0, 0.0) - ti.select(x < t, 1.0, 0.0)
                grad[c, y, column] = g_ssim * (p + 2.0 * x * q + t * r) + g_l1 * sign
