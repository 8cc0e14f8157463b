"""Outputs by their names on the command line."""

from __future__ import annotations

from pathlib import Path

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.motion.live.rig import FaceRig
from taichi_avatars.video.live import mjpeg
from taichi_avatars.video.live.frame import Output
from taichi_avatars.video.live.recording import Recording
from taichi_avatars.video.live.virtual_camera import VirtualCamera


def open_output(
    text: str,
    avatar: Avatar,
    rig: FaceRig,
    size: tuple[int, int],
    fps: float,
    *,
    host: str,
    background: tuple[float, float, float],
    title: str,
    sound: Path | None = None,
) -> Output:
    """Opens an output.

    Args:
        text: FILE.mp4, mjpeg[:PORT], or camera.
        size: width and height of the pictures.
        host: for a server to listen on.
        sound: a file whose sound is kept in recordings.

    Raises:
        UserError: if there is no such output, or it cannot be opened.
    """
    assert avatar.sequence is not None
    kind, _, detail = text.partition(":")
    if text == "camera":
        return VirtualCamera(*size, fps)
    if kind == "mjpeg":
        if detail and not (detail.isascii() and detail.isdigit() and int(detail) < 65536):
            raise UserError(f"{text}: want a port from 0 (any that is free) to 65535 after the colon")
        return mjpeg.Mjpeg(host, int(detail) if detail else mjpeg.PORT, title, background)
    if not text.lower().endswith(".mp4"):
        raise UserError(f"--to {text}: want FILE.mp4, mjpeg[:PORT] or camera")
    return Recording(Path(text), fps, rig, avatar.sequence, sound)
