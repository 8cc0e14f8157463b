"""torch's own threads, which are OpenMP's: how they wait for work, and how they round.

Whatever cannot be done where another OpenMP than GNU's serves torch is left undone: it costs time, not correctness.
"""

import ctypes
import os
import sys
import threading

_torch_came_first = False


def wait_asleep() -> None:
    """Has torch's threads sleep between its operations; to be called as the package is imported.

    Otherwise they spin on the cores that Taichi's need: a third of a training step's CPU time, and ten times its duration on a
    busy machine. The setting is read when torch is loaded; where it is there already, `stop_spinning` has to do.
    """
    global _torch_came_first
    _torch_came_first = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def stop_spinning() -> None:
    """Has threads of torch that was imported before this package sleep all the same.

    GNU's OpenMP lets its threads spin 300,000 times, but a hundred times where it manages more of them than there are cores. So
    a second team, as large as the cores are many, is made here; its threads sleep for ever. Measured on two cores with other
    work: a frame takes 22 CPU ms instead of 60 to 130.
    """
    libraries = _libraries() if _torch_came_first else []
    if not libraries:
        return
    size = len(os.sched_getaffinity(0))
    made = threading.Event()

    def keep_a_team() -> None:
        _in_every_thread(libraries, size, "fegetround", None)  # something that does nothing
        made.set()
        threading.Event().wait()

    threading.Thread(target=keep_a_team, name="openmp", daemon=True).start()
    made.wait()


def round_alike() -> None:
    """Has torch's threads round denormal numbers to zero, as Taichi makes the thread that starts it do.

    A thread begins as the one was that made it, so those of torch that are there already would go on otherwise than this one:
    where a tensor is cut among them its halves would be rounded differently, and Adam makes whole steps of such gradients.
    GNU's OpenMP lets each of them take over the floating-point environment of this one.
    """
    import torch

    libraries = _libraries()
    if libraries:
        environment = ctypes.create_string_buffer(64)  # glibc's fenv_t is smaller on every processor
        ctypes.CDLL("libm.so.6").fegetenv(environment)
        _in_every_thread(libraries, torch.get_num_threads(), "fesetenv", environment)


def _libraries() -> list[str]:
    """GNU's OpenMP as it is loaded in this process, perhaps several times."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return sorted({line.split(None, 5)[5].strip() for line in maps if "libgomp" in line})
    except OSError:  # another system, whose OpenMP is another
        return []


def _in_every_thread(libraries: list[str], count: int, function: str, argument: object) -> None:
    """Calls a function of the C library's mathematics in so many threads of each OpenMP."""
    try:
        called = getattr(ctypes.CDLL("libm.so.6"), function)
        for library in libraries:
            ctypes.CDLL(library).GOMP_parallel(called, argument, count, 0)
    except (OSError, AttributeError):
        return
