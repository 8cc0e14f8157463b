"""Times of calls, and the machine they were measured on."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from taichi_avatars import engine, runtime
from taichi_avatars.timing.launches import wait


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call: median and minimum of several, and CPU time of all threads together (median)."""

    median_ms: float
    min_ms: float
    cpu_ms: float


def timed(call: Callable[[], object], repeats: int) -> Timing:
    """Times `repeats` calls after two warm-up calls, for compilation and memory."""
    call()
    call()
    wait()
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        wait()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return Timing(statistics.median(walls), min(walls), statistics.median(cpus))


def machine() -> dict[str, object]:
    """The machine that the numbers depend on."""
    return {
        "processor": processor(),
        "backend": runtime.backend(),
        "threads": runtime.threads(),
        "engine": engine.version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name, as the system has it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
