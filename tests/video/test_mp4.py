from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.files.png import as_uint8
from taichi_avatars.video import mp4
from taichi_avatars.video.mp4 import write_mp4


def moving_picture(count: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth coloured waves with saturated colours among them, (H,W,3) uint8."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for number in range(count):
        waves = [np.sin(x / 9 + number / 4), np.cos(y / 11), np.sin((x + y) / 13 - number / 5)]
        frames.append((127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8))
    return frames


class Stored(NamedTuple):
    """A film as a file holds it. frames: (H*3/2,W) uint8 each, luma, then both chroma planes."""

    frames: list[np.ndarray]
    rate: Fraction | None
    codec: str
    pixels: str | None
    size: tuple[int, int]


def read_back(path: Path) -> Stored:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(stream)]
        codec = stream.codec_context
        return Stored(frames, stream.average_rate, codec.name, codec.pix_fmt, (stream.height, stream.width))


def planes(stored: np.ndarray) -> list[np.ndarray]:
    height, width = stored.shape[0] * 2 // 3, stored.shape[1]
    chroma = stored[height:].reshape(2, height // 2, width // 2)
    return [plane.astype(float) for plane in (stored[:height], *chroma)]


def bt709(image: np.ndarray) -> list[np.ndarray]:
    """Luma and half-size chroma planes of (H,W,3) uint8 of even size, limited range, as ITU-R BT.709 defines them."""
    red, green, blue = np.moveaxis(image / 255.0, -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    chroma = [128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
    return [16 + 219 * luma, *(c.reshape(c.shape[0] // 2, 2, c.shape[1] // 2, 2).mean((1, 3)) for c in chroma)]


def decibel(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(255**2 / ((found - expected) ** 2).mean())


def assert_shows(film: list[np.ndarray], frames: list[np.ndarray]) -> None:
    for stored, frame in zip(film, frames, strict=True):
        for plane, wanted in zip(planes(stored), bt709(frame), strict=True):
            assert decibel(plane, wanted) > 38
            assert abs((plane - wanted).mean()) < 1.0  # another colour matrix or range shifts the means by several


@pytest.mark.parametrize(("height", "width"), [(64, 96), (401, 275), (33, 48), (48, 33)])
def test_comes_back_as_written(tmp_path: Path, height: int, width: int) -> None:
    frames = moving_picture(12, height, width)
    assert write_mp4(tmp_path / "a.mp4", iter(frames)) == 12
    found = read_back(tmp_path / "a.mp4")
    assert len(found.frames) == 12
    assert found.rate == 25
    assert found.pixels == "yuv420p"
    assert found.size == (height + height % 2, width + width % 2)
    assert_shows(found.frames, [np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for frame in frames])


def test_odd_sizes_grow_by_a_repeated_edge(tmp_path: Path) -> None:
    frame = np.full((5, 7, 3), (40, 200, 90), dtype=np.uint8)
    write_mp4(tmp_path / "a.mp4", [frame] * 3)
    found = read_back(tmp_path / "a.mp4").frames
    for plane, wanted in zip(planes(found[0]), bt709(np.full((6, 8, 3), (40, 200, 90), dtype=np.uint8)), strict=True):
        assert plane.shape == wanted.shape
        assert abs(plane - wanted).max() <= 2


def test_says_which_colours_it_holds(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", moving_picture(2, 16, 16), fps=30)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
        assert container.streams.video[0].average_rate == 30


def test_tensors_are_the_same_film_as_arrays(tmp_path: Path) -> None:
    frames = moving_picture(4, 32, 32)
    tensors = [torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in frames]
    assert all(np.array_equal(as_uint8(tensor), frame) for tensor, frame in zip(tensors, frames, strict=True))
    write_mp4(tmp_path / "a.mp4", tensors)
    # compared as pictures: libx264 writes a few clips in a hundred otherwise the next time
    assert_shows(read_back(tmp_path / "a.mp4").frames, frames)


def test_floats_are_clamped_and_rounded() -> None:
    pixels = as_uint8(torch.tensor([-1.0, 0.5, 2.0]).view(3, 1, 1).requires_grad_())
    assert pixels.tolist() == [[[0, 128, 255]]]


def test_without_libx264_mpeg4_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4.av, "codecs_available", {"mpeg4"})
    frames = moving_picture(5, 48, 64)
    write_mp4(tmp_path / "a.mp4", frames)
    found = read_back(tmp_path / "a.mp4")
    assert found.codec == "mpeg4" and len(found.frames) == 5
    assert min(decibel(*pair) for pair in zip(planes(found.frames[3]), bt709(frames[3]), strict=True)) > 36


def test_nothing_is_left_where_a_frame_fails(tmp_path: Path) -> None:
    def failing():
        yield from moving_picture(3, 16, 16)
        raise RuntimeError("rendering failed")

    with pytest.raises(RuntimeError, match="rendering failed"):
        write_mp4(tmp_path / "a.mp4", failing())
    assert list(tmp_path.iterdir()) == []


def test_an_older_video_survives_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"older")
    with pytest.raises(ValueError, match=r"frame 1: got size \(8, 8, 3\), the first frame has \(16, 16, 3\)"):
        write_mp4(tmp_path / "a.mp4", [*moving_picture(1, 16, 16), *moving_picture(1, 8, 8)])
    assert (tmp_path / "a.mp4").read_bytes() == b"older"


def test_no_frames(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one frame"):
        write_mp4(tmp_path / "a.mp4", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frame", [np.zeros((3, 8, 8), np.uint8), np.zeros((8, 8, 3), np.float32), torch.zeros(8, 8, 3)])
def test_other_frames_are_refused(frame: object) -> None:
    with pytest.raises(ValueError, match=r"want \(H,W,3\) uint8 or a \(3,H,W\) float tensor"):
        as_uint8(frame)
