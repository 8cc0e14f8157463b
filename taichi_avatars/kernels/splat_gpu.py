"""Compositing on a GPU: a tile is a block of threads, a pixel a thread; splats come in batches through shared memory.

The arithmetic is that of `splat_cpu.py`, with the exact exponential. No atomics: the adjoint writes the sums of each pair of a
splat and a tile to a separate slot, and `splat_cpu.gather` adds them up in a fixed order.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.splat_cpu import LOWEST
from taichi_avatars.kernels.tiles import EXP_STEP, MAX_ALPHA, MIN_TRANSMITTANCE, QUAD, QUAD_BITS, TILE
from taichi_avatars.kernels.types import F32x1, F32x2, F32x3, I32x1, I32x2, Packed, Sums

block = ti.simt.block
BLOCK = TILE * TILE  # threads, one per pixel
FIELDS = Sums.SIZE  # numbers of a packed splat that compositing reads; and of a pair's gradient
BATCH = 16  # splats at a time in the adjoint
SHARE = BLOCK // BATCH  # threads that sum up one splat's gradient, BATCH pixels each
PITCH = BLOCK + 1  # one more than the pixels, so that threads reading a column hit different banks


Total = ti.types.vector(FIELDS, ti.f32)


@ti.func
def first_entry(tile_end: ti.template(), tile):
    begin = 0
    if tile > 0:
        begin = tile_end[tile - 1]
    return begin


@ti.func
def quad_of(lane):
    """The bit that says whether a splat touches the quad in which a thread's pixel lies (`tiles_gpu.touched`)."""
    return 1 << (lane % TILE // QUAD + 2 * (lane // TILE // QUAD))


@ti.func
def exponent_at(splats: ti.template(), j, size: ti.template(), x, y):
    """Splat j of a batch of `size` at a pixel: log of its alpha, in the packed units."""
    dx, dy = x - splats[Packed.X * size + j], y - splats[Packed.Y * size + j]
    flat = splats[Packed.LOG_OPACITY * size + j] + dx * dx * splats[Packed.A * size + j]
    return flat + dy * (dx * splats[Packed.B * size + j] + dy * splats[Packed.C * size + j])


@ti.kernel
def composite(
    tiles_x: ti.i32, tile_end: I32x1, entries: I32x2, packed: F32x2, background: F32x1,
    image: F32x3, alpha: F32x2, depth: F32x2,
):  # fmt: skip
    ti.loop_config(block_dim=BLOCK)
    for thread in range(tile_end.shape[0] * BLOCK):
        splats = block.SharedArray((FIELDS * BLOCK,), ti.f32)
        quads = block.SharedArray((BLOCK,), ti.i32)
        busy = block.SharedArray(
            (2,), ti.i32
        )  # whether a pixel of the tile has not stopped; two alternating flags, since some threads read late
        tile, lane = thread // BLOCK, thread % BLOCK
        column, row = (tile % tiles_x) * TILE + lane % TILE, (tile // tiles_x) * TILE + lane // TILE
        x, y = ti.cast(column, ti.f32) + 0.5, ti.cast(row, ti.f32) + 0.5
        inside = column < alpha.shape[1] and row < alpha.shape[0]
        T = ti.select(inside, 1.0, 0.0)  # transmittance, prod (1 - alpha_j) over the splats so far; 0 once stopped
        red, green, blue = 0.0, 0.0, 0.0  # C = sum c_i alpha_i T_i
        far = 0.0  # depth = sum z_i alpha_i T_i
        covered = 0.0  # A = sum alpha_i T_i
        at, end, turn = first_entry(tile_end, tile), tile_end[tile], 0
        while at < end:
            if at + lane < end:
                i = entries[at + lane, 0] >> QUAD_BITS
                quads[lane] = entries[at + lane, 0]
                for k in ti.static(range(FIELDS)):
                    splats[k * BLOCK + lane] = packed[i, k]
            if lane == 0:
                busy[turn] = 0
            block.sync()
            j, count = 0, ti.min(BLOCK, end - at)
            while j < count and T > 0.0:
                exponent = LOWEST - 1.0
                if quads[j] & quad_of(lane):  # half a block's threads, that is a warp, often have none to composite
                    exponent = exponent_at(splats, j, BLOCK, x, y)
                if exponent >= LOWEST:
                    weight = T * ti.min(ti.exp(exponent / EXP_STEP), MAX_ALPHA)
                    left = T - weight
                    if left >= MIN_TRANSMITTANCE:
                        red += weight * splats[Packed.RED * BLOCK + j]
                        green += weight * splats[Packed.GREEN * BLOCK + j]
                        blue += weight * splats[Packed.BLUE * BLOCK + j]
                        far += weight * splats[Packed.DEPTH * BLOCK + j]
                        covered += weight
                        T = left
                    else:
                        T = 0.0
                j += 1
            if T > 0.0:
                busy[turn] = 1
            block.sync()
            at += BLOCK
            if busy[turn] == 0:
                at = end
            turn = 1 - turn
        if inside:
            image[0, row, column] = red + (1.0 - covered) * background[0]
            image[1, row, column] = green + (1.0 - covered) * background[1]
            image[2, row, column] = blue + (1.0 - covered) * background[2]
            alpha[row, column], depth[row, column] = covered, far


@ti.kernel
def composite_adjoint(
    tiles_x: ti.i32, tile_end: I32x1, entries: I32x2, packed: F32x2, background: F32x1,
    image: F32x3, alpha: F32x2, depth: F32x2, g_image: F32x3, g_alpha: F32x2, g_depth: F32x2, pair_grad: F32x2,
):  # fmt: skip
    """pair_grad (P,16): each pair's sums, see `splat_cpu.gather`; 0 where every pixel had stopped.

    First each thread is a pixel and walks through the batch; then SHARE threads share a splat, and each sums over BATCH pixels.
    """
    ti.loop_config(block_dim=BLOCK)
    for thread in range(tile_end.shape[0] * BLOCK):
        splats = block.SharedArray((FIELDS * BATCH,), ti.f32)
        quads = block.SharedArray((BATCH,), ti.i32)
        slopes = block.SharedArray((BATCH * PITCH,), ti.f32)  # dL/dalpha * alpha of each splat at each pixel
        weights = block.SharedArray((BATCH * PITCH,), ti.f32)
        upstream = block.SharedArray((4 * BLOCK,), ti.f32)  # gradient of red, green, blue, depth of each pixel
        parts = block.SharedArray((FIELDS * BLOCK,), ti.f32)
        busy = block.SharedArray((2,), ti.i32)
        tile, lane = thread // BLOCK, thread % BLOCK
        left_edge, top_edge = (tile % tiles_x) * TILE, (tile // tiles_x) * TILE
        column, row = left_edge + lane % TILE, top_edge + lane // TILE
        x, y = ti.cast(column, ti.f32) + 0.5, ti.cast(row, ti.f32) + 0.5
        T = 0.0  # transmittance, prod (1 - alpha_j) over the splats so far; 0 once the pixel has stopped
        behind = 0.0  # g . (C, depth, A) minus the values of the splats so far
        g_covered = 0.0  # gradient of A, including the background's share
        g_red, g_green, g_blue, g_far = 0.0, 0.0, 0.0, 0.0
        if column < alpha.shape[1] and row < alpha.shape[0]:
            T = 1.0
            g_red, g_green, g_blue = g_image[0, row, column], g_image[1, row, column], g_image[2, row, column]
            g_far, g_covered = g_depth[row, column], g_alpha[row, column]
            behind = g_covered * alpha[row, column] + g_far * depth[row, column]
            for c, g in ti.static(((0, g_red), (1, g_green), (2, g_blue))):
                behind += g * (image[c, row, column] - background[c])
                g_covered -= g * background[c]
        upstream[lane], upstream[BLOCK + lane] = g_red, g_green
        upstream[2 * BLOCK + lane], upstream[3 * BLOCK + lane] = g_blue, g_far
        at, end, turn = first_entry(tile_end, tile), tile_end[tile], 0
        while at < end:
            count = ti.min(BATCH, end - at)
            if lane < count:
                i = entries[at + lane, 0] >> QUAD_BITS
                quads[lane] = entries[at + lane, 0]
                for k in ti.static(range(FIELDS)):
                    splats[k * BATCH + lane] = packed[i, k]
            if lane == 0:
                busy[turn] = 0
            block.sync()
            for j in range(count):
                s, weight = 0.0, 0.0
                exponent = LOWEST - 1.0
                if T > 0.0 and (quads[j] & quad_of(lane)) != 0:
                    exponent = exponent_at(splats, j, BATCH, x, y)
                if exponent >= LOWEST:
                    full = ti.exp(exponent / EXP_STEP)
                    a = ti.min(full, MAX_ALPHA)
                    left = T - a * T
                    if left >= MIN_TRANSMITTANCE:
                        weight = a * T
                        value = g_red * splats[Packed.RED * BATCH + j] + g_green * splats[Packed.GREEN * BATCH + j]
                        value += g_blue * splats[Packed.BLUE * BATCH + j] + g_far * splats[Packed.DEPTH * BATCH + j] + g_covered
                        value *= weight
                        behind -= value
                        if full < MAX_ALPHA:  # cut where alpha was clamped
                            s = value - behind * a / (1.0 - a)
                        T = left
                    else:
                        T = 0.0
                slopes[j * PITCH + lane], weights[j * PITCH + lane] = s, weight
            if T > 0.0:
                busy[turn] = 1
            block.sync()
            mine, share = lane % BATCH, lane // BATCH
            total = Total(0.0)
            if mine < count:
                for k in range(BATCH):
                    pixel = share * BATCH + k
                    s, weight = slopes[mine * PITCH + pixel], weights[mine * PITCH + pixel]
                    dx = ti.cast(left_edge + pixel % TILE, ti.f32) + 0.5 - splats[Packed.X * BATCH + mine]
                    dy = ti.cast(top_edge + pixel // TILE, ti.f32) + 0.5 - splats[Packed.Y * BATCH + mine]
                    total[Sums.S] += s
                    total[Sums.S_DX] += s * dx
                    total[Sums.S_DX2] += s * dx * dx
                    total[Sums.S_DY] += s * dy
                    total[Sums.S_DXDY] += s * dx * dy
                    total[Sums.S_DY2] += s * dy * dy
                    for c in ti.static(range(4)):
                        total[Sums.RED + c] += weight * upstream[c * BLOCK + pixel]
            for k in ti.static(range(FIELDS)):
                parts[k * BLOCK + lane] = total[k]
            block.sync()
            for k in range((FIELDS * BATCH + BLOCK - 1) // BLOCK):
                j, field = (k * BLOCK + lane) // FIELDS, (k * BLOCK + lane) % FIELDS
                if j < count:
                    whole = 0.0
                    for part in ti.static(range(SHARE)):
                        whole += parts[field * BLOCK + part * BATCH + j]
                    pair_grad[entries[at + j, 1], field] = whole
            at += BATCH
            if busy[turn] == 0:
                while at < end:
                    if at + lane < end:
                        for k in ti.static(range(FIELDS)):
                            pair_grad[entries[at + lane, 1], k] = 0.0
                    at += BLOCK
                at = end
            turn = 1 - turn
    listed = tile_end[tile_end.shape[0] - 1]
    for j in range(entries.shape[0] - listed):  # pairs that no tile lists, see `tiles_gpu.list_pairs`
        for k in ti.static(range(FIELDS)):
            pair_grad[entries[listed + j, 1], k] = 0.0
