"""From packets on a socket to pictures: exact poses, recordings, pictures over HTTP, a virtual camera, and the command."""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from export import browser
from motion.live import packets
from PIL import Image

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import place
from taichi_avatars.bench import example_avatar
from taichi_avatars.cli import run
from taichi_avatars.errors import UserError
from taichi_avatars.files.png import as_uint8
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.live.setup import prepare
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.video.live.broadcast import Broadcast
from taichi_avatars.video.live.frame import LiveFrame, Output
from taichi_avatars.video.live.mjpeg import Mjpeg
from taichi_avatars.video.live.outputs import open_output
from taichi_avatars.video.live.recording import Recording
from taichi_avatars.video.viewpoints import frontal_camera

SIZE = (60, 88)
BACKGROUND = (0.2, 0.4, 0.6)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return example_avatar(3000)


@pytest.fixture(scope="module")
def camera(avatar: Avatar) -> Camera:
    return frontal_camera(place(avatar), *SIZE)


class Eyes:
    """An output that remembers the last picture, and that others can wait for."""

    name = "eyes"

    def __init__(self) -> None:
        self.last: LiveFrame | None = None
        self._seen = threading.Condition()

    def show(self, frame: LiveFrame, now: float) -> None:
        with self._seen:
            self.last = frame
            self._seen.notify_all()

    def close(self, *, failed: bool = False) -> None:
        pass

    def until(self, condition: Callable[[LiveFrame], bool]) -> LiveFrame:
        with self._seen:
            assert self._seen.wait_for(lambda: self.last is not None and condition(self.last), PATIENCE)
        assert self.last is not None
        return self.last


@contextmanager
def performing(avatar: Avatar, camera: Camera, source: str, *others: Output, smoothing: float = 0.0) -> Iterator[tuple]:
    performer, opened = prepare(avatar, source, smoothing=smoothing)
    eyes = Eyes()
    broadcast = Broadcast(avatar, performer, opened, camera, [eyes, *others], fps=60, background=BACKGROUND)
    thread = threading.Thread(target=broadcast.run)
    thread.start()
    try:
        yield performer, opened, eyes, broadcast
    finally:
        broadcast.stop()
        thread.join()


def sent_until(address: tuple[str, int], packet: bytes, eyes: Eyes, condition: Callable[[LiveFrame], bool]) -> LiveFrame:
    """Sends a packet again and again, as phones do, until a picture shows what it says."""
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.bind(("127.0.0.1", 0))
            while not done.wait(0.01):
                out.sendto(packet, address)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        return eyes.until(condition)
    finally:
        done.set()
        thread.join()


SMILE = {"MouthSmileLeft": 0.5, "MouthSmileRight": 0.25, "JawOpen": 0.125, "HeadYaw": 0.2}


@pytest.mark.parametrize("protocol", ["livelink", "vmc"])
def test_what_is_sent_is_what_is_drawn(avatar: Avatar, camera: Camera, protocol: str) -> None:
    weights = {name: value for name, value in SMILE.items() if name != "HeadYaw"}
    packet = (
        packets.live_link(SMILE)
        if protocol == "livelink"
        else packets.vmc(weights, {"Head": (0, -np.sin(0.1), 0, np.cos(0.1))})
    )
    assert avatar.head is not None and avatar.head.expression_names is not None
    place_of = {name[0].upper() + name[1:]: k for k, name in enumerate(avatar.head.expression_names)}
    with performing(avatar, camera, f"{protocol}:0") as (performer, source, eyes, _):
        jaw = place_of["JawOpen"]
        frame = sent_until(source.address, packet, eyes, lambda frame: frame.row[jaw] == 0.125)
        for name, value in weights.items():
            assert frame.row[place_of[name]] == value
        turn = np.arctan2(
            *(frame.row[avatar.head.n_expr : avatar.head.n_expr + 6].reshape(2, 3).sum(0)[[1, 1]] * [1, 0] + [0, 1])
        )
        assert 0.15 < turn < 0.25
        pose = performer.rig.pose(frame.row)
        truth = as_uint8(avatar.render(camera, flame=pose, background=BACKGROUND).image)
        assert np.array_equal(frame.image, truth)
        rest = as_uint8(
            avatar.render(camera, flame=performer.rig.pose(performer.rig.placed(0 * frame.row)), background=BACKGROUND).image
        )
        assert np.abs(truth.astype(int) - rest).max() > 20  # it is another picture


