"""Ctrl-C between the steps of a run instead of within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """A first Ctrl-C arrives when the block is done; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():  # no signal arrives in another
        yield
        return
    before = signal.getsignal(signal.SIGINT) or signal.SIG_DFL
    arrived = False

    def hold(*_: object) -> None:
        nonlocal arrived
        arrived = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if arrived:
        signal.raise_signal(signal.SIGINT)
