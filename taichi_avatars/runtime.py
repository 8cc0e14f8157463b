"""The only module that starts Taichi: choice of backend, threads, offline cache, quiet stdout.

Nothing here runs at import. The first op, or `init`, starts the backend; there is one per process.
"""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

from taichi_avatars import frontend, machine, openmp, ranks
from taichi_avatars.compiled import first_launches
from taichi_avatars.errors import UserError
from taichi_avatars.launching import detached, quick, serves

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "vulkan")

_started: str | None = None
_threads = 1
_forked = False  # whether this is the child of a process in which Taichi ran
# Taichi starts, compiles and launches for one thread at a time: two at once take each other's settings or kill the process.
_one_at_a_time = threading.RLock()


def init(device: str = "auto", threads: int | None = None, **options: object) -> str:
    """Starts the Taichi backend of this process and returns its name.

    Args:
        device: "cpu", "cuda", "vulkan", or "auto": what is already running, else cuda if torch and Taichi find it, else cpu.
        threads: CPU threads for Taichi and torch; None uses every core that this process may run on, or its share of them
            if torchrun has started several.
        options: further arguments of `ti.init`, for tests and profiling (`kernel_profiler`, `offline_cache`).

    Raises:
        UserError: for an unknown device, one that this machine lacks, or when another backend, or one with other threads,
            already runs in this process.
    """
    if device not in DEVICES:
        raise UserError(f"device {device!r} is not supported: use {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1, got {threads}")
    _refuse_if_forked()  # before the lock, which another thread may have held
    with _one_at_a_time:
        if _started is None:
            return _start(_best() if device == "auto" else device, threads, options)
    if device not in ("auto", _started):
        raise UserError(f"Taichi already runs on {_started} in this process and cannot change to {device}: start a new process")
    if threads not in (None, _threads):
        raise UserError(f"Taichi already runs with {_threads} threads and cannot change to {threads}: start a new process")
    return _started


def _best() -> str:
    import torch

    from taichi_avatars.engine import lang, ti

    return "cuda" if torch.cuda.is_available() and lang.misc.is_arch_supported(ti.cuda) else "cpu"


def _start(device: str, threads: int | None, options: dict[str, object]) -> str:
    global _started, _threads
    import torch

    from taichi_avatars.engine import lang, ti

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: torch finds no CUDA device: install its CUDA build and the driver, or use cpu")
    if device == "vulkan" and not lang.misc.is_arch_supported(ti.vulkan):
        raise UserError("device vulkan: there is no Vulkan driver: install one (without a GPU: Mesa's lavapipe), or use cpu")
    count = threads or max(1, machine.cores() // ranks.on_this_machine())
    _choose_vector_code()
    torch.set_num_threads(count)
    cache = _kernel_cache(device)
    settings = {"log_level": ti.WARN, "cpu_max_num_threads": count, **cache, **options}
    # Taichi prints a greeting on stdout, which belongs to --json and to pipes.
    with redirect_stdout(io.StringIO()):
        ti.init(arch=getattr(ti, device), **settings)
    arch = lang.impl.current_cfg().arch
    if arch != getattr(ti, device):  # Taichi falls back to another backend with only a warning; likewise if TI_ARCH is set
        ti.reset()
        raise UserError(f"device {device}: Taichi cannot use it here and would run on {arch.name}: use another device")
    openmp.round_alike()
    openmp.stop_spinning()
    _serve_all_threads(device)
    _refuse_in_children()
    _keep_freed_memory()
    _started, _threads = device, count
    return device


def _serve_all_threads(device: str) -> None:
    """Lets any Python thread launch kernels, not only the one that started the backend."""
    from taichi_avatars.engine import Kernel, lang, ti

    # Taichi otherwise does this at the first launch, and refuses to in another thread
    lang.impl.get_runtime().materialize()
    launch = (quick if device == "cpu" and serves(ti) else detached)(Kernel.__call__)

    def launch_alone(self: Kernel, *args: object, **kwargs: object) -> object:
        _refuse_if_forked()
        with _one_at_a_time:
            first_launches.before(self, self.func.__name__)
            return launch(self, *args, **kwargs)

    Kernel.__call__ = launch_alone  # pyright: ignore[reportAttributeAccessIssue]


def _kernel_cache(device: str) -> dict[str, object]:
    from taichi_avatars import engine

    # Quadrants knows a kernel by its source, see `frontend.KnownBySource`.
    digest = frontend.source_digest()
    name = "kernels" if engine.name() == "taichi" else f"kernels-{engine.name()}-{digest}"
    folder = machine.kernel_folder(name)
    first_launches.keep_in(folder, f"{device} {digest}")
    # The engine takes UTF-8, also where Python reads names as ASCII (LC_ALL=C) and its strings hold the other bytes escaped.
    return {"offline_cache": True, "offline_cache_file_path": os.fsencode(folder).decode("utf-8", "replace")}


def _refuse_in_children() -> None:
    """Makes child processes forked from now on refuse to launch: they lack Taichi's threads and would wait for them."""

    def forked() -> None:
        global _forked
        _forked = True

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forked)


