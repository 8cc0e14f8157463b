"""What all sources have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from taichi_avatars.motion.live.face import Face

# Called for every face with the moment of its arrival (time.monotonic), and whether its sender is new.
Take = Callable[[Face, float, bool], None]


@dataclass
class Traffic:
    """What came in.

    Attributes:
        faces: observations taken.
        refused: packets that were none of the protocol's.
        others: packets of senders that were not listened to.
        skipped: packets that came faster than they could be read.
        sender: whom the last valid one came from.
    """

    faces: int = 0
    refused: int = 0
    others: int = 0
    skipped: int = 0
    sender: str = ""


class Source(Protocol):
    """Something that motion comes from. It works on a thread of its own from `start` until `close`.

    Attributes:
        name: for people.
        warning: what its user must know where others could reach it.
        traffic: counters.
        ended: whether nothing will come any more, as at the end of a file.
        failure: why it ended before its time.
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
