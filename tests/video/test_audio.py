"""Sound under a video: heard at its own pitch, cut where the pictures end, taken from audio files and from videos."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from taichi_avatars.errors import UserError
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
