"""torch's own threads, which are OpenMP's: how they wait for work, and how they round.

Where torch uses another OpenMP than GNU's, what cannot be done is skipped: that costs time, not correctness.
"""

import ctypes
import os
import sys
import threading

_torch_came_first = False


def wait_asleep() -> None:
    """Makes torch's threads sleep between its operations; to be called when the package is imported.

    Otherwise they spin on the cores that Taichi's threads need: a third of a training step's CPU time, and ten times its
    duration on a busy machine. The setting is read when torch is loaded; if that has already happened, see `stop_spinning`.
    """
    global _torch_came_first
    _torch_came_first = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def stop_spinning() -> None:
    """Makes torch's threads sleep even if torch was imported before this package.

    GNU's OpenMP lets its threads spin 300,000 times, but only a hundred times if it manages more of them than there are cores.
    So a second team with as many threads as there are cores is created here; its threads sleep forever. Measured on two cores
    under other load: a frame takes 22 CPU ms instead of 60 to 130.
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
    """Makes torch's threads flush denormal numbers to zero, as Taichi makes the thread that starts it do.

    A thread inherits the mode of its creator, so threads that torch already has would keep another mode than this one: a tensor
    split among them would be rounded differently in its parts, and Adam makes full steps of such gradients.
    GNU's OpenMP lets each of them adopt the floating-point environment of this one.
    """
    import torch

    libraries = _libraries()
    if libraries:
        environment = ctypes.create_string_buffer(64)  # glibc's fenv_t is smaller on every processor
        ctypes.CDLL("libm.so.6").fegetenv(environment)
        _in_every_thread(libraries, torch.get_num_threads(), "fesetenv", environment)


def _libraries() -> list[str]:
    """GNU's OpenMP as loaded in this process, possibly several times."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            return sorted({line.split(None, 5)[5].strip() for line in maps if "libgomp" in line})
    except OSError:  # another operating system, with another OpenMP
        return []


def _in_every_thread(libraries: list[str], count: int, function: str, argument: object) -> None:
    """Calls a function of the C mathematics library in this many threads of each OpenMP."""
    try:
        called = getattr(ctypes.CDLL("libm.so.6"), function)
        for library in libraries:
            ctypes.CDLL(library).GOMP_parallel(called, argument, count, 0)
    except (OSError, AttributeError):
        return