def test_a_recording_has_its_motion_beside_it(avatar: Avatar, camera: Camera, tmp_path: Path) -> None:
    performer, _ = prepare(avatar, "livelink:0")
    assert avatar.sequence is not None
    recording = Recording(tmp_path / "me.mp4", 30, performer.rig, avatar.sequence)
    with performing(avatar, camera, "livelink:0", recording) as (_, source, eyes, broadcast):
        sent_until(source.address, packets.live_link(SMILE), eyes, lambda frame: frame.moving)
        count = broadcast.shown.pictures
        sent_until(
            source.address, packets.live_link({"JawOpen": 1.0}), eyes, lambda frame: broadcast.shown.pictures > count + 3
        )
    motion = FlameSequence.load_npz(tmp_path / "me.npz", avatar.head)
    with av.open(str(tmp_path / "me.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == len(motion) > 1
    again = Avatar(avatar.gaussians, avatar.head, motion)
    for row in (0, len(motion) - 1):
        truth = as_uint8(again.render(camera, timestep=row, background=BACKGROUND).image)
        assert np.abs(frames[row].astype(float) - truth).mean() < 6.0


def frame_of(avatar: Avatar, camera: Camera, **pose: list[float]) -> LiveFrame:
    out = avatar.render(camera, flame=pose, background=BACKGROUND)
    return LiveFrame(as_uint8(out.image), out, torch.tensor(BACKGROUND), np.zeros(1), True)


def test_a_recording_keeps_its_pace_and_leaves_nothing_half_done(avatar: Avatar, camera: Camera, tmp_path: Path) -> None:
    performer, source = prepare(avatar, "livelink:0")
    source.close()
    assert avatar.sequence is not None
    frame = LiveFrame(np.zeros((88, 60, 3), np.uint8), None, torch.zeros(3), np.zeros(performer.rig.size), True)  # pyright: ignore[reportArgumentType]
    recording = Recording(tmp_path / "pace.mp4", 25, performer.rig, avatar.sequence)
    for moment in (5.0, 5.01, 5.2, 6.0):  # more often than its rate, and with gaps
        recording.show(frame, moment)
    recording.close()
    assert len(FlameSequence.load_npz(tmp_path / "pace.npz")) == 26
    failed = Recording(tmp_path / "failed.mp4", 25, performer.rig, avatar.sequence)
    failed.show(frame, 0.0)
    failed.close(failed=True)
    empty = Recording(tmp_path / "empty.mp4", 25, performer.rig, avatar.sequence)
    with pytest.raises(UserError, match="no face arrived"):
        empty.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pace.mp4", "pace.npz"]
    with pytest.raises(UserError, match="is an mp4"):
        Recording(tmp_path / "x.avi", 25, performer.rig, avatar.sequence)


def test_a_cutout_laid_over_the_background_is_the_picture(avatar: Avatar, camera: Camera) -> None:
    frame = frame_of(avatar, camera, jaw=[0.2, 0, 0])
    cutout = frame.cutout.astype(float) / 255.0
    alpha = cutout[..., 3:]
    over = alpha * cutout[..., :3] + (1 - alpha) * np.array(BACKGROUND)
    assert np.abs(255 * over - frame.image)[alpha[..., 0] > 0.1].max() < 4.0
    assert cutout[0, 0, 3] == 0.0 and alpha.max() > 0.9


def test_pictures_over_http(avatar: Avatar, camera: Camera) -> None:
    server = Mjpeg("127.0.0.1", 0, "Me", BACKGROUND)
    try:
        first = frame_of(avatar, camera)
        server.show(first, 0.0)
        address = f"http://127.0.0.1:{server.port}"
        for kind in ("png", "webp", "jpg"):
            with urllib.request.urlopen(f"{address}/picture.{kind}") as answer:
                picture = np.asarray(Image.open(io.BytesIO(answer.read())))
            wanted = first.image if kind == "jpg" else first.cutout
            assert picture.shape == wanted.shape
            solid = wanted[..., -1] > 200 if kind != "jpg" else np.ones(wanted.shape[:2], bool)
            assert np.abs(picture.astype(float) - wanted)[solid].mean() < (0.01 if kind == "png" else 8.0)
        assert b"stream.webp" in urllib.request.urlopen(f"{address}/alpha").read()
        with urllib.request.urlopen(f"{address}/stream.png") as stream:
            for frame in (first, frame_of(avatar, camera, jaw=[0.3, 0, 0])):
                server.show(frame, 0.0)
                while not np.array_equal(part_of(stream), frame.cutout):  # the one before may come again
                    pass
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}/../secret.png")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{address}/", headers={"Host": "elsewhere.example"}))
        for nonsense in (b"", b"\xff" * 300, b"GET / HTTP/9\r\n\r\n", b"GET " + b"x" * 70_000):
            with socket.create_connection(("127.0.0.1", server.port)) as visitor:
                visitor.sendall(nonsense)
        assert b"stream.jpg" in urllib.request.urlopen(f"{address}/").read()
    finally:
        server.close()


