"""Compositing on the CPU: a tile of 8x8 pixels as four vectors of 16 lanes, splat by splat, all state in registers.

A vector holds a quad of 4x4 pixels: 0 upper left, 1 upper right, 2 lower left, 3 lower right. Quads that a splat does not
touch, by its entry's bits, and quads that are already opaque are skipped: with small splats that is half of them.

`composite` and its adjoint are launched inside `runtime.native_vectors()`, see `lanes.py`.
"""

import math

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import LANES, Vec, halve
from taichi_avatars.kernels.tasks import TILE_STRIDE
from taichi_avatars.kernels.tiles import EXP_STEP, MAX_ALPHA, MIN_ALPHA, MIN_TRANSMITTANCE, QUAD, QUAD_BITS, TILE
from taichi_avatars.kernels.types import F32x1, F32x2, F32x3, I32x1, I32x2, Packed, Splat, Sums, VecX1, VecX3

BATCH = 8
LOWEST = EXP_STEP * math.log(MIN_ALPHA)  # the exponent at which alpha is 1/255, in the packed units
CHANNELS = 5  # red, green, blue, depth, alpha


# The state of 16 pixels between two splats of their list; the equations are those of docs/method.md.
Pixels = ti.types.struct(  # "7 Splat"
    T=Vec,  # transmittance, prod (1 - alpha_j) over the splats so far; 0 once the pixel has stopped
    red=Vec,  # sum c_i alpha_i T_i, first channel
    green=Vec,  # second
    blue=Vec,  # third
    depth=Vec,  # sum z_i alpha_i T_i
    alpha=Vec,  # A = sum alpha_i T_i
)
Adjoint = ti.types.struct(  # "9 Backward", front-to-back replay
    T=Vec,  # as in Pixels, by the same instructions
    behind=Vec,  # g . (C, depth, A) minus the values of the splats so far: the contribution of everything behind
)
PairSums = ti.types.struct(  # "9 Backward", moments; s = dL/dalpha alpha. The columns are those of `types.Sums`
    s=Vec,  # sum s: opacity
    s_dx=Vec,  # sum s dx: mean
    s_dx2=Vec,  # sum s dx^2: conic a
    s_dy=Vec,  # sum s dy: mean
    s_dxdy=Vec,  # sum s dx dy: conic b
    s_dy2=Vec,  # sum s dy^2: conic c
    red=Vec,  # sum alpha T g_red: colour
    green=Vec,  # the same
    blue=Vec,  # the same
    depth=Vec,  # sum alpha T g_depth
)


@ti.func
def exp_packed(x):
    """exp(8 x) on [-ln(255) / 8, 0] by a fit of degree 5, relative error 2e-6; garbage below, which the caller discards."""
    p = 0.99999992 + x * (0.99999273 + x * (0.49988512 + x * (0.16598564 + x * (0.03979405 + x * 0.00586043))))
    p = p * p
    p = p * p
    return p * p


@ti.func
def lane_x():
    return Vec([i % QUAD + 0.5 for i in range(LANES)])


