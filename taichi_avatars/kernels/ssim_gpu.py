"""L1 and SSIM with their gradient on a GPU: a block of threads per 16x16 pixels, blurred along rows, then columns.

The same sums as `ssim.py`. Images are (3, H, W), with zero padding.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.ssim import C1, C2, MOMENTS, RADIUS, SLOPES, WINDOW
from taichi_avatars.kernels.types import F32x1, F32x3, F32x4

block = ti.simt.block
SIDE = 16
BLOCK = SIDE * SIDE  # threads, one per pixel
REACH = SIDE + 2 * RADIUS  # pixels that a block sees, each way
SEEN = REACH * REACH
ROWS = REACH * SIDE  # pixels blurred along rows that are then blurred along columns


@ti.func
def blocks(size):
    return (size + SIDE - 1) // SIDE


@ti.func
def corner(number, height, width):
    """Channel, first row and first column of a block."""
    across, down = blocks(width), blocks(height)
    return number // (across * down), number // across % down * SIDE, number % across * SIDE


@ti.func
def down(rows: ti.template(), k, lane):
    """The blur of plane k at a thread's pixel, from blurred rows."""
    total = 0.0
    for d in ti.static(range(2 * RADIUS + 1)):
        total += WINDOW[d] * rows[k * ROWS + lane + d * SIDE]
    return total


@ti.kernel
def ssim(image: F32x3, truth: F32x3, slopes: F32x4, similarity: F32x3):
    """slopes (SLOPES, 3, H, W): dSSIM to E[x], E[xx], E[xy] at each pixel. similarity (3, H, W)."""
    ti.loop_config(block_dim=BLOCK)
    for thread in range(3 * blocks(image.shape[1]) * blocks(image.shape[2]) * BLOCK):
        xs, ys = block.SharedArray((SEEN,), ti.f32), block.SharedArray((SEEN,), ti.f32)
        rows = block.SharedArray((MOMENTS * ROWS,), ti.f32)
        height, width, lane = image.shape[1], image.shape[2], thread % BLOCK
        c, top, left = corner(thread // BLOCK, height, width)
        block.sync()  # a block in its second iteration may still be reading the rows of the first
        for k in range((SEEN + BLOCK - 1) // BLOCK):
            at = k * BLOCK + lane
            if at < SEEN:
                y, x = top - RADIUS + at // REACH, left - RADIUS + at % REACH
                a, b = 0.0, 0.0
                if y >= 0 and x >= 0 and y < height and x < width:
                    a, b = image[c, y, x], truth[c, y, x]
                xs[at], ys[at] = a, b
        block.sync()
        for k in range((ROWS + BLOCK - 1) // BLOCK):
            at = k * BLOCK + lane
            if at < ROWS:
                ex, ey, exx, eyy, exy = 0.0, 0.0, 0.0, 0.0, 0.0
                for d in ti.static(range(2 * RADIUS + 1)):
                    a, b = xs[at // SIDE * REACH + at % SIDE + d], ys[at // SIDE * REACH + at % SIDE + d]
                    wa, wb = WINDOW[d] * a, WINDOW[d] * b
                    ex, ey = ex + wa, ey + wb
                    exx, eyy, exy = exx + wa * a, eyy + wb * b, exy + wa * b
                rows[at], rows[ROWS + at], rows[2 * ROWS + at] = ex, ey, exx
                rows[3 * ROWS + at], rows[4 * ROWS + at] = eyy, exy
        block.sync()
        y, x = top + lane // SIDE, left + lane % SIDE
        if y < height and x < width:
            mx, my = down(rows, 0, lane), down(rows, 1, lane)
            vx, vy = down(rows, 2, lane) - mx * mx, down(rows, 3, lane) - my * my
            vxy = down(rows, 4, lane) - mx * my
            a1, a2 = 2.0 * mx * my + C1, 2.0 * vxy + C2
            b1, b2 = mx * mx + my * my + C1, vx + vy + C2
            r = 1.0 / (b1 * b2)
            s = a1 * a2 * r
            # dSSIM to E[x] goes through the mean itself and through the variances, which subtract it
            slopes[0, c, y, x] = 2.0 * r * my * (a2 - a1) + 2.0 * mx * s * (b1 - b2) * r
            slopes[1, c, y, x] = -s * r * b1
            slopes[2, c, y, x] = 2.0 * a1 * r
            similarity[c, y, x] = s


@ti.kernel
def ssim_l1_adjoint(weights: F32x1, image: F32x3, truth: F32x3, slopes: F32x4, grad: F32x3):
    """grad (3, H, W): gradient with respect to the image of weights[0] * sum |x - y| + weights[1] * sum SSIM."""
    ti.loop_config(block_dim=BLOCK)
    for thread in range(3 * blocks(image.shape[1]) * blocks(image.shape[2]) * BLOCK):
        seen = block.SharedArray((SLOPES * SEEN,), ti.f32)
        rows = block.SharedArray((SLOPES * ROWS,), ti.f32)
        height, width, lane = image.shape[1], image.shape[2], thread % BLOCK
        c, top, left = corner(thread // BLOCK, height, width)
        block.sync()
        for k in range((SEEN + BLOCK - 1) // BLOCK):
            at = k * BLOCK + lane
            if at < SEEN:
                y, x = top - RADIUS + at // REACH, left - RADIUS + at % REACH
                inside = y >= 0 and x >= 0 and y < height and x < width
                for plane in ti.static(range(SLOPES)):
                    seen[plane * SEEN + at] = 0.0
                    if inside:
                        seen[plane * SEEN + at] = slopes[plane, c, y, x]
        block.sync()
        for k in range((ROWS + BLOCK - 1) // BLOCK):
            at = k * BLOCK + lane
            if at < ROWS:
                for plane in ti.static(range(SLOPES)):
                    total = 0.0
                    for d in ti.static(range(2 * RADIUS + 1)):
                        total += WINDOW[d] * seen[plane * SEEN + at // SIDE * REACH + at % SIDE + d]
                    rows[plane * ROWS + at] = total
        block.sync()
        y, x = top + lane // SIDE, left + lane % SIDE
        if y < height and x < width:
            a, b = image[c, y, x], truth[c, y, x]
            sign = ti.select(a > b, 1.0, 0.0) - ti.select(a < b, 1.0, 0.0)
            p, q, r = down(rows, 0, lane), down(rows, 1, lane), down(rows, 2, lane)
            grad[c, y, x] = weights[1] * (p + 2.0 * a * q + b * r) + weights[0] * sign