def part_of(stream) -> np.ndarray:
    """The next picture of a stream."""
    length = None
    while length is None or stream.readline().strip():
        line = stream.readline() if length is None else b""
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return np.asarray(Image.open(io.BytesIO(stream.read(length))))


def test_outputs_by_name(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    performer, source = prepare(avatar, "livelink:0")
    source.close()

    def opened(text: str) -> Output:
        return open_output(text, avatar, performer.rig, SIZE, 30, host="127.0.0.1", background=BACKGROUND, title="Me")

    for text, words in (("x.avi", "want FILE.mp4"), ("mjpeg:x", "want a port"), ("camera", "pip install pyvirtualcam")):
        monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
        with pytest.raises(UserError, match=words):
            opened(text)
    sent: list[np.ndarray] = []
    fake = types.SimpleNamespace(device="test", send=sent.append, close=lambda: None)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=lambda **options: fake))
    output = opened("camera")
    image = np.ones((SIZE[1], SIZE[0], 3), np.uint8)
    output.show(LiveFrame(image, None, torch.zeros(3), np.zeros(1), True), 0.0)  # pyright: ignore[reportArgumentType]
    assert output.name == "camera test" and sent[0] is image

    def none(**options: object) -> None:
        raise RuntimeError("no device")

    monkeypatch.setitem(sys.modules, "pyvirtualcam", types.SimpleNamespace(Camera=none))
    with pytest.raises(UserError, match=r"no virtual camera.*no device"):
        opened("camera")


def test_the_command(avatar: Avatar, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    avatar.save(tmp_path / "me")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while not done.wait(0.02):
                out.sendto(packets.live_link(SMILE), ("127.0.0.1", port))

    thread = threading.Thread(target=send)
    thread.start()
    film = tmp_path / "film.mp4"
    line = f"live {tmp_path / 'me'} --from livelink:{port} --to {film} --to mjpeg:0 --size 48x64 --seconds 1.5 --json"
    try:
        assert run(line.split()) == 0
    finally:
        done.set()
        thread.join()
    out = json.loads(capsys.readouterr().out)
    assert out["faces"] > 0 and out["pictures"] > 0 and out["latency_ms"]["median"] > 0
    assert out["outputs"][0] == str(film) and film.is_file() and film.with_suffix(".npz").is_file()
    for wrong, code in ((f"live {tmp_path / 'me'}", 2), (f"live {tmp_path / 'me'} --from radio --to a.mp4", 1)):
        assert run(wrong.split()) == code
    assert "is not a source of motion" in capsys.readouterr().err


@pytest.mark.skipif(browser.BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("page", ["/", "/alpha"])
def test_a_browser_shows_the_stream(avatar: Avatar, camera: Camera, tmp_path: Path, page: str) -> None:
    server = Mjpeg("127.0.0.1", 0, "Me", BACKGROUND)
    frames = [frame_of(avatar, camera), frame_of(avatar, camera, jaw=[0.3, 0, 0], rotation=[0, 0.6, 0])]

    def seen() -> np.ndarray:
        server.show(frame, 0.0)  # a stream goes on
        try:
            return np.asarray(Image.open(io.BytesIO(browser.screenshot(call))).convert("RGB")).astype(float)
        except RuntimeError:  # the page is still loading
            return np.zeros((SIZE[1], SIZE[0], 3))

    try:
        with browser.opened(f"http://127.0.0.1:{server.port}{page}", tmp_path / "profile", *SIZE) as call:
            for frame in frames:
                alpha = frame.cutout[..., 3:] / 255.0
                wanted = frame.image if page == "/" else alpha * frame.cutout[..., :3] + (1.0 - alpha) * 255.0
                while np.abs(seen()[2:-2, 2:-2] - wanted[2:-2, 2:-2]).mean() > 8.0:
                    pass  # the browser's watchdog ends this where it never comes
    finally:
        server.close()
