"""Blend shapes on a GPU, a thread per number instead of 16 at a time; the rest of the head model is in `skinning.py`."""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.types import F32x2, F32x3
from taichi_avatars.skinning_layout import LANES


@ti.kernel
def blend(split: ti.i32, coefficients: F32x2, basis: F32x3, base: F32x2, canonical: F32x2, corrected: F32x2):
    """As `skinning.blend`; shapes (bodies, S)."""
    size, last = base.shape[1], coefficients.shape[1]
    for i in range(base.shape[0] * size):
        body, at = i // size, i % size
        total = base[body, at]
        for k in range(split):
            total += coefficients[body, k] * basis[at // LANES, k, at % LANES]
        canonical[body, at] = total
        for k in range(split, last):
            total += coefficients[body, k] * basis[at // LANES, k, at % LANES]
        corrected[body, at] = total


@ti.kernel
def blend_adjoint(split: ti.i32, basis: F32x3, g_corrected: F32x2, g_canonical: F32x2, partial: F32x3, g_coefficients: F32x2):
    """As `skinning.blend_adjoint`. partial (bodies, chunks, K): scratch, a sum per chunk of the blocks."""
    size, last, chunks, blocks = g_corrected.shape[1], g_coefficients.shape[1], partial.shape[1], basis.shape[0]
    for i in range(g_corrected.shape[0] * size):
        body, at = i // size, i % size
        g_canonical[body, at] = g_canonical[body, at] + g_corrected[body, at]
    for i in range(g_corrected.shape[0] * chunks * last):
        body, chunk, k = i // (chunks * last), i // last % chunks, i % last
        total = 0.0
        for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            for lane in range(LANES):
                at = block * LANES + lane
                g = g_corrected[body, at]
                if k < split:
                    g = g_canonical[body, at]
                total += g * basis[block, k, lane]
        partial[body, chunk, k] = total
    for i in range(g_corrected.shape[0] * last):
        body, k = i // last, i % last
        total = 0.0
        for chunk in range(chunks):
            total += partial[body, chunk, k]
        g_coefficients[body, k] = total
