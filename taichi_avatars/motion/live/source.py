"""What all sources have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from taichi_avatars.motion.live.face import Face

# Called for every face with its time of arrival (time.monotonic), and whether its sender is new.
Take = Callable[[Face, float, bool], None]


@dataclass
class Traffic:
    """Counters of received packets.

    Attributes:
        faces: observations taken.
        refused: packets that were not of the protocol.
        others: packets from senders that were ignored.
        skipped: packets that arrived faster than they could be read.
        sender: of the last valid one.
    """

    faces: int = 0
    refused: int = 0
    others: int = 0
    skipped: int = 0
    sender: str = ""


class Source(Protocol):
    """A source of motion. It runs on its own thread from `start` until `close`.

    Attributes:
        name: for display.
        warning: for the user, if others could reach it.
        traffic: counters.
        ended: whether nothing more will come, as at the end of a file.
        failure: why it ended early.
    """

    name: str
    warning: str | None
    traffic: Traffic

    @property
    def ended(self) -> bool: ...
    @property
    def failure(self) -> str | None: ...
    def start(self, take: Take) -> None: ...
    def close(self) -> None: ...
