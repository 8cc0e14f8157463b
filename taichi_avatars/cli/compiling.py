"""Reports the kernels that a command has to compile, as it compiles them."""

from __future__ import annotations

import time
from collections.abc import Callable

from taichi_avatars import compiled
from taichi_avatars.compiled import first_launches

SECONDS = 1.0  # between two lines; most kernels take a tenth of that
SLOW = ("project", "project_adjoint")  # these take seconds, and are always named
# What commands are known to need.
NEEDED = {
    "train": compiled.TRAINING,
    "render": compiled.IMAGES,
    "synth": compiled.FILMING,
    "demo": compiled.FILMING | compiled.TRAINING,
    "create": compiled.TRAINING | compiled.TRACKING,
}


def say_what_is_compiled(command: str, say: Callable[[str], None]) -> None:
    """Passes `say` the kernels that this process compiles, each before it is compiled, at most a line a second."""
    last = -SECONDS

    def told(name: str) -> None:
        nonlocal last
        if time.monotonic() - last < SECONDS and name not in SLOW:
            return
        last = time.monotonic()
        left = len(first_launches.left(NEEDED.get(command, frozenset())) - {name})
        say(f"compiling {name} for this machine{f', {left} more to compile' if left else ''}")

    first_launches.told = told
