"""The sound of a file, to be muxed into a video."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Disposition

from taichi_avatars.errors import UserError

CODEC, RATE, LAYOUT, BIT_RATE = "aac", 48_000, "stereo", 160_000
FRAME_SAMPLES = 1024  # of AAC
TREMBLE = 0.02  # tolerance in seconds of a file's clock before the sound is moved: coarse clocks round to 1 or 10 ms


class Soundtrack:
    """Encodes the sound of an audio file, or of a video, into a file that is being written, up to the end of its video.

    Sound follows the file's clock, from its first picture on, including late starts and gaps.

    Args:
        path: what PyAV reads: wav, mp3, m4a, ogg, mp4, mov, ...

    Raises:
        UserError: if the file is missing, broken, or has no sound.
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
        """Writes the sound up to a moment; silence after the end of the file."""
        while self.waiting is not None and self.samples < seconds * RATE:
            frame, self.waiting = self.waiting, next(self.frames, None)
            frame.pts = self.samples
            self.samples += frame.samples
            self.container.mux(self.stream.encode(frame))

    def end(self) -> None:
        """Flushes the encoder."""
        self.frames.close()
        self.container.mux(self.stream.encode(None))


def check_sound(path: Path | str) -> None:
    """Raises a UserError if a file has no sound: before the work of a whole video, not after it."""
    frames = _frames(Path(path))
    found = next(frames, None)
    frames.close()
    if found is None:
        raise UserError(f"{path}: its sound is empty; give another file or omit --audio")


def _frames(path: Path) -> Generator[AudioFrame, None, None]:
    """Its first audio stream in frames of FRAME_SAMPLES samples at RATE in stereo, from the moment of its first picture."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: has no sound; give an audio file, or a video with sound")
            resampler = av.AudioResampler(format="fltp", layout=LAYOUT, rate=RATE, frame_size=FRAME_SAMPLES)
            for heard in _in_time(container, container.streams.audio[0]):
                heard.pts = None
                yield from resampler.resample(heard)
            yield from resampler.resample(None)
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: cannot be read as audio or video ({error.strerror}); give another file") from None


def _in_time(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """The decoded frames without gaps: silence fills a late start or a gap; sound before the first picture, and overlaps, are
    dropped."""
    beginning = _beginning(container, stream)
    samples = 0  # duration so far
    for frame in container.decode(stream):
        early = 0
        if frame.time is not None:
            early = samples - round((frame.time - beginning) * frame.sample_rate)
        if abs(early) > TREMBLE * frame.sample_rate or (samples == 0 and early > 0):
            for silence in _silence(frame, -early):
                samples += silence.samples
                yield silence
            if early >= frame.samples:
                continue
            if early > 0:
                frame = _without_start(frame, early)
        samples += frame.samples
        yield frame


def _beginning(container: InputContainer, stream: AudioStream) -> float:
    """Time of the first picture, in the file's seconds; without pictures (cover art does not count), start of the sound."""
    for video in container.streams.video:
        moves = not video.disposition & Disposition.attached_pic
        if moves and video.start_time is not None and video.time_base is not None:
            return float(video.start_time * video.time_base)
    if stream.start_time is not None and stream.time_base is not None:
        return float(stream.start_time * stream.time_base)
    return 0.0


def _silence(like: AudioFrame, samples: int) -> Iterator[AudioFrame]:
    """This many samples of silence in the format of a frame, in frames of at most a second."""
    while samples > 0:
        count = min(samples, like.sample_rate)
        yield _frame_of(np.zeros_like(like.to_ndarray(), shape=_shape(like, count)) + _zero(like), like)
        samples -= count


def _without_start(frame: AudioFrame, samples: int) -> AudioFrame:
    content = frame.to_ndarray()
    return _frame_of(content[:, samples * (1 if frame.format.is_planar else frame.layout.nb_channels) :], frame)


def _shape(like: AudioFrame, samples: int) -> tuple[int, int]:
    channels = like.layout.nb_channels
    return (channels, samples) if like.format.is_planar else (1, samples * channels)


def _zero(like: AudioFrame) -> int:
    """The value of silence: unsigned bytes have it in the middle."""
    return 128 if like.format.name.startswith("u8") else 0


def _frame_of(content: np.ndarray, like: AudioFrame) -> AudioFrame:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(content), like.format.name, like.layout.name)
    frame.sample_rate = like.sample_rate
    return frame
