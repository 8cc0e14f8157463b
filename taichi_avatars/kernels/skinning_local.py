"""Blend shapes that each move only a part of the face: a block of numbers reads only those that move it.

As `skinning.blend` and its adjoint, where `ranges[block, 0]` to `ranges[block, 1]` - 1 are the components below `split` that
are not all zero in a block. GNM's 383 expressions are ordered by region, so most blocks read a small part of them. FLAME keeps
its own kernel: the same sums differ here in the last bits.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import Vec
from taichi_avatars.kernels.skinning import add_chunks, add_gradients, add_terms
from taichi_avatars.kernels.types import F32x2, I32x2, VecX2, VecX3


# Native vectors: launch inside runtime.native_vectors().
@ti.kernel
def blend(split: ti.i32, coefficients: F32x2, basis: VecX2, ranges: I32x2, base: VecX2, canonical: VecX2, corrected: VecX2):
    """canonical = base + basis[:, :split] c[:split]; corrected = canonical + basis[:, split:] c[split:]. One row per body."""
    bodies, last = coefficients.shape[0], coefficients.shape[1]
    for i in range(basis.shape[0] * bodies):
        block, body = i // bodies, i % bodies
        total = base[body, block]
        total = add_terms(total, coefficients, body, basis, block, ranges[block, 0], ranges[block, 1])
        canonical[body, block] = total
        total = add_terms(total, coefficients, body, basis, block, split, last)
        corrected[body, block] = total


# Native vectors: launch inside runtime.native_vectors().
@ti.kernel
def blend_adjoint(
    split: ti.i32, basis: VecX2, ranges: I32x2, g_corrected: VecX2, g_canonical: VecX2, partial: VecX3, g_coefficients: F32x2
):
    """Adds g_corrected to g_canonical, which is then the gradient of the base. partial (bodies, chunks, K) is scratch."""
    bodies, last, blocks, chunks = g_coefficients.shape[0], g_coefficients.shape[1], basis.shape[0], partial.shape[1]
    for i in range(bodies * chunks):
        body, chunk = i // chunks, i % chunks
        for k in range(last):
            partial[body, chunk, k] = Vec(0.0)
        for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):
            g = g_corrected[body, block]
            add_gradients(partial, body, chunk, g, basis, block, split, last)
            g = g + g_canonical[body, block]
            g_canonical[body, block] = g
            add_gradients(partial, body, chunk, g, basis, block, ranges[block, 0], ranges[block, 1])
    for i in range(bodies * last):
        add_chunks(partial, g_coefficients, i // last, i % last)
