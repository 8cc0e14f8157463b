"""The thread that a viewer has to itself, which the tests are not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from taichi_avatars.viewer.viewer import Viewer


@contextmanager
def running(viewer: Viewer) -> Iterator[Viewer]:
    """Serves while the block runs; what fails in there fails the test."""
    stopped = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stopped.is_set():
                viewer.turn()
                viewer.wait()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield viewer
    finally:
        stopped.set()
        thread.join()
        viewer.close()
    assert not failures, failures
