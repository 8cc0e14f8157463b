"""A process that measures its own memory: `python -m taichi_avatars.bench.memory GAUSSIANS WIDTH HEIGHT DEVICE THREADS`."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

from taichi_avatars import runtime

WARM = (500, 64, 96)  # Gaussians, width, height
RESET_PEAK = "5"  # proc(5), clear_refs: resets the peak to the current resident size


def peak_above(call: Callable[[], object]) -> int | None:
    """Peak bytes of resident memory during a call beyond what was held before it; None if not on Linux."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that is free but still resident would hide the call's use
        with open("/proc/self/clear_refs", "w", encoding="ascii") as control:
            control.write(RESET_PEAK)
        before = _status("VmRSS")
        call()
        return _status("VmHWM") - before
    except (OSError, AttributeError, StopIteration):
        return None


def peak_on_gpu(call: Callable[[], object]) -> int:
    """Peak bytes of GPU memory held by torch during a call beyond what it held before it."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(f"{name}:"))


def main(count: int, width: int, height: int, device: str, threads: int) -> None:
    runtime.init(device, threads)
    from taichi_avatars.bench.kernels import forward_backward_of
    from taichi_avatars.bench.scenes import dense_scene

    forward_backward_of(dense_scene(*WARM))()
    forward_backward = forward_backward_of(dense_scene(count, width, height))
    print((peak_on_gpu if device == "cuda" else peak_above)(forward_backward))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
