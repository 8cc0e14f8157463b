"""Twenty videos that are hard to make an avatar of, or impossible: each is tracked, or one line says what to film or give."""

import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from tracking.small_film import HEIGHT, WIDTH, Bar, quiet

from taichi_avatars.cli import run
from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.renderer import make_subject, photograph, pose
from taichi_avatars.tracking.examine import examine
from taichi_avatars.tracking.track import Settings, track

Pictures = Sequence[np.ndarray]
TURNS = (0.0, 0.2, -0.25, 1.45)  # radians; the last is a profile


@pytest.fixture(scope="module")
def faces(head) -> list[np.ndarray]:
    """Pictures of the built-in subject in these turns, its mouth more and more open."""
    camera = Camera.look_at(torch.tensor([0.0, 0.0, 0.75]), torch.tensor([0.0, -0.02, 0.0]), 0.6, WIDTH, HEIGHT)
    subject = make_subject(head, 0, 0.35 / HEIGHT, strand_count=500)
    found = []
    for number, yaw in enumerate(TURNS):
        expr = torch.zeros(head.n_expr)
        expr[head.expression_names.index("jawOpen")] = 0.2 * number
        vertices = head(subject.who.shape, expr, torch.tensor([0.05, yaw, 0.0])).vertices
        shot = photograph(subject, pose(subject, vertices), camera, 1)
        picture = (shot.rgb + 0.5 * (1 - shot.alpha)).permute(1, 2, 0)
        found.append((picture.clamp(0, 1) * 255).byte().numpy().copy())
    return found


def film(
    path: Path,
    pictures: Pictures,
    times: Sequence[float] | None = None,
    pixels: str = "yuv420p",
    turn: int = 0,
    moov_first: bool = True,
) -> Path:
    options = {"movflags": "faststart"} if moov_first and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "12", "preset": "ultrafast", "g": "4"})
        stream.height, stream.width, stream.pix_fmt = pictures[0].shape[0], pictures[0].shape[1], pixels
        stream.codec_context.time_base = Fraction(1, 600)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts = round(600 * (times[number] if times else number / 10))
            frame.time_base = Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if turn:
        rotate(path, turn)
    return path


