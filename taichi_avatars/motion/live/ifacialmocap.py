"""iFacialMocap, an app for iPhones, over UDP: one line of text per frame, sent once the phone has been greeted.

`name-0..100|...|=head#rx,ry,rz,px,py,pz|rightEye#rx,ry,rz|leftEye#rx,ry,rz|`, angles in degrees, about x downwards, about y to
the person's left. Names end in _L and _R. Version 2 writes `&` between name and value. There are no time stamps.
"""

from __future__ import annotations

import math
import re

from taichi_avatars.motion.live.face import Face, about, rotvec, times, weight

PORT = 49983
GREETING = b"iFacialMocap_sahuasouryya9218sauhuiayeta91555dy3719"
LARGEST = 8192  # bytes of a packet
MOST_ENTRIES = 128
_WEIGHT = re.compile(r"([A-Za-z]{1,32})(_[LR])?[-&](\d{1,4}(?:\.\d{1,8})?)")
_PART = re.compile(r"=?(head|leftEye|rightEye)#(.{1,200})")
SIDES = {"_L": "Left", "_R": "Right", None: ""}


def read(packet: bytes) -> Face | None:
    """The face in a packet; None if it is not a packet of this protocol."""
    if len(packet) > LARGEST:
        return None
    try:
        entries = packet.decode("ascii").split("|")
    except UnicodeDecodeError:
        return None
    if len(entries) > MOST_ENTRIES:
        return None
    weights: dict[str, float] = {}
    turns: dict[str, tuple[float, float, float]] = {}
    for entry in entries:
        if (held := _WEIGHT.fullmatch(entry)) is not None:
            weights[held[1] + SIDES[held[2]]] = weight(float(held[3]) / 100.0)
        elif (part := _PART.fullmatch(entry)) is not None:
            angles = _angles(part[2])
            if angles is None:
                return None
            turns[part[1]] = angles
    if len(weights) < 2 or "head" not in turns:
        return None
    if weights.pop("trackingStatus", 1.0) == 0.0:  # version 2 reports whether it sees a face
        return Face(found=False)
    none = (0.0, 0.0, 0.0)
    return Face(weights=weights, head=turns["head"], eyes=(*turns.get("leftEye", none), *turns.get("rightEye", none)))


def _angles(text: str) -> tuple[float, float, float] | None:
    """The axis-angle of three Euler angles in degrees; the position that follows them is ignored."""
    try:
        x, y, z = (math.radians(float(value)) for value in text.split(",")[:3])
    except ValueError:
        return None
    if not max(abs(x), abs(y), abs(z)) <= 4.0 * math.pi:
        return None
    return rotvec(times(times(about("x", x), about("y", y)), about("z", z)))
