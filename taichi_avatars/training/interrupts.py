"""Ctrl-C and SIGTERM between the steps of a run instead of within one, and in all of its processes after the same one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


class HalfStepInterrupt(KeyboardInterrupt):
    """An interrupt that did not wait for the end of a step, half of which could neither be used nor resumed from."""


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, with which machines are shut down and jobs are ended, raises KeyboardInterrupt as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are put into the list that this gives; the same a second time raises KeyboardInterrupt at once.

    For several processes, which must not stop before they agree on it. torchrun passes on what it gets itself.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def note(number: int, *_: object) -> None:
        if number in arrived:
            raise KeyboardInterrupt
        arrived.append(number)

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def held_back() -> Iterator[None]:
    """A first Ctrl-C or SIGTERM arrives when the block is done; a second one does not wait.

    Raises:
        HalfStepInterrupt: where the block was interrupted all the same.
    """
    if threading.current_thread() is not threading.main_thread():  # no signal arrives in another
        yield
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOPPING}
    arrived: list[int] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, *_: object) -> None:
        arrived.append(number)
        restore()

    for number in STOPPING:
        signal.signal(number, hold)
    try:
        yield
    except KeyboardInterrupt:
        raise HalfStepInterrupt from None
    finally:
        restore()
    if arrived:
        signal.raise_signal(arrived[0])
