"""The sound of a file, to be put under a video."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import cast

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer

from taichi_avatars.errors import UserError

CODEC, RATE, LAYOUT, BIT_RATE = "aac", 48_000, "stereo", 160_000
FRAME_SAMPLES = 1024  # of AAC


class Soundtrack:
    """Encodes the sound of an audio file, or of a video, into a file that is being written, as far as its video has come.

    Args:
        path: what PyAV reads: wav, mp3, m4a, ogg, mp4, mov, ...

    Raises:
        UserError: where the file is missing, broken, or has no sound.
    """

    def __init__(self, path: Path | str, container: OutputContainer) -> None:
        self.frames = _frames(Path(path))
        self.waiting: AudioFrame | None = next(self.frames, None)
        self.container = container
        self.samples = 0
        self.stream = cast(AudioStream, container.add_stream(CODEC, rate=RATE))
        self.stream.layout = LAYOUT
        self.stream.bit_rate = BIT_RATE

    def play_to(self, seconds: float) -> None:
        """Writes what is heard before a moment; where the file ends earlier there is silence."""
        while self.waiting is not None and self.samples < seconds * RATE:
            frame, self.waiting = self.waiting, next(self.frames, None)
            frame.pts = self.samples
            self.samples += frame.samples
            self.container.mux(self.stream.encode(frame))

    def end(self) -> None:
        """Writes what the encoder still holds."""
        self.frames.close()
        self.container.mux(self.stream.encode(None))


def check_sound(path: Path | str) -> None:
    """Raises a UserError where a file has no sound to take: before the work of a whole video, not after it."""
    frames = _frames(Path(path))
    found = next(frames, None)
    frames.close()
    if found is None:
        raise UserError(f"{path}: its sound is empty; give another file or leave --audio out")


def _frames(path: Path) -> Generator[AudioFrame, None, None]:
    """Its first audio stream in frames of FRAME_SAMPLES samples at RATE in stereo."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: has no sound; give an audio file, or a video with sound")
            resampler = av.AudioResampler(format="fltp", layout=LAYOUT, rate=RATE, frame_size=FRAME_SAMPLES)
            for decoded in container.decode(container.streams.audio[0]):
                decoded.pts = None  # a stream may begin late or have gaps in its clock; what is heard has none
                yield from resampler.resample(decoded)
            yield from resampler.resample(None)
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: cannot be read as audio or video ({error.strerror}); give another file") from None
