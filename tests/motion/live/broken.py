"""Packets that are none: random, cut off, huge, with wrong counts, types and numbers; and true ones changed a little."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Callable

from motion.live import packets

from taichi_avatars.motion.face_map import ARKIT_NAMES
from taichi_avatars.motion.live import ifacialmocap, livelink, vmc, websocket
from taichi_avatars.motion.live.face import Face

ODD_NUMBERS = (math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-45, 0.0, -0.0)
ODD_JSON = (None, True, "x", [], {}, [[[]]], 1e308, -1, "NaN", [1, 2, 3], {"jawOpen": {}}, 10**30)
PROTOCOLS = ("livelink", "ifacialmocap", "vmc", "websocket")


def true(name: str, chance: random.Random) -> bytes:
    """A packet as it should be."""
    amounts = [chance.random() for _ in range(8)]
    if name == "livelink":
        return packets.live_link(dict(zip(packets.LIVE_LINK_ORDER, amounts, strict=False)), chance.randrange(10**6))
    if name == "ifacialmocap":
        return packets.ifacialmocap({"jawOpen": int(100 * amounts[0]), "mouthSmile_L": int(100 * amounts[1])}, amounts[:6])
    if name == "vmc":
        return packets.vmc({"A": amounts[0], "JawOpen": amounts[1]}, {"Head": (0.0, 0.0, 0.0, 1.0)})
    return json.dumps({"weights": {"jawOpen": amounts[0]}, "head": amounts[:3]}).encode()


def packet(name: str, chance: random.Random) -> bytes:
    """A packet that is wrong in one of many ways."""
    way = chance.randrange(8)
    good = true(name, chance)
    if way == 0:
        return chance.randbytes(chance.choice((0, 1, 3, 4, 40, 200, 1400)))
    if way == 1:
        return good[: chance.randrange(len(good))]
    if way == 2:
        return good + chance.randbytes(chance.choice((1, 300, 5000)))
    if way == 3:
        return (good * 50)[: chance.choice((9000, 20_000, 60_000))]
    if way == 4:
        return bytes(byte ^ (1 << chance.randrange(8)) if chance.random() < 0.05 else byte for byte in good)
    return _odd(name, good, chance)


def _odd(name: str, good: bytes, chance: random.Random) -> bytes:
    number = chance.choice(ODD_NUMBERS)
    if name == "livelink":
        at = len(good) - 4 * chance.randrange(1, 62)
        if chance.random() < 0.5:
            return good[:at] + struct.pack(">f", number) + good[at + 4 :]
        at = chance.randrange(0, 68)
        return good[:at] + chance.randbytes(4) + good[at + 4 :]
    if name == "ifacialmocap":
        text = chance.choice((str(number), "", "9" * 300, "1,2", "#|#|", "-", "\0"))
        return good.replace(str(chance.choice((0.0, 1.0))).encode(), text.encode(), 2).replace(b"-", b"-" + text.encode(), 1)
    if name == "vmc":
        value = chance.choice((number, "text", True, b"\0" * 7, 2**31 - 1))
        from pythonosc.osc_message_builder import OscMessageBuilder

        message = OscMessageBuilder(chance.choice(("/VMC/Ext/Blend/Val", "/VMC/Ext/Bone/Pos", "/VMC/Ext/T", "/x", "//")))
        for _ in range(chance.randrange(10)):
            message.add_arg(chance.choice((value, "Head", "JawOpen", 0.5)))
        made = message.build().dgram
        depth = chance.choice((0, 1, 60))
        for _ in range(depth):
            made = b"#bundle\0" + bytes(8) + struct.pack(">i", chance.choice((len(made), len(made), -8, 2**31 - 1))) + made
        return made
    fields = {chance.choice(("weights", "head", "expr", "jaw", "time", "face", "x" * 100)): chance.choice(ODD_JSON)}
    if chance.random() < 0.3:
        fields["weights"] = {name: chance.choice(ODD_JSON) for name in chance.sample(ARKIT_NAMES, 3)}
    deep = "[" * 3000 if chance.random() < 0.1 else ""
    return (deep + json.dumps(fields)).encode()


def readers() -> dict[str, Callable[[bytes], Face | None]]:
    """What reads each protocol; raises nothing but what is a mistake."""
    names = frozenset(ARKIT_NAMES)

    def message(content: bytes) -> Face | None:
        try:
            return websocket.read(content, names)
        except websocket.Refused:
            return None

    return {
        "livelink": livelink.read, "ifacialmocap": ifacialmocap.read, "vmc": vmc.Reader().read, "websocket": message,
    }  # fmt: skip
