"""Sound under a video: heard at its own pitch, cut where the pictures end, taken from audio files and from videos."""

import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from taichi_avatars.errors import UserError
from taichi_avatars.video import audio
from taichi_avatars.video.audio import check_sound
from taichi_avatars.video.mp4 import write_mp4

PITCH = 440.0


def tone(path: Path, seconds: float, rate: int = 22050) -> Path:
    time = np.arange(int(seconds * rate)) / rate
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((20000 * np.sin(2 * np.pi * PITCH * time)).astype(np.int16).tobytes())
    return path


def frames(count: int) -> list[np.ndarray]:
    return [np.full((16, 16, 3), 8 * i % 256, np.uint8) for i in range(count)]


def heard(path: Path) -> tuple[float, float]:
    """Seconds of sound, and its strongest frequency."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].rate
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)[0]
    return len(sound) / rate, float(np.argmax(np.abs(np.fft.rfft(sound)))) * rate / len(sound)


def test_sound_is_cut_where_the_pictures_end(tmp_path: Path) -> None:
    assert write_mp4(tmp_path / "a.mp4", frames(25), audio=tone(tmp_path / "a.wav", 3.0)) == 25
    seconds, pitch = heard(tmp_path / "a.mp4")
    assert seconds == pytest.approx(1.0, abs=0.05)  # whole frames of AAC, 21 ms each
    assert pitch == pytest.approx(PITCH, abs=2.0)


def test_pictures_go_on_without_sound(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames(50), audio=tone(tmp_path / "a.wav", 0.5))
    assert heard(tmp_path / "a.mp4")[0] == pytest.approx(0.5, abs=0.06)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


def test_a_videos_own_sound(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", frames(40), audio=tone(tmp_path / "a.wav", 2.0))
    write_mp4(tmp_path / "b.mp4", frames(20), audio=tmp_path / "a.mp4")
    seconds, pitch = heard(tmp_path / "b.mp4")
    assert seconds == pytest.approx(0.8, abs=0.05) and pitch == pytest.approx(PITCH, abs=2.0)


def test_a_file_without_sound_is_said_before_the_work(tmp_path: Path) -> None:
    write_mp4(tmp_path / "silent.mp4", frames(5))
    (tmp_path / "text.wav").write_text("no sound")
    for name, words in (("silent.mp4", "no sound"), ("text.wav", "cannot be read"), ("nothing.wav", "cannot be read")):
        with pytest.raises(UserError, match=words) as caught:
            check_sound(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
        with pytest.raises(UserError, match=words):
            write_mp4(tmp_path / "a.mp4", frames(2), audio=tmp_path / name)
    assert not (tmp_path / "a.mp4").exists()
    check_sound(tone(tmp_path / "a.wav", 0.1))


def write_sound(path: Path, pieces: list[tuple[float, float]], *, picture: float | None = 0.0, codec: str = "aac") -> Path:
    """A file whose sound is heard in pieces (from, to), in seconds of its clock, and whose picture begins at one, if any."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25) if picture is not None else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        audio = container.add_stream(codec, rate=48000)
        audio.layout = "mono"
        kind = {"aac": "fltp", "pcm_s16le": "s16"}[codec]
        for begin, end in pieces:
            for at in range(round(begin * 48000), round(end * 48000), 1024):
                wave_ = 0.6 * np.sin(2 * np.pi * PITCH * (at + np.arange(1024)) / 48000)
                content = wave_.astype(np.float32) if kind == "fltp" else (32767 * wave_).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(content[None], kind, "mono")
                frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
                container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
        if video is not None and picture is not None:
            for i in range(50):
                frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 4 * i, np.uint8), "rgb24")
                frame.pts, frame.time_base = i + round(25 * picture), Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
    return path


def loud(path: Path) -> list[tuple[float, float]]:
    """When there is sound, in seconds from the first picture, to 10 ms."""
    with av.open(str(path)) as container:
        parts = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    first = round(parts[0][0] * rate)
    sound = np.concatenate([np.zeros(max(0, first)), *(part for _, part in parts)])
    level = np.array([np.abs(piece).max() > 0.1 for piece in np.array_split(sound, max(1, len(sound) // (rate // 100)))])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], level.astype(int), [0]])))
    return [(a / 100, b / 100) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def assert_heard(path: Path, wanted: list[tuple[float, float]]) -> None:
    """To 60 ms: a frame of AAC is 21 ms, and its sound begins and ends with an echo of as much."""
    found = loud(path)
    assert len(found) == len(wanted), found
    np.testing.assert_allclose(found, wanted, atol=0.06)


@pytest.mark.parametrize(
    ("pieces", "picture", "wanted"),
    [
        pytest.param([(0.7, 1.5)], 0.0, [(0.7, 1.5)], id="later than the picture"),
        pytest.param([(0.0, 0.5), (1.0, 1.5)], 0.0, [(0.0, 0.5), (1.0, 1.5)], id="a gap"),
        pytest.param([(0.0, 1.5)], 0.4, [(0.0, 1.1)], id="before the picture"),
        pytest.param([(0.9, 1.6)], 0.4, [(0.5, 1.2)], id="both late"),
    ],
)
def test_sound_keeps_its_time(tmp_path: Path, pieces, picture: float, wanted) -> None:
    source = write_sound(tmp_path / "a.mkv", pieces, picture=picture)
    write_mp4(tmp_path / "b.mp4", frames(45), audio=source)
    assert_heard(tmp_path / "b.mp4", wanted)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.mka", "aac")])
def test_gaps_in_sound_without_pictures(tmp_path: Path, name: str, codec: str) -> None:
    """Its beginning is the sound's own: a recorder's clock need not begin at 0."""
    source = write_sound(tmp_path / name, [(3.0, 3.5), (4.0, 4.5)], picture=None, codec=codec)
    write_mp4(tmp_path / "b.mp4", frames(45), audio=source)
    assert_heard(tmp_path / "b.mp4", [(0.0, 0.5), (1.0, 1.5)])


def test_eight_bits_are_silent_in_the_middle(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(bytes(128 + int(100 * np.sin(i)) for i in range(4000)))
    with av.open(str(tmp_path / "a.wav")) as container:
        frame = next(container.decode(audio=0))
    (silence,) = audio._silence(frame, 100)
    assert silence.samples == 100 and set(silence.to_ndarray().ravel()) == {128} and silence.sample_rate == 8000
