"""Live pictures as a virtual camera for video calls: OBS' on Windows and macOS, v4l2loopback on Linux."""

from __future__ import annotations

from typing import Any

from taichi_avatars.errors import UserError
from taichi_avatars.video.live.frame import LiveFrame


class VirtualCamera:
    """A camera for other programs.

    Raises:
        UserError: if there is none to send to, or its library is not installed.
    """

    def __init__(self, width: int, height: int, fps: float) -> None:
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UserError("camera: a virtual camera needs pyvirtualcam: pip install pyvirtualcam") from None
        try:
            self._camera: Any = pyvirtualcam.Camera(width=width, height=height, fps=fps)
        except Exception as error:  # its backends raise various exceptions
            raise UserError(f"camera: there is no virtual camera to send to ({error}); install OBS, or v4l2loopback") from None
        self.name = f"camera {self._camera.device}"

    def show(self, frame: LiveFrame, now: float) -> None:
        self._camera.send(frame.image)

    def close(self, *, failed: bool = False) -> None:
        self._camera.close()