@ti.func
def lane_y():
    return Vec([i // QUAD + 0.5 for i in range(LANES)])


@ti.func
def inside(x, y, width, height):
    """1 where a pixel lies in the image: lanes outside start opaque so that they cannot keep a tile busy."""
    return ti.select(x < ti.cast(width, ti.f32), 1.0, 0.0) * ti.select(y < ti.cast(height, ti.f32), 1.0, 0.0)


@ti.func
def blend(p, exponent, red, green, blue, depth):
    """One splat over 16 pixels. A pixel whose transmittance would fall below the limit stops for good: its T becomes 0."""
    alpha = ti.select(exponent >= LOWEST, ti.min(exp_packed(exponent), MAX_ALPHA), 0.0)
    weight = alpha * p.T
    left = p.T - weight
    goes_on = left >= MIN_TRANSMITTANCE
    weight = ti.select(goes_on, weight, 0.0)
    return Pixels(
        T=ti.select(goes_on, left, 0.0),
        red=p.red + weight * red,
        green=p.green + weight * green,
        blue=p.blue + weight * blue,
        depth=p.depth + weight * depth,
        alpha=p.alpha + weight,
    )


@ti.func
def exponent(packed: ti.template(), i, dx, dy):
    """ln alpha of splat i, in the packed units."""
    a, b, c = packed[i, Packed.A], packed[i, Packed.B], packed[i, Packed.C]
    return packed[i, Packed.LOG_OPACITY] + dx * (dx * a + dy * b) + dy * dy * c


@ti.func
def color(packed: ti.template(), i):
    return packed[i, Packed.RED], packed[i, Packed.GREEN], packed[i, Packed.BLUE], packed[i, Packed.DEPTH]


@ti.func
def transparent(T0, T1, T2, T3):
    """Which quads still let light through, a bit each."""
    both = halve(halve(T0, T1, 8), halve(T2, T3, 8), 4)
    both = halve(both, both, 2)
    sums = halve(both, both, 1)
    quads = 0
    for k in ti.static(range(4)):
        quads += ti.select(sums[k] > 0.0, 1 << k, 0)
    return quads


@ti.func
def clear(T):
    zero = Vec(0.0)
    return Pixels(T=T, red=zero, green=zero, blue=zero, depth=zero, alpha=zero)


@ti.func
def store(state: ti.template(), tile, k, p):
    state[tile, k, 0], state[tile, k, 1], state[tile, k, 2] = p.red, p.green, p.blue
    state[tile, k, 3], state[tile, k, 4] = p.depth, p.alpha


@ti.kernel
def composite(width: ti.i32, height: ti.i32, tiles_x: ti.i32, tile_end: I32x1, entries: I32x2, packed: F32x2, state: VecX3):
    """state (tiles, 4, CHANNELS): what each pixel has accumulated."""
    ti.loop_config(block_dim=1)
    for step in range(tile_end.shape[0] * TILE_STRIDE):
        if step % TILE_STRIDE != 0:
            continue
        tile = step // TILE_STRIDE
        x = lane_x() + ti.cast((tile % tiles_x) * TILE, ti.f32)
        y = lane_y() + ti.cast((tile // tiles_x) * TILE, ti.f32)
        p0 = clear(inside(x, y, width, height))
        p1 = clear(inside(x + QUAD, y, width, height))
        p2 = clear(inside(x, y + QUAD, width, height))
        p3 = clear(inside(x + QUAD, y + QUAD, width, height))
        at, end = 0, tile_end[tile]
        if tile > 0:
            at = tile_end[tile - 1]
        while at < end:
            batch_end = ti.min(at + BATCH, end)
            alive = transparent(p0.T, p1.T, p2.T, p3.T)
            if alive == 0:
                batch_end, end = at, at
            for j in range(at, batch_end):
                i, quads = entries[j, 0] >> QUAD_BITS, entries[j, 0] & alive
                dx, dy = x - packed[i, Packed.X], y - packed[i, Packed.Y]
                red, green, blue, depth = color(packed, i)
                if quads & 1:
                    p0 = blend(p0, exponent(packed, i, dx, dy), red, green, blue, depth)
                if quads & 2:
                    p1 = blend(p1, exponent(packed, i, dx + QUAD, dy), red, green, blue, depth)
                if quads & 4:
                    p2 = blend(p2, exponent(packed, i, dx, dy + QUAD), red, green, blue, depth)
                if quads & 8:
                    p3 = blend(p3, exponent(packed, i, dx + QUAD, dy + QUAD), red, green, blue, depth)
            at = batch_end
        store(state, tile, 0, p0)
        store(state, tile, 1, p1)
        store(state, tile, 2, p2)
        store(state, tile, 3, p3)


@ti.func
def begin_adjoint(state: ti.template(), grad: ti.template(), tile, k, T):
    behind = Vec(0.0)
    for channel in ti.static(range(CHANNELS)):
        behind = behind + state[tile, k, channel] * grad[tile, k, channel]
    return Adjoint(T=T, behind=behind)


@ti.func
def blend_adjoint(grad: ti.template(), tile, k, packed: ti.template(), i, p, sums, dx, dy):
    """One splat over 16 pixels, in forward order: T and the stop are recomputed, `behind` loses the splat's value."""
    g_red, g_green, g_blue, g_depth = grad[tile, k, 0], grad[tile, k, 1], grad[tile, k, 2], grad[tile, k, 3]
    red, green, blue, depth = color(packed, i)
    power = exponent(packed, i, dx, dy)
    full = exp_packed(power)
    alpha = ti.select(power >= LOWEST, ti.min(full, MAX_ALPHA), 0.0)
    weight = alpha * p.T
    left = p.T - weight
    goes_on = left >= MIN_TRANSMITTANCE
    weight = ti.select(goes_on, weight, 0.0)
    value = weight * (g_red * red + g_green * green + g_blue * blue + g_depth * depth + grad[tile, k, 4])
    behind = p.behind - value
    s = ti.select(goes_on, value - behind * alpha / (1.0 - alpha), 0.0)
    s = ti.select(full < MAX_ALPHA, s, 0.0)  # cut where alpha was clamped
    s_dx, s_dy = s * dx, s * dy
    after = PairSums(
        s=sums.s + s,
        s_dx=sums.s_dx + s_dx,
        s_dx2=sums.s_dx2 + s_dx * dx,
        s_dy=sums.s_dy + s_dy,
        s_dxdy=sums.s_dxdy + s_dx * dy,
        s_dy2=sums.s_dy2 + s_dy * dy,
        red=sums.red + weight * g_red,
        green=sums.green + weight * g_green,
        blue=sums.blue + weight * g_blue,
        depth=sums.depth + weight * g_depth,
    )
    return Adjoint(T=ti.select(goes_on, left, 0.0), behind=behind), after


@ti.func
def reduce_sums(t):
    """The ten sums over 16 lanes at once, by a tree of shuffles: lanes 0-9 of the result are read by `gather`."""
    ab, cd = halve(t.s, t.s_dx, 8), halve(t.s_dx2, t.s_dy, 8)
    ef, gh = halve(t.s_dxdy, t.s_dy2, 8), halve(t.red, t.green, 8)
    ij = halve(t.blue, t.depth, 8)
    abcd, efgh, ijij = halve(ab, cd, 4), halve(ef, gh, 4), halve(ij, ij, 4)
    return halve(halve(abcd, efgh, 2), halve(ijij, ijij, 2), 1)


@ti.kernel
def composite_adjoint(
    width: ti.i32, height: ti.i32, tiles_x: ti.i32, tile_end: I32x1, entries: I32x2, packed: F32x2,
    state: VecX3, grad: VecX3, pair_grad: VecX1,
):  # fmt: skip
    """grad (tiles, 4, CHANNELS): gradient of `state`. pair_grad (pairs): each pair's sums, 0 for those behind opaque quads."""
    ti.loop_config(block_dim=1)
    for step in range(tile_end.shape[0] * TILE_STRIDE):
        if step % TILE_STRIDE != 0:
            continue
        tile = step // TILE_STRIDE
        x = lane_x() + ti.cast((tile % tiles_x) * TILE, ti.f32)
        y = lane_y() + ti.cast((tile // tiles_x) * TILE, ti.f32)
        p0 = begin_adjoint(state, grad, tile, 0, inside(x, y, width, height))
        p1 = begin_adjoint(state, grad, tile, 1, inside(x + QUAD, y, width, height))
        p2 = begin_adjoint(state, grad, tile, 2, inside(x, y + QUAD, width, height))
        p3 = begin_adjoint(state, grad, tile, 3, inside(x + QUAD, y + QUAD, width, height))
        zero = Vec(0.0)
        at, end = 0, tile_end[tile]
        if tile > 0:
            at = tile_end[tile - 1]
        while at < end:
            batch_end = ti.min(at + BATCH, end)
            alive = transparent(p0.T, p1.T, p2.T, p3.T)
            if alive == 0:
                for j in range(at, end):
                    pair_grad[entries[j, 1]] = zero
                batch_end, end = at, at
            for j in range(at, batch_end):
                i, quads = entries[j, 0] >> QUAD_BITS, entries[j, 0] & alive
                dx, dy = x - packed[i, Packed.X], y - packed[i, Packed.Y]
                sums = PairSums(
                    s=zero, s_dx=zero, s_dx2=zero, s_dy=zero, s_dxdy=zero, s_dy2=zero,
                    red=zero, green=zero, blue=zero, depth=zero,
                )  # fmt: skip
                if quads & 1:
                    p0, sums = blend_adjoint(grad, tile, 0, packed, i, p0, sums, dx, dy)
                if quads & 2:
                    p1, sums = blend_adjoint(grad, tile, 1, packed, i, p1, sums, dx + QUAD, dy)
                if quads & 4:
                    p2, sums = blend_adjoint(grad, tile, 2, packed, i, p2, sums, dx, dy + QUAD)
                if quads & 8:
                    p3, sums = blend_adjoint(grad, tile, 3, packed, i, p3, sums, dx + QUAD, dy + QUAD)
                pair_grad[entries[j, 1]] = reduce_sums(sums)
            at = batch_end


@ti.kernel
def gather(order: I32x1, splats: F32x2, splat_end: I32x1, pair_grad: VecX1, grad_splats: F32x2):
    """The gradient of each splat: its pairs are summed, then moments of the exponent give mean, conic and opacity.

    pair_grad: the columns of `types.Sums`, then six unused ones.
    """
    for i in range(order.shape[0]):
        g = order[i]
        begin = 0
        if i > 0:
            begin = splat_end[i - 1]
        total = Vec(0.0)
        for pair in range(begin, splat_end[i]):
            total = total + pair_grad[pair]
        a, b, c = splats[g, Splat.A], splats[g, Splat.B], splats[g, Splat.C]
        grad_splats[g, Splat.X] = a * total[Sums.S_DX] + b * total[Sums.S_DY]
        grad_splats[g, Splat.Y] = b * total[Sums.S_DX] + c * total[Sums.S_DY]
        grad_splats[g, Splat.A] = -0.5 * total[Sums.S_DX2]
        grad_splats[g, Splat.B] = 0.0 - total[Sums.S_DXDY]
        grad_splats[g, Splat.C] = -0.5 * total[Sums.S_DY2]
        grad_splats[g, Splat.OPACITY] = total[Sums.S] / ti.max(splats[g, Splat.OPACITY], 1e-12)
        for k in ti.static(range(4)):
            grad_splats[g, Splat.RED + k] = total[Sums.RED + k]
        grad_splats[g, Splat.HALF_WIDTH] = 0.0
        grad_splats[g, Splat.HALF_HEIGHT] = 0.0


@ti.func
def corner(tiles_x, tile, k):
    """First column and row of a tile's quad k."""
    return tile % tiles_x * TILE + k % 2 * QUAD, tile // tiles_x * TILE + k // 2 * QUAD


@ti.kernel
def to_image(tiles_x: ti.i32, background: F32x1, state: VecX3, image: F32x3, alpha: F32x2, depth: F32x2):
    """From tiles to rows of pixels, over the background."""
    ti.loop_config(block_dim=1)
    for step in range(state.shape[0] * TILE_STRIDE):
        if step % TILE_STRIDE != 0:
            continue
        tile = step // TILE_STRIDE
        for k in range(4):
            left, top = corner(tiles_x, tile, k)
            a, d = state[tile, k, 4], state[tile, k, 3]
            through = 1.0 - a  # of the background
            red = state[tile, k, 0] + through * background[0]
            green = state[tile, k, 1] + through * background[1]
            blue = state[tile, k, 2] + through * background[2]
            for lane in ti.static(range(LANES)):
                x, y = left + lane % QUAD, top + lane // QUAD
                if (x < alpha.shape[1]) & (y < alpha.shape[0]):
                    image[0, y, x], image[1, y, x], image[2, y, x] = red[lane], green[lane], blue[lane]
                    alpha[y, x], depth[y, x] = a[lane], d[lane]


@ti.kernel
def from_image(tiles_x: ti.i32, background: F32x1, grad_image: F32x3, grad_alpha: F32x2, grad_depth: F32x2, grad: VecX3):
    """The adjoint of `to_image`; 0 in the lanes outside the image."""
    ti.loop_config(block_dim=1)
    for step in range(grad.shape[0] * TILE_STRIDE):
        if step % TILE_STRIDE != 0:
            continue
        tile = step // TILE_STRIDE
        for k in range(4):
            left, top = corner(tiles_x, tile, k)
            red, green, blue, d, a = Vec(0.0), Vec(0.0), Vec(0.0), Vec(0.0), Vec(0.0)
            for lane in ti.static(range(LANES)):
                x, y = left + lane % QUAD, top + lane // QUAD
                if (x < grad_alpha.shape[1]) & (y < grad_alpha.shape[0]):
                    red[lane], green[lane], blue[lane] = grad_image[0, y, x], grad_image[1, y, x], grad_image[2, y, x]
                    d[lane], a[lane] = grad_depth[y, x], grad_alpha[y, x]
            grad[tile, k, 0], grad[tile, k, 1], grad[tile, k, 2], grad[tile, k, 3] = red, green, blue, d
            grad[tile, k, 4] = a - red * background[0] - green * background[1] - blue * background[2]