def _refuse_if_forked() -> None:
    if _forked:
        raise UserError(
            "this process was forked after Taichi had started, and has none of its threads: "
            "start workers with multiprocessing.get_context('spawn'), or fork before the first use"
        )


def _choose_vector_code() -> None:
    """Makes torch's vector mathematics detect the processor on one thread: the same bits in every process.

    Its first exp, log or sin does so. When two threads made that call at once, one of them sometimes used code for an
    older processor, whose last bits differ: in 42 of 13,000 processes, and in none of 13,000 after a call on one number.
    """
    import torch

    torch.ones(1).exp()


def _keep_freed_memory() -> None:
    """Makes the allocator keep what a step frees for the next one: fresh pages from the system cost a sixth of its CPU time."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library than GNU's
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def start() -> None:
    """Starts the default backend unless one is running. Every op calls this before its first launch."""
    if _started is None or _forked:
        init()


def backend() -> str:
    """Where kernels run: "cpu", "cuda" or "vulkan"; the default backend is started if none runs."""
    start()
    assert _started is not None
    return _started


def on_gpu() -> bool:
    """Whether kernels run as many short threads with shared memory; otherwise they run as few long tasks on the CPU."""
    return backend() != "cpu"


def device() -> "torch.device":
    """The device of tensors. With Vulkan that is also the CPU: Taichi copies them to the GPU and back."""
    import torch

    return torch.device("cuda" if backend() == "cuda" else "cpu")


def threads() -> int:
    """CPU threads that Taichi and torch use."""
    return _threads


@contextmanager
def native_vectors() -> Iterator[None]:
    """Context in which first-launched kernels compile lane-wide vectors to SIMD instructions; all others stay scalarised.

    Setting this for the whole process breaks kernels with small-matrix array arguments, so it is limited to the launch.
    A GPU's lanes are its threads: nothing changes there.
    """
    if on_gpu():
        yield
        return
    from taichi_avatars.engine import lang

    with _one_at_a_time:
        config = lang.impl.current_cfg()
        config.real_matrix_scalarize = False
        try:
            yield
        finally:
            config.real_matrix_scalarize = True


def natively(launch: Callable[..., object]) -> Callable[..., object]:
    """A large kernel that is always launched inside `native_vectors`.

    It is compiled without the engine's common-subexpression elimination, whose time grows with the square of a
    kernel's length: LLVM does that, too. The code is as fast, and rounds alike.
    """

    def call(*args: object) -> object:
        from taichi_avatars.engine import lang

        with native_vectors():
            config = lang.impl.current_cfg()
            config.opt_level = 0
            try:
                return launch(*args)
            finally:
                config.opt_level = 1

    return call
