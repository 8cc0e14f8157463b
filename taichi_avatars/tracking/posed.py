"""The fitted head in the frames of a video."""

from __future__ import annotations

from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence

TOGETHER = 16  # frames, which take no longer than four one by one


class PosedHead:
    """Vertices of one frame after another: those of the next ones are computed together.

    Args:
        sequence: parameters of all frames.
    """

    def __init__(self, head: FlameModel, sequence: FlameSequence) -> None:
        self.head, self.sequence = head, sequence
        self._first, self._vertices = 0, sequence.vertices(head, slice(0, TOGETHER))

    def __call__(self, row: int) -> Tensor:
        """(V,3) world, metres."""
        if not 0 <= row - self._first < len(self._vertices):
            self._first, self._vertices = row, self.sequence.vertices(self.head, slice(row, row + TOGETHER))
        return self._vertices[row - self._first]
