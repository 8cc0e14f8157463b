"""The machine's peak rates, measured on the spot: the reference of a profile."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from taichi_avatars import runtime

ARRAY = 1 << 20  # vectors of 16 floats: 64 MiB, beyond any cache
ROUNDS = 1 << 16
REPEATS = 5


@dataclass(frozen=True)
class Peaks:
    """Peak rates of all threads together.

    memory_gb_s: copying, multiplying and adding large arrays (STREAM's triad), bytes read and written.
    fma_gflop_s: multiplications and additions in registers.
    launch_us: one launch of a kernel that does nothing, with eight tensors, microseconds.
    """

    memory_gb_s: float
    fma_gflop_s: float
    launch_us: float


def measure_peaks() -> Peaks | None:
    """Measures the peaks of this machine, in about a second; None on a GPU, for which these kernels are not written."""
    if runtime.on_gpu():
        return None
    from taichi_avatars.kernels import peaks as kernel
    from taichi_avatars.kernels.lanes import LANES

    a, b, c = (torch.ones(ARRAY, LANES) for _ in range(3))
    out = torch.empty(4 * runtime.threads(), LANES)
    one = [torch.ones(1) for _ in range(8)]
    with runtime.native_vectors():
        triad = _seconds(lambda: kernel.triad(2.0, a, b, c))
        multiply_add = _seconds(lambda: kernel.multiply_add(ROUNDS, 0.5, out))
    launch = _seconds(lambda: kernel.nothing(*one))
    operations = 2 * ROUNDS * kernel.CHAINS * out.numel()
    return Peaks(3 * a.nbytes / triad / 1e9, operations / multiply_add / 1e9, 1e6 * launch)


def _seconds(call: Callable[[], object]) -> float:
    """The median of some calls after one that compiles the kernel."""
    call()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
