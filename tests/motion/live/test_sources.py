"""Sources over this machine's loopback: what is sent is taken, from one sender at a time, whatever else comes."""

from __future__ import annotations

import json
import queue
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from motion.live import broken, packets
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from taichi_avatars.errors import UserError
from taichi_avatars.motion.face_map import ARKIT_NAMES
from taichi_avatars.motion.live import ifacialmocap, sender
from taichi_avatars.motion.live.face import Face
from taichi_avatars.motion.live.sources import open_source
from taichi_avatars.motion.live.websocket import MOST_CONNECTIONS

PATIENCE = 60.0  # seconds that a packet may take on a machine that is busy


class Taken:
    """Faces that a source gave."""

    def __init__(self) -> None:
        self.faces: queue.Queue[tuple[Face, bool]] = queue.Queue()

    def __call__(self, face: Face, arrival: float, new: bool) -> None:
        self.faces.put((face, new))

    def next(self) -> tuple[Face, bool]:
        return self.faces.get(timeout=PATIENCE)


@contextmanager
def running(text: str, **options: str) -> Iterator[tuple]:
    source, taken = open_source(text, ARKIT_NAMES, **options), Taken()
    source.start(taken)
    try:
        yield source, taken
    finally:
        source.close()


def speaker() -> socket.socket:
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.bind(("127.0.0.1", 0))
    return out


@pytest.mark.parametrize("name", ["livelink", "vmc"])
def test_one_sender_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(f"{name}:0") as (source, taken), speaker() as first, speaker() as second:
        good = broken.true(name, random.Random(1))
        first.sendto(good, source.address)
        assert taken.next()[1]
        for _ in range(5):
            second.sendto(good, source.address)
        first.sendto(good, source.address)
        assert not taken.next()[1] and taken.faces.empty()  # the second one's came before and were passed over
        assert source.traffic.others == 5 and source.traffic.faces == 2
        monkeypatch.setattr(sender, "SILENCE", 0.0)  # the first is silent from now on
        second.sendto(good, source.address)
        assert taken.next()[1] and source.traffic.sender == "{}:{}".format(*second.getsockname())


def test_only_the_named_sender_is_heard() -> None:
    with running("livelink:0", sender="192.0.2.1") as (source, taken), speaker() as out:
        for _ in range(3):
            out.sendto(packets.live_link({}), source.address)
        with running("livelink:0", sender="127.0.0.1") as (other, heard):
            out.sendto(packets.live_link({}), other.address)
            heard.next()
        assert taken.faces.empty()


@pytest.mark.parametrize("name", ["livelink", "vmc", "websocket"])
def test_malformed_packets_do_not_stop_the_motion(name: str) -> None:
    """From the same sender and from others; the same at length: benchmarks/live/run.py malformed."""
    chance = random.Random(2)
    with running(f"{name}:0") as (source, taken):
        if name == "websocket":
            with connect("ws://{}:{}".format(*source.address), compression=None) as good:
                for _ in range(200):
                    content = broken.packet(name, chance)
                    if len(content) <= 65536:
                        good.send(content)
                good.send(broken.true(name, chance))
                while "jawOpen" not in (face := taken.next()[0]).weights or not any(face.head):
                    pass
            return
        with speaker() as good, speaker() as bad:
            good.sendto(broken.true(name, chance), source.address)
            taken.next()
            for round_ in range(10):
                for _ in range(20):
                    for out in (good, bad):
                        content = broken.packet(name, chance)
                        if content:
                            out.sendto(content, source.address)
                before = source.traffic.faces
                quarter = {"JawOpen": 0.25}
                packet = packets.live_link(quarter, round_) if name == "livelink" else packets.vmc(quarter)
                good.sendto(packet, source.address)
                while taken.next()[0].weights.get("jawOpen") != 0.25:
                    pass
                assert source.traffic.faces > before
            assert source.traffic.refused > 0 and source.traffic.others > 0


def test_a_phone_is_greeted_and_answers() -> None:
    with speaker() as phone:
        phone.settimeout(PATIENCE)
        with running(f"ifacialmocap:127.0.0.1:{phone.getsockname()[1]}") as (_, taken):
            greeting, program = phone.recvfrom(1000)
            assert greeting == ifacialmocap.GREETING
            phone.sendto(packets.ifacialmocap({"jawOpen": 30, "tongueOut": 0}), program)
            face, new = taken.next()
            assert new and face.weights == {"jawOpen": 0.3, "tongueOut": 0.0}


def test_websocket_says_what_is_wrong_and_takes_one_at_a_time() -> None:
    with running("websocket:0") as (source, taken):
        address = "ws://{}:{}".format(*source.address)
        with connect(address) as first, connect(address, origin="http://localhost:3000") as second:  # pyright: ignore[reportArgumentType]
            first.send(json.dumps({"weights": {"grin": 1}}))
            assert "'grin' is unknown" in json.loads(first.recv(PATIENCE))["error"]
            first.send(json.dumps({"weights": {"jawOpen": 0.1}, "head": [0, 0.2, 0]}))
            face, new = taken.next()
            assert new and face.weights == {"jawOpen": 0.1} and face.head == (0.0, 0.2, 0.0)
            second.send(json.dumps({"weights": {"jawOpen": 0.9}}))
            assert "somebody else" in json.loads(second.recv(PATIENCE))["error"]
        with pytest.raises(InvalidStatus, match="403"):
            connect(address, origin="https://elsewhere.example")  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidStatus, match="403"):
            connect(address, origin="null")  # pyright: ignore[reportArgumentType]
    with running("websocket:0", sender="https://elsewhere.example") as (source, taken):
        address = "ws://{}:{}".format(*source.address)
        with connect(address, origin="https://elsewhere.example") as page:  # pyright: ignore[reportArgumentType]
            page.send("{}")
            taken.next()
        with pytest.raises(InvalidStatus, match="403"):
            connect(address)


def test_idle_connections_are_bounded() -> None:
    with running("websocket:0") as (source, taken):
        idle = [socket.create_connection(source.address) for _ in range(MOST_CONNECTIONS)]
        with socket.create_connection(source.address) as one_more:
            one_more.settimeout(PATIENCE)
            assert one_more.recv(1) == b""  # closed at once
        for connection in idle:
            connection.close()
        for _ in range(1000):  # until the server has noticed
            try:
                with connect("ws://{}:{}".format(*source.address)) as program:
                    program.send("{}")
                    taken.next()
                    return
            except (OSError, WebSocketException):
                continue
        raise AssertionError("no place became free")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("morse", "is not a source of motion"), ("livelink:x", "want a port"), ("vmc:99999", "want a port"),
        ("ifacialmocap", "which phone"), ("ifacialmocap:no such host", "cannot be reached"), ("", "is not a source"),
    ],
)  # fmt: skip
def test_what_is_no_source_is_said(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_source(text, ARKIT_NAMES)


def test_a_port_that_is_taken_and_one_that_others_reach() -> None:
    with speaker() as taken, pytest.raises(UserError, match="cannot listen"):
        open_source(f"livelink:{taken.getsockname()[1]}", ARKIT_NAMES)
    with pytest.raises(UserError, match=r"no address|cannot listen"):
        open_source("livelink:0", ARKIT_NAMES, host="192.0.2.7")
    for name in ("livelink", "websocket"):
        source = open_source(f"{name}:0", ARKIT_NAMES, host="0.0.0.0")
        assert source.warning is not None and "without a password" in source.warning
        if name == "livelink":
            source.close()
