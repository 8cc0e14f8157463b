"""What packets say: exact values of every protocol, and nothing of what is none."""

from __future__ import annotations

import json
import math
import random
import struct

import pytest
import roma
import torch
from motion.live import broken, packets

from taichi_avatars.motion.face_map import ARKIT_NAMES
from taichi_avatars.motion.live import ifacialmocap, livelink, vmc, websocket
from taichi_avatars.motion.live.face import Face

NAMES = frozenset(ARKIT_NAMES)
NOSE, CROWN = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])


def turned(face: Face | None, what: torch.Tensor) -> list[float]:
    assert face is not None
    return (roma.rotvec_to_rotmat(torch.tensor(face.head)) @ what).tolist()


def single(value: float) -> float:
    """A float as four bytes carry it."""
    return struct.unpack(">f", struct.pack(">f", value))[0]


def test_live_link_weights_arrive_exactly() -> None:
    chance = random.Random(1)
    sent = {name: chance.random() for name in packets.LIVE_LINK_ORDER[:52]}
    face = livelink.read(packets.live_link(sent, frame=90, part=0.5, rate=60))
    assert face is not None and face.found and face.time == pytest.approx(90.5 / 60)
    for name, value in sent.items():
        assert face.weights[name[0].lower() + name[1:]] == single(value)


def test_live_link_turns_the_head() -> None:
    """Yaw to the person's left (+x), pitch down (-y), roll tips the crown to the person's right (-x)."""
    assert turned(livelink.read(packets.live_link({"HeadYaw": 0.2})), NOSE)[0] == pytest.approx(math.sin(0.2), abs=1e-6)
    assert turned(livelink.read(packets.live_link({"HeadPitch": 0.2})), NOSE)[1] == pytest.approx(-math.sin(0.2), abs=1e-6)
    assert turned(livelink.read(packets.live_link({"HeadRoll": 0.2})), CROWN)[0] == pytest.approx(-math.sin(0.2), abs=1e-6)


def test_live_link_without_a_face() -> None:
    face = livelink.read(packets.live_link(None, frame=3))
    assert face is not None and not face.found


def test_live_link_from_a_client_that_is_not_ours() -> None:
    client = pytest.importorskip("pylivelinkface.pylivelinkface", reason="pylivelinkface is not installed")
    sender = client.PyLiveLinkFace(fps=60)
    for shape in client.FaceBlendShape:
        sender.set_blendshape(shape, (shape.value + 1) / 64, no_filter=True)
    face = livelink.read(sender.encode())
    assert face is not None
    assert [face.weights[name] for name in ARKIT_NAMES] == [(k + 1) / 64 for k in range(52)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packet: packet[:-1],
        lambda packet: packet + b"\0",
        lambda packet: b"\x07" + packet[1:],
        lambda packet: packet[:4] + b"x" + packet[5:],
        lambda packet: packet[:41] + struct.pack(">i", -1) + packet[45:],
        lambda packet: packet[:41] + struct.pack(">i", 2**31 - 1) + packet[45:],
        lambda packet: packet[:67] + b"\x3e" + packet[68:],
        lambda packet: packet[:-4] + struct.pack(">f", math.nan),
        lambda packet: packet[:-4] + struct.pack(">f", math.inf),
    ],
)
def test_what_is_no_live_link_is_refused(spoil) -> None:
    assert livelink.read(spoil(packets.live_link({"JawOpen": 0.5}))) is None


def test_a_senseless_time_code_is_none() -> None:
    face = livelink.read(packets.live_link({"JawOpen": 0.5}, rate=0))
    assert face is not None and face.time is None and face.weights["jawOpen"] == 0.5


def test_ifacialmocap_values_arrive_to_a_hundredth() -> None:
    sent = {"mouthSmile_R": 40, "mouthSmile_L": 7, "jawOpen": 100, "tongueOut": 0, "browInnerUp": 33}
    packet = packets.ifacialmocap(sent, (20.0, -10.0, 0.0, 0.1, 0.2, 0.3), ((6.0, 2.0, 0.0), (5.0, -1.0, 0.0)))
    face = ifacialmocap.read(packet)
    assert face is not None and face.eyes is not None
    assert face.weights == {
        "mouthSmileRight": 0.4, "mouthSmileLeft": 0.07, "jawOpen": 1.0, "tongueOut": 0.0, "browInnerUp": 0.33,
    }  # fmt: skip
    nose = turned(face, NOSE)
    assert nose[1] < -0.3 and nose[0] < -0.15  # down, and to the person's right
    assert face.eyes[:2] == pytest.approx([math.radians(5), math.radians(-1)], abs=1e-3)  # the left one first
    assert ifacialmocap.read(packet.replace(b"-4", b"&4").replace(b"jawOpen-", b"jawOpen&")) is not None  # version 2


@pytest.mark.parametrize(
    "packet",
    [
        b"", b"jawOpen-5|", b"jawOpen-5|mouthLeft-3|", b"\xff\xfe" * 40, b"jawOpen-5|mouthLeft-3|=head#nan,0,0|",
        b"jawOpen-5|mouthLeft-3|=head#1e999,0,0|", b"jawOpen-5|mouthLeft-3|=head#1,2|", b"a-1|" * 5000, b"|" * 8192,
        b"jawOpen-5|mouthLeft-3|=head#9999999,0,0|", ifacialmocap.GREETING,
    ],
)  # fmt: skip
def test_what_is_no_ifacialmocap_is_refused(packet: bytes) -> None:
    assert ifacialmocap.read(packet) is None


