"""Records kernel launches and their durations. The kernels and ops know nothing of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor

from taichi_avatars import runtime


class Launch(NamedTuple):
    """One launch.

    begin, end: seconds on `time.perf_counter`.  cpu: seconds of all threads.  memory: bytes of the tensors it was given.
    """

    kernel: str
    begin: float
    end: float
    cpu: float
    memory: int


def wait() -> None:
    """Waits until all launched kernels are done. On the CPU they already are."""
    if runtime.on_gpu():
        from taichi_avatars.engine import ti

        ti.sync()


@contextmanager
def recorded_launches(on_launch: Callable[[Launch], None] | None = None) -> Iterator[list[Launch]]:
    """Context that records every kernel launched inside, timed around the launch.

    Taichi's own profiler has to be switched on before the first kernel compiles, for the life of the process, keeps every
    launch in memory and does not exist for Vulkan. On the CPU a launch returns when the kernel is done; elsewhere it is
    waited for, so that a recorded run does not overlap kernels with Python.
    """
    runtime.start()
    from taichi_avatars.engine import Kernel

    launches: list[Launch] = []
    tell = on_launch or launches.append
    launch = Kernel.__call__

    def timed(kernel: Kernel, *args: object, **kwargs: object) -> object:
        wait()
        begin, cpu = time.perf_counter(), time.process_time()
        result = launch(kernel, *args, **kwargs)
        wait()
        end, cpu = time.perf_counter(), time.process_time() - cpu
        memory = sum(value.nbytes for value in args if isinstance(value, Tensor))
        tell(Launch(kernel.func.__name__, begin, end, cpu, memory))
        return result

    Kernel.__call__ = timed  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield launches
    finally:
        Kernel.__call__ = launch  # pyright: ignore[reportAttributeAccessIssue]
