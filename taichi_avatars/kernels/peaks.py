"""Peak rates of the machine: memory bandwidth, multiplication and addition. The baseline for all other kernels.

Launched inside `runtime.native_vectors()` on the CPU.
"""

from taichi_avatars.engine import ti
from taichi_avatars.kernels.lanes import Vec
from taichi_avatars.kernels.tasks import TASK
from taichi_avatars.kernels.types import F32x1, VecX1

CHAINS = 12  # independent chains of dependent operations: enough to keep every pipe busy


@ti.kernel
def triad(factor: ti.f32, a: VecX1, b: VecX1, c: VecX1):
    """a = b + factor c (STREAM, McCalpin 1995)."""
    for i in range(a.shape[0]):
        a[i] = b[i] + factor * c[i]


@ti.kernel
def multiply_add(rounds: ti.i32, factor: ti.f32, out: VecX1):
    """CHAINS * LANES multiplications and additions per round and task."""
    ti.loop_config(block_dim=1)
    for step in range(out.shape[0] * TASK):
        if step % TASK != 0:
            continue
        chains = [Vec(1.0 + 0.1 * k) for k in ti.static(range(CHAINS))]
        for _ in range(rounds):
            for k in ti.static(range(CHAINS)):
                chains[k] = chains[k] * factor + 0.5
        total = Vec(0.0)
        for k in ti.static(range(CHAINS)):
            total = total + chains[k]
        out[step // TASK] = total


@ti.kernel
def nothing(a: F32x1, b: F32x1, c: F32x1, d: F32x1, e: F32x1, f: F32x1, g: F32x1, h: F32x1):
    """An empty launch with eight tensors."""
    for i in range(1):
        a[i] = b[i]