def test_vmc_perfect_sync_arrives_exactly() -> None:
    pytest.importorskip("pythonosc")
    sent = {name[:1].upper() + name[1:]: (k + 1) / 64 for k, name in enumerate(ARKIT_NAMES)}
    yaw = math.sin(0.1)  # half of 0.2, about Unity's y: to the person's right
    face = vmc.Reader().read(packets.vmc({**sent, "A": 1.0, "Joy": 1.0}, {"Head": (0.0, yaw, 0.0, math.cos(0.1))}, 2.5))
    assert face is not None and face.time == 2.5
    assert [face.weights[name] for name in ARKIT_NAMES] == [(k + 1) / 64 for k in range(52)]
    assert turned(face, NOSE)[0] == pytest.approx(-math.sin(0.2), abs=1e-6)


def test_vmc_joins_neck_and_head_and_reads_the_eyes() -> None:
    pytest.importorskip("pythonosc")
    nod = (math.sin(0.1), 0.0, 0.0, math.cos(0.1))
    face = vmc.Reader().read(packets.vmc({}, {"Neck": nod, "Head": nod, "LeftEye": nod}))
    assert face is not None and face.eyes is not None
    assert face.head == pytest.approx((0.4, 0.0, 0.0), abs=1e-6) and face.eyes == pytest.approx((0.2, 0, 0, 0, 0, 0), abs=1e-6)


def test_vmc_vowels_and_blinks_of_vrm_models() -> None:
    pytest.importorskip("pythonosc")
    reader = vmc.Reader()
    face = reader.read(packets.vmc({"A": 0.5, "Blink_L": 1.0, "unheard": 1.0}))
    assert face is not None and face.weights["jawOpen"] == pytest.approx(0.3) and face.weights["eyeBlinkLeft"] == 1.0
    assert "eyeBlinkRight" not in face.weights or face.weights["eyeBlinkRight"] == 0.0
    face = reader.read(packets.vmc({"A": 0.0, "aa": 0.0, "ou": 1.0}))  # VRM 1; what was said before stays
    assert face is not None and face.weights["mouthPucker"] == pytest.approx(0.7) and face.weights["eyeBlinkLeft"] == 1.0


def test_vmc_frames_may_come_in_pieces() -> None:
    builder = pytest.importorskip("pythonosc.osc_message_builder")
    reader = vmc.Reader()

    def message(address: str, *arguments: object) -> bytes:
        made = builder.OscMessageBuilder(address)
        for argument in arguments:
            made.add_arg(argument)
        return made.build().dgram

    assert reader.read(message("/VMC/Ext/Blend/Val", "JawOpen", 0.25)) is None
    face = reader.read(message("/VMC/Ext/Blend/Apply"))
    assert face is not None and face.weights == {"jawOpen": 0.25}
    assert reader.read(message("/VMC/Ext/Blend/Val", "JawOpen", "wide")) is None
    assert reader.read(message("/VMC/Ext/Blend/Val", 3, 0.5)) is None
    assert reader.read(message("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 9.0)) is None
    face = reader.read(message("/VMC/Ext/Blend/Apply"))
    assert face is not None and face.weights == {"jawOpen": 0.25} and face.head == (0.0, 0.0, 0.0)


def test_websocket_messages() -> None:
    face = websocket.read('{"weights": {"jawOpen": 0.1, "tongueOut": 7}, "head": [0.1, 0.2, 0.3], "time": 4}', NAMES)
    assert face.weights == {"jawOpen": 0.1, "tongueOut": 1.0} and face.head == (0.1, 0.2, 0.3) and face.time == 4.0
    face = websocket.read(b'{"expr": [1, 2], "jaw": [0.2, 0, 0]}', NAMES)
    assert face.flame == {"expr": [1.0, 2.0], "jaw": [0.2, 0.0, 0.0]}
    assert not websocket.read('{"face": false}', NAMES).found
    assert websocket.read("{}", NAMES).found


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "want"), ('{"weights": 3}', "want an object"),
        ('{"weights": {"grin": 1}}', "'grin' is unknown"), ('{"weights": {"jawOpen": "1"}}', "jawOpen: want a number"),
        ('{"weights": {"jawOpen": NaN}}', "jawOpen"), ('{"weights": {"jawOpen": 1e999}}', "jawOpen"),
        ('{"weights": {"jawOpen": true}}', "jawOpen"), (json.dumps({"head": [10**400, 0, 0]}), "head: want three"),
        ('{"head": [1, 2]}', "head: want three"), ('{"jaw": [1]}', "jaw: want 3"), ('{"expr": "x"}', "expr: want"),
        ('{"expr": [1], "weights": {}}', "either"), ('{"pose": 1}', "'pose' is unknown"),
        ('{"time": "noon", "weights": {"jawOpen": 2, "x": 1}}', "'x' is unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_message_is_said(message: str, words: str) -> None:
    with pytest.raises(websocket.Refused, match=words):
        websocket.read(message, NAMES)


def test_random_bytes_are_refused_by_all() -> None:
    """A part of what benchmarks/live/run.py does with 100,000 packets of each protocol."""
    for name, read in broken.readers().items():
        chance = random.Random(5)
        for _ in range(1500):
            read(broken.packet(name, chance))  # must not raise; what by chance is a face has finite numbers
