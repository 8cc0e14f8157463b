"""Frames to mp4, through the libraries bundled with PyAV: no ffmpeg binary is needed."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.files.png import as_uint8
from taichi_avatars.motion.motion import FPS
from taichi_avatars.video.audio import Soundtrack

BT709 = 1  # ITU-T H.273: the same number for primaries, transfer and matrix
LIMITED_RANGE = 1  # H.273: luma 16 to 235
# Visually lossless. The encoder buffers its lookahead frames: the default of forty only costs memory at this quality.
H264_OPTIONS = {"crf": "17", "preset": "medium", "rc-lookahead": "10"}
FFMPEG_QP2LAMBDA = 118
MPEG4_QUALITY = 2  # 1 is best, 31 worst


def write_mp4(
    path: Path | str,
    frames: Iterable[np.ndarray | Tensor],
    fps: int | Fraction = FPS,
    *,
    audio: Path | str | None = None,
    preset: str = H264_OPTIONS["preset"],
) -> int:
    """Writes frames as an mp4 (yuv420p, BT.709) that browsers and players show; h264, or mpeg4 if PyAV has no libx264.

    Frames are consumed one by one, so they may be rendered on demand. Nothing is left at `path` on failure.

    Args:
        frames: (H,W,3) uint8 arrays or (3,H,W) float tensors in [0,1] (values outside are clamped), all of one size.
            An odd height or width is padded by repeating a row or column, since the format stores colour for 2x2 pixels.
        fps: frames per second.
        audio: an audio file, or a video whose sound is used; cut at the end of the frames.
        preset: of libx264; a faster one makes larger files.

    Returns:
        Number of frames.

    Raises:
        UserError: if there is no frame, or the audio cannot be read.
        ValueError: if a frame has another shape, type or size.
    """
    images = (as_uint8(frame) for frame in frames)
    first = next(images, None)
    if first is None:
        raise UserError(f"{path}: a video needs at least one frame, got none; check the choice of timesteps and camera")
    count, converter = 0, VideoReformatter()
    with atomic_path(path) as temporary, av.open(str(temporary), "w", options={"movflags": "faststart"}) as container:
        stream = _open_stream(container, first.shape, fps, preset)
        sound = None if audio is None else Soundtrack(audio, container)
        for image in chain([first], images):
            if image.shape != first.shape:
                raise ValueError(f"frame {count}: got size {image.shape}, the first frame has {first.shape}")
            frame = converter.reformat(
                av.VideoFrame.from_ndarray(_padded(image), format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.AREA,
            )
            frame.pts = count
            container.mux(stream.encode(frame))
            count += 1
            if sound is not None:
                sound.play_to(float(count / fps))
        container.mux(stream.encode())
        if sound is not None:
            sound.end()
    return count


def _padded(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(image)
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _open_stream(container: OutputContainer, shape: tuple[int, ...], fps: int | Fraction, preset: str) -> VideoStream:
    h264 = "libx264" in av.codecs_available
    stream = cast(VideoStream, container.add_stream("libx264" if h264 else "mpeg4", rate=fps))
    stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    stream.pix_fmt = "yuv420p"
    if h264:
        stream.options = dict(H264_OPTIONS, preset=preset)
    else:
        stream.options = {"flags": "+qscale", "global_quality": str(MPEG4_QUALITY * FFMPEG_QP2LAMBDA)}
    codec = stream.codec_context
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = LIMITED_RANGE
    return stream
