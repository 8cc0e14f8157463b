"""Reading videos and folders of pictures as phones make them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.tracking.dynamic_range import HLG, PQ, to_8_bit
from taichi_avatars.tracking.source import open_source, video_frames

WIDTH, HEIGHT = 64, 48


def picture(k: int) -> np.ndarray:
    """Red grows to the right, green downwards, blue with the number."""
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    out[..., 0], out[..., 1] = np.arange(WIDTH) * 3, np.arange(HEIGHT)[:, None] * 4
    out[..., 2] = 8 * k
    return out


def film(path: Path, times: list[float], pixels: str = "yuv444p", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, 600)
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.asarray(Image.fromarray(picture(k)).resize(size)), "rgb24")
            frame.pts, frame.time_base = round(600 * time), Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_video_gives_its_pictures(tmp_path):
    source = open_source(film(tmp_path / "a.mp4", [k / 30 for k in range(12)]))
    assert (source.width, source.height, source.focal) == (WIDTH, HEIGHT, None)
    read = [(frame.seconds, frame.picture((WIDTH, HEIGHT))) for frame in video_frames(source, 30)]
    assert len(read) == 12
    for k, (seconds, seen) in enumerate(read):
        assert seconds == pytest.approx(k / 30, abs=2e-3)
        assert np.abs(seen.astype(int) - picture(k)).mean() < 4  # YUV rounds, and its matrix is guessed


def test_sixty_pictures_a_second_are_thinned_evenly(tmp_path):
    source = open_source(film(tmp_path / "a.mp4", [k / 60 for k in range(24)]))
    times = [frame.seconds for frame in video_frames(source, 30)]
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=3e-3)


def test_a_variable_rate_is_thinned_by_time(tmp_path):
    times = [0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.3, 0.5, 0.7]
    source = open_source(film(tmp_path / "a.mp4", times))
    kept = [frame.seconds for frame in video_frames(source, 10)]
    assert min(np.diff(kept)) > 0.04 and kept[-1] == pytest.approx(0.7, abs=2e-3)
    assert {0.3, 0.5, 0.7} <= {round(t, 2) for t in kept}


def test_pictures_are_scaled_while_read(tmp_path):
    source = open_source(film(tmp_path / "a.mp4", [0, 0.1], size=(128, 96)))
    assert source.scaled(64) == (64, 48) and source.scaled(500) == (128, 96)
    frame = next(video_frames(source, 30))
    assert frame.picture((64, 48)).shape == (48, 64, 3)


def test_ten_bits_are_read_as_eight(tmp_path):
    source = open_source(film(tmp_path / "a.mp4", [0, 0.1], pixels="yuv420p10le"))
    seen = next(video_frames(source, 30)).picture((WIDTH, HEIGHT))
    assert seen.dtype == np.uint8 and np.abs(seen.astype(int) - picture(0)).mean() < 6


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_high_range_keeps_white_white_and_grey_grey(transfer):
    class Frame:
        color_trc, color_primaries = transfer, 9

    codes = np.linspace(0, 65535, 256).astype(np.uint16)
    shown = to_8_bit(np.repeat(codes[None, :, None], 3, 2), Frame())[0].astype(int)  # type: ignore[arg-type]
    assert (np.ptp(shown, axis=1) <= 1).all() and (np.diff(shown[:, 0]) >= 0).all()
    white = {PQ: 0.58, HLG: 0.75}[transfer]  # codes of diffuse white, ITU-R BT.2408
    assert 225 <= shown[round(255 * white), 0] <= 250 and shown[-1, 0] == 255


def test_a_folder_is_read_in_the_order_of_its_numbers_and_turned_upright(tmp_path):
    for k, name in enumerate(("2.png", "10.png", "1.png")):
        Image.fromarray(picture(k)).save(tmp_path / name)
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(picture(5))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    exif.get_ifd(0x8769)[41989] = 28
    turned.save(tmp_path / "0.png", exif=exif)
    source = open_source(tmp_path)
    assert (source.width, source.height, source.count) == (WIDTH, HEIGHT, 4)
    assert source.focal == pytest.approx(28 / 43.2666 * 80)
    blues = [frame.picture((WIDTH, HEIGHT))[0, 0, 2] for frame in video_frames(source, 100)]
    assert blues == [40, 16, 0, 8]


def test_a_video_that_breaks_off_ends_there(tmp_path):
    path = tmp_path / "a.mkv"
    film(path, [k / 30 for k in range(30)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert 3 < len(list(video_frames(open_source(path), 30))) < 30


@pytest.mark.parametrize("name", ["none.mp4", "text.mp4", "empty", "sound.wav", "other.png"])
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name):
    path = tmp_path / name
    if name == "text.mp4":
        path.write_text("this is no video")
    if name == "empty":
        path.mkdir()
    if name == "other.png":
        path.mkdir()
        (path / "a.png").write_bytes(b"no picture")
    if name == "sound.wav":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    with pytest.raises(UserError, match=str(path)) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
