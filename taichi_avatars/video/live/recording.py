"""Records live pictures to an mp4, and their motion beside it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.live.rig import FaceRig
from taichi_avatars.video.live.frame import LiveFrame
from taichi_avatars.video.mp4 import write_mp4

WAITING = 8  # pictures that may wait for the encoder
STEADY, MOST_BEHIND = 0.1, 0.3  # weight of each picture in the running mean of their ages; seconds
PATIENCE = 0.1  # seconds between checks that the encoder is still alive


class _Failed(Exception):
    pass


class Recording:
    """An mp4 with a constant frame rate: a picture is repeated until the next one is due.

    It begins with the first face; with sound, immediately.

    Args:
        own: the avatar's sequence.
        sound: a file whose sound is added, in sync with the pictures made from it.

    Raises:
        UserError: for a name that does not end in .mp4.
    """

    def __init__(self, path: Path, fps: float, rig: FaceRig, own: FlameSequence, sound: Path | None = None) -> None:
        if path.suffix.lower() != ".mp4":
            raise UserError(f"{path}: a recording is an mp4; give a name ending in .mp4")
        self.name, self.motion = str(path), path.with_suffix(".npz")
        self._path, self._fps, self._rig, self._own, self._sound = path, fps, rig, own, sound
        self._pictures: queue.Queue[np.ndarray | _Failed | None] = queue.Queue(WAITING)
        self._rows: list[np.ndarray] = []
        self._began: float | None = None
        self._last: LiveFrame | None = None
        self._behind = 0.0  # seconds
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def show(self, frame: LiveFrame, now: float) -> None:
        if not frame.moving and self._sound is None:
            return
        if self._sound is not None:  # a picture shows a moment whose sound was earlier
            self._behind += STEADY * (min(frame.age, MOST_BEHIND) - self._behind)
            now -= self._behind
        if self._began is None:
            self._began = now
            self._thread = threading.Thread(target=self._write, daemon=True, name="live-recording")
            self._thread.start()
        due = round((now - self._began) * self._fps)  # this picture's number
        while self._last is not None and len(self._rows) < due:
            self._put(self._last)
        if len(self._rows) == due:
            self._put(frame)
        self._last = frame

    def _put(self, frame: LiveFrame) -> None:
        self._rows.append(frame.row.astype(np.float32))
        self._hand_over(frame.image)

    def close(self, *, failed: bool = False) -> None:
        """Finishes the files.

        Raises:
            UserError: if nothing was recorded, or the file cannot be written.
        """
        if self._thread is None:
            if not failed:
                raise UserError(f"{self.name}: not written: no face arrived; check that the sender sends here")
            return
        self._hand_over(_Failed() if failed else None)
        self._thread.join()
        if failed:
            return
        if self._error is not None:
            raise self._error
        self._rig.sequence(np.stack(self._rows), self._own).save_npz(self.motion)

    def _hand_over(self, item: np.ndarray | _Failed | None) -> None:
        assert self._thread is not None
        while self._thread.is_alive():
            try:
                self._pictures.put(item, timeout=PATIENCE)
                return
            except queue.Full:
                continue
        if self._error is not None and item is not None:
            raise self._error

    def _write(self) -> None:
        try:
            write_mp4(self._path, self._taken(), round(self._fps), audio=self._sound)
        except _Failed:
            pass
        except BaseException as error:  # it belongs to the thread that shows
            self._error = error

    def _taken(self) -> Iterator[np.ndarray]:
        while (item := self._pictures.get()) is not None:
            if isinstance(item, _Failed):
                raise item
            yield item