def rotate(path: Path, quarters: int) -> None:
    """Says in the track's header that its pictures are to be turned clockwise, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    one = 1 << 16
    data[at : at + 36] = struct.pack(">9i", cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def cartoon() -> np.ndarray:
    image = Image.new("RGB", (WIDTH, HEIGHT), (250, 240, 200))
    pen = ImageDraw.Draw(image)
    pen.ellipse((60, 70, 180, 230), (255, 220, 120), (0, 0, 0), 3)
    for x in (95, 145):
        pen.ellipse((x - 10, 120, x + 10, 145), (255, 255, 255), (0, 0, 0))
        pen.ellipse((x - 4, 128, x + 4, 138), (0, 0, 0))
    pen.arc((90, 150, 150, 205), 20, 160, (0, 0, 0), 4)
    return np.array(image)


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def blurred(picture: np.ndarray) -> np.ndarray:
    return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(4)))


def checks(picture: np.ndarray) -> np.ndarray:
    """A test picture of as many pixels."""
    return np.where(np.indices(picture.shape[:2]).sum(0)[..., None] // 16 % 2, 255, 0).astype(np.uint8).repeat(3, 2)


def of_another(picture: np.ndarray) -> np.ndarray:
    """A much broader face, before a dark wall."""
    wall = (picture == 127).all(2, keepdims=True)
    dark = Image.fromarray(np.where(wall, 20, picture).astype(np.uint8))
    broad = np.array(dark.resize((WIDTH * 14 // 10, HEIGHT)))
    left = (broad.shape[1] - WIDTH) // 2
    return broad[:, left : left + WIDTH]


def shown(faces: list[np.ndarray], count: int = 16) -> list[np.ndarray]:
    return [faces[3 * k // count] for k in range(count)]


def folder_with_a_broken_picture(path: Path, faces: list[np.ndarray]) -> Path:
    path.mkdir()
    for number, picture in enumerate(shown(faces, 4)):
        Image.fromarray(picture).save(path / f"{number}.png")
    (path / "2.png").write_bytes((path / "2.png").read_bytes()[:200])
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


Bad = Callable[[Path, list[np.ndarray]], Path]


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def sounding(path: Path) -> Path:
    sound(path)
    return path


REFUSED: dict[str, tuple[Bad, str]] = {
    "no face": (lambda p, f: film(p, [np.full((96, 128, 3), 90 + k, np.uint8) for k in range(12)]), "no face was found"),
    "a drawing": (lambda p, f: film(p, [cartoon()] * 16), "does not move"),
    "flashing": (
        lambda p, f: film(p, [x if k % 2 else checks(x) for k, x in enumerate(shown(f, 40))]),
        "lost again and again: its pictures flicker",
    ),
    "black": (lambda p, f: film(p, [np.zeros((96, 128, 3), np.uint8)] * 12), "black: turn on a light"),
    "one picture": (lambda p, f: film(p, shown(f)[:1]), "in 1 pictures only"),
    "too short": (lambda p, f: film(p, shown(f, 8)), "in 8 pictures only"),
    "one a second": (lambda p, f: film(p, shown(f, 6), [1.0 * k for k in range(6)]), "in 6 pictures only, 5.0 seconds"),
    "broken off before its index": (
        lambda p, f: written(p, film(p, shown(f), moov_first=False).read_bytes()[:3000]),
        "cannot be read as a video",
    ),
    "sound only": (lambda p, f: sounding(p), "holds no pictures"),
    "a huge header": (
        lambda p, f: written(p.with_suffix(".y4m"), b"YUV4MPEG2 W16384 H8192 F30:1\nFRAME\n" + bytes(1000)),
        "16384x8192 are too large",
    ),
    "two people in turns": (
        lambda p, f: film(p, [*shown(f, 14), *map(of_another, shown(f, 14))]),
        "another person is shown from 1.4 seconds",
    ),
    "upside down": (lambda p, f: film(p, [x[::-1, ::-1] for x in shown(f)]), "not upright"),
    "upside down, and calm": (lambda p, f: film(p, [x[::-1, ::-1] for x in shown(f[:3] + f[2:3])]), "not upright"),
    "on its side": (lambda p, f: film(p, [np.rot90(x) for x in shown(f)]), "not upright"),
    "blurred": (lambda p, f: film(p, [blurred(x) for x in shown(f)]), "blurred; more light"),
    "a profile": (lambda p, f: film(p, [f[3]] * 16), "only from the side"),
    "empty": (lambda p, f: written(p, b""), "cannot be read as a video"),
    "a pipe": (lambda p, f: pipe(p), "neither a file nor a folder"),
    "a playlist": (
        lambda p, f: written(p, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n"),
        "cannot be read as a video",
    ),
    "narrow": (lambda p, f: film(p, [x[:, 110:126] for x in shown(f)]), "no face was found"),
    "text": (lambda p, f: written(p, b"not a video at all\n" * 50), "cannot be read as a video"),
    "a broken picture": (lambda p, f: folder_with_a_broken_picture(p.with_suffix(""), f), "take it out of the folder"),
}
WORKS: dict[str, Bad] = {
    "mirrored": lambda p, f: film(p, [x[:, ::-1] for x in shown(f)]),
    "a variable rate": lambda p, f: film(p, shown(f), [0.1 * k + 0.03 * (k % 3) for k in range(16)]),
    "ten bits": lambda p, f: film(p, shown(f), pixels="yuv420p10le"),
    "turned by its header": lambda p, f: film(p, [np.rot90(x) for x in shown(f)], turn=1),
    "sixty a second": lambda p, f: film(p, shown(f, 32), [k / 60 for k in range(32)]),
    "two people at once": lambda p, f: film(p, [np.concatenate([x, f[0]], 1) for x in shown(f)]),
    "a name like an address": lambda p, f: film(p, shown(f)).rename(p.with_name("http:me %d.mp4")),
    "broken off": lambda p, f: written(p, film(p, shown(f, 32)).read_bytes()[: p.stat().st_size * 3 // 4]),
}
if sys.platform == "win32":  # which has neither
    del REFUSED["a pipe"], WORKS["a name like an address"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_video_that_cannot_be_tracked_is_one_line(name: str, faces, tmp_path, monkeypatch):
    make, said = REFUSED[name]
    path = make(tmp_path / "me.mp4", faces)
    with pytest.raises(UserError, match=said) as caught:
        track([path], tmp_path / "out", Settings(), quiet)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    assert list(tmp_path.iterdir()) == [path]  # nothing is left, hidden neither


@pytest.mark.parametrize("name", WORKS)
def test_a_video_that_is_unusual_works(name: str, faces, tmp_path):
    described = examine(WORKS[name](tmp_path / "me.mp4", faces), Bar())
    shows = described["shows"]
    assert shows["share"] > 0.9 and shows["face"] > 60
    assert shows["yaw"][1] - shows["yaw"][0] > 6


def test_nothing_is_sent_and_nothing_fetched(faces, tmp_path, monkeypatch, capsys):
    class Refused(socket.socket):
        def __init__(self, *args: object, **options: object) -> None:
            raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", Refused)
    monkeypatch.setattr(socket, "create_connection", Refused)
    monkeypatch.setattr(socket, "getaddrinfo", Refused)
    path = film(tmp_path / "me.mp4", shown(faces))
    assert run(["info", str(path), "-q"]) == 1  # it lacks much
    assert run(["track", str(path), "-o", str(tmp_path / "capture"), "-q"]) == 0
    assert "a socket was opened" not in capsys.readouterr().err
