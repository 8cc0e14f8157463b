"""Vectors of 16 pixels or quads for the CPU's kernels; launched inside `runtime.native_vectors()`.

In that mode `-v`, `v -= w` and casts of comparisons abort, so the code writes `0.0 - v`, `v = v - w` and `ti.select`.
"""

from taichi_avatars.engine import ti

LANES = 16
Vec = ti.types.vector(LANES, ti.f32)


@ti.func
def halve(a, b, group: ti.template()):
    """Adds neighbouring groups of `group` lanes of a, and of b: a's sums are the lower half of the result, b's the upper."""
    low = ti.static([i for i in range(LANES) if i % (2 * group) < group])
    high = ti.static([i for i in range(LANES) if i % (2 * group) >= group])
    near = Vec([a[i] for i in ti.static(low)] + [b[i] for i in ti.static(low)])
    far = Vec([a[i] for i in ti.static(high)] + [b[i] for i in ti.static(high)])
    return near + far


@ti.func
def lane_sum(a):
    """Sum over the lanes, by a tree of shuffles: `.sum()` is a serial chain."""
    for group in ti.static((8, 4, 2, 1)):
        a = halve(a, a, group)
    return a[0]
