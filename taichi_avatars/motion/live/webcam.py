"""A webcam, or a video file played in real time: landmarks and expressions of the face in every frame."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
import roma
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.faces.detector import find_faces
from taichi_avatars.faces.head_turn import HeadTurn
from taichi_avatars.faces.landmarks import FaceLandmarks, find_expressions, find_landmarks
from taichi_avatars.faces.networks import load_networks
from taichi_avatars.faces.regions import Picture, Region
from taichi_avatars.motion.live.face import LOST, Face
from taichi_avatars.motion.live.source import Take, Traffic

PRESENT = 0.5  # presence of a face below which it is lost
LOOK_EVERY = 0.3  # seconds between searches for a lost face: the detector takes longer than landmarks
SIZE, RATE = "640x480", "30"
FORMATS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}:none"), "win32": ("dshow", "video={}")}


class FaceReader:
    """Finds one face, the largest, and tracks it from frame to frame."""

    def __init__(self) -> None:
        self._region: Region | None = None
        self._turn = HeadTurn()
        self._looked = -LOOK_EVERY
        self._names = load_networks().blendshapes.names

    def read(self, picture: Picture, moment: float) -> Face:
        """The face in an image (H,W,3) uint8 RGB; `moment` in seconds, increasing, becomes the face's time."""
        found = None if self._region is None else find_landmarks(picture, self._region)
        if found is None or found.presence < PRESENT:
            found = self._search(picture, moment)
        self._region = None if found is None else found.next_region()
        if found is None:
            return LOST
        strengths = find_expressions(found.points[None])[0]
        weights = {name: float(value) for name, value in zip(self._names, strengths, strict=True) if not name.startswith("_")}
        x, y, z = roma.rotmat_to_rotvec(torch.from_numpy(self._turn(found.points))).tolist()
        return Face(moment, weights=weights, head=(x, y, z))

    def _search(self, picture: Picture, moment: float) -> FaceLandmarks | None:
        if moment - self._looked < LOOK_EVERY:
            return None
        self._looked = moment
        detection = max(find_faces(picture), key=lambda one: one.size, default=None)
        if detection is None:
            return None
        found = find_landmarks(picture, find_landmarks(picture, detection.region()).surrounding())
        return found if found.presence >= PRESENT else None


class _Taken(NamedTuple):
    frame: Any
    moment: float  # on the camera's clock
    arrival: float


class Webcam:
    """A source that films a person. Frames that arrive faster than they can be processed are skipped.

    Args:
        device: index or name of a camera, or None for a file.
        file: a video, played in real time.

    Raises:
        UserError: if there is no such camera or video.
    """

    warning: str | None = None

    def __init__(self, device: str | None = None, file: Path | None = None) -> None:
        self.name = f"webcam {device}" if file is None else str(file)
        self.traffic, self.failure = Traffic(), None
        self._file = file is not None
        self._container = _opened(device or "0") if file is None else _opened_file(file)
        if not self._container.streams.video:
            raise UserError(f"{self.name}: has no pictures; give a video")
        self._reader = FaceReader()
        self._waiting: _Taken | None = None
        self._changed = threading.Condition()
        self._closed = self._all_read = False
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    def start(self, take: Take) -> None:
        for work in (self._read, lambda: self._find(take)):
            thread = threading.Thread(target=work, daemon=True, name="live-webcam")
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._container.close()

    def _read(self) -> None:
        """Keeps the newest frame for processing."""
        began, first = time.monotonic(), None
        try:
            for frame in self._container.decode(video=0):
                now = time.monotonic()
                moment = frame.time if frame.time is not None else now
                first = moment if first is None else first
                due = began + moment - first if self._file else now
                with self._changed:
                    if due > now:
                        self._changed.wait_for(lambda: self._closed, due - now)
                    if self._closed:
                        return
                    self._waiting = _Taken(frame, moment, due)
                    self._changed.notify_all()
        except (av.error.FFmpegError, OSError) as error:
            self.failure = f"{self.name}: gives no more pictures ({error})"
        finally:
            with self._changed:
                self._all_read = True
                self._changed.notify_all()

    def _find(self, take: Take) -> None:
        """Finds the face in the waiting frame."""
        new = True
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting is not None or self._closed or self._all_read)
                    taken, self._waiting = self._waiting, None
                    if self._closed or taken is None:
                        return
                face = self._reader.read(_upright(taken.frame), taken.moment)
                if face.found:
                    self.traffic.faces += 1
                else:
                    self.traffic.refused += 1
                take(face, taken.arrival, new)
                new = False
        except Exception as error:  # ends this source with a message, instead of a thread that dies silently
            self.failure = f"{self.name}: {type(error).__name__}: {error}"
        finally:
            self._over.set()


def _upright(frame: Any) -> Picture:
    """A frame the right way up: phones store them sideways, with the rotation to apply."""
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90.0) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _opened(device: str) -> Any:
    kind, pattern = FORMATS.get(sys.platform, FORMATS["linux"])
    address = pattern.format(device) if not device.startswith("/") else device
    try:
        return av.open(address, format=kind, options={"video_size": SIZE, "framerate": RATE})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        held = _cameras(kind)
        raise UserError(
            f"webcam {device}: cannot be opened ({getattr(error, 'strerror', None) or error}); there are: {held}"
        ) from None


def _cameras(kind: str) -> str:
    """Names of the available cameras, for display."""
    try:
        from av.device import enumerate_input_devices

        return ", ".join(str(device.name) for device in enumerate_input_devices(kind)) or "none"
    except Exception:  # older PyAV lacks this, and some systems do not report it
        return "unknown; another program may have it"


def _opened_file(path: Path) -> Any:
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a video ({getattr(error, 'strerror', None) or error})") from None
