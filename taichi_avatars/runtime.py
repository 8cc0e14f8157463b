"""The only place that starts Taichi: choice of backend, threads, offline cache, quiet stdout.

Nothing here runs at import. The first op, or `init`, starts the backend; there is one per process.
"""

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from taichi_avatars.errors import UserError

_started: str | None = None
_threads = 1


def init(device: str = "auto", threads: int | None = None, **options: object) -> str:
    """Starts the Taichi backend of this process and returns its name.

    Args:
        device: "auto" or "cpu".
        threads: CPU threads for Taichi and torch; None uses every core that this process may run on.
        options: further arguments of `ti.init`, for tests and profiling (`kernel_profiler`, `offline_cache`).

    Raises:
        UserError: for an unknown device, or when another backend already runs in this process.
    """
    global _started, _threads
    wanted = {"auto": "cpu", "cpu": "cpu"}.get(device)
    if wanted is None:
        raise UserError(f"device {device!r} is not supported: use auto or cpu")
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1, got {threads}")
    if _started is not None:
        if _started != wanted:
            raise UserError(
                f"Taichi already runs on {_started} in this process and cannot change to {wanted}: start a new process"
            )
        return _started

    import taichi as ti
    import torch

    count = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    torch.set_num_threads(count)
    settings = {"offline_cache": True, "log_level": ti.WARN, "cpu_max_num_threads": count, **options}
    # Taichi greets on stdout, which belongs to --json and to pipes.
    with redirect_stdout(io.StringIO()):
        ti.init(arch=ti.cpu, **settings)
    _keep_freed_memory()
    _started, _threads = wanted, count
    return wanted


def _keep_freed_memory() -> None:
    """Lets the allocator keep what a step frees for the next step: fresh pages from the system cost a sixth of its CPU time."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # not the GNU C library
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def start() -> None:
    """Starts the default backend unless one runs already. Every op calls this before its first launch."""
    if _started is None:
        init()


def threads() -> int:
    """CPU threads that Taichi and torch use."""
    return _threads


@contextmanager
def native_vectors() -> Iterator[None]:
    """Kernels first launched inside compile lane-wide vectors to real SIMD instructions; all others stay scalarised.

    Setting this for the whole process breaks kernels with small-matrix array arguments, so it is limited to the launch.
    """
    import taichi as ti

    config = ti.lang.impl.current_cfg()  # pyright: ignore[reportOptionalMemberAccess]
    config.real_matrix_scalarize = False
    try:
        yield
    finally:
        config.real_matrix_scalarize = True


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Says on stderr that kernels are being compiled, if that takes long enough for a person to wonder."""
    import threading

    said = threading.Event()

    def say() -> None:
        said.set()
        print(f"compiling {what} (once per machine, the result is cached) ...", file=sys.stderr, flush=True)

    timer = threading.Timer(1.0, say)
    timer.daemon = True
    began = time.perf_counter()
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if said.is_set():
            print(f"compiled {what} in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
