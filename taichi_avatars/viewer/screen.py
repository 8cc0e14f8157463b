"""One browser: its viewpoint, its last picture, and the thread that sends it pictures."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from taichi_avatars.scene.cameras import Camera
from taichi_avatars.video.camera_path import CameraPath
from taichi_avatars.viewer.eye import Eye, eye_of, read_eye

if TYPE_CHECKING:
    import viser

COARSE_QUALITY, FULL_QUALITY = 70, 92  # of JPEG
PATIENCE = 5.0  # seconds until an unresponsive browser, such as a hidden tab, is sent another picture
RATE_OVER = 2.0  # seconds over which the frame rate is averaged


class Screen:
    """A browser's window.

    The browser acknowledges each picture; until then the next one waits, and the one after that is not drawn. So it is
    never more than one picture behind, however slow the network.

    Attributes:
        what, version: the inputs of the last picture, and the version of the avatar; the viewer compares them.
        coarse: whether that was smaller than the full picture.
        moving_since: when its view last changed, on the viewer's clock.
        preview: a camera path played instead of the browser's own camera, and its start time.
    """

    def __init__(self, client: viser.ClientHandle, wake: Callable[[], None]) -> None:
        self.client, self._wake = client, wake
        self.what: object = None
        self.version = -1
        self.coarse = False
        self.eye: Eye | None = None
        self.moving_since = float("-inf")
        self.preview: tuple[CameraPath, float] | None = None
        self.encode_ms = 0.0
        self._shift = (0.0, 0.0)
        self._waiting: tuple[np.ndarray, int] | None = None
        self._sent: deque[float] = deque(maxlen=240)
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._deliver, daemon=True, name="viewer-screen").start()

    @property
    def ready(self) -> bool:
        """Whether it is ready for another picture."""
        return self._waiting is None and not self._closed

    def look(self) -> tuple[Eye | None, bool]:
        """Its current viewpoint, and whether that has changed."""
        eye = read_eye(self.client.camera, self._shift)
        new = eye is not None and eye != self.eye
        self.eye = eye or self.eye
        return self.eye, new

    def look_like(self, camera: Camera, target: np.ndarray) -> None:
        """Moves the browser's camera to another one's pose; it then orbits a point at the distance of the target."""
        eye = eye_of(camera)
        pose = eye.world_from_camera().numpy()
        forward, up, position = pose[:3, 2], -pose[:3, 1], pose[:3, 3]
        ahead = max(float(forward @ (target - position)), 0.1)
        self._shift = eye.shift
        handle = self.client.camera
        with self.client.atomic():
            handle.up_direction = up
            handle.position = position
            handle.look_at = position + ahead * forward
            handle.fov = eye.fov_y

    def show(self, image: np.ndarray) -> None:
        """Passes on a picture (H,W,3) uint8; it is sent once the browser has received the previous one."""
        with self._changed:
            self._waiting = image, COARSE_QUALITY if self.coarse else FULL_QUALITY
            self._changed.notify()

    def rate(self) -> float:
        """Pictures per second that the browser recently received."""
        since = time.monotonic() - RATE_OVER
        return sum(moment > since for moment in self._sent) / RATE_OVER

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _deliver(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                if self._closed or self._waiting is None:
                    return
                image, quality = self._waiting
                self._waiting = None
            self._wake()
            began = time.perf_counter()
            self.client.scene.set_background_image(image, format="jpeg", jpeg_quality=quality)
            self.encode_ms = 1000.0 * (time.perf_counter() - began)
            with suppress(RuntimeError, TimeoutError):  # the browser is gone, which closes this screen; or it keeps no history
                self.client.local_storage.get_item(
                    "taken", timeout=PATIENCE
                )  # its answer arrives after it has received the picture
            self._sent.append(time.monotonic())
            self._wake()
