"""Live Link Face, Epic's app for iPhones, over UDP.

A packet: version (uint32, little endian, 6), `$` and a uuid (37 bytes), length and name of the subject (int32, big endian from
here on), time code (int32 frame, float32 part of a frame, int32 frames per second, int32 denominator), 61 (uint8) and as many
float32: the 52 ARKit weights in Apple's order, then yaw, pitch and roll of the head and of either eye, in radians.
Without a face, a packet ends before the 61.
"""

from __future__ import annotations

import math
import struct

from taichi_avatars.motion.face_map import ARKIT_NAMES
from taichi_avatars.motion.live.face import Face, about, clock, rotvec, times, weight

PORT = 11111
VERSION, START, COUNT = 6, 4 + 37, 61
LONGEST_NAME = 256
_TIME, _VALUES = struct.Struct(">ifii"), struct.Struct(f">{COUNT}f")


def read(packet: bytes) -> Face | None:
    """The face in a packet; None if it is not a packet of this protocol."""
    if len(packet) < START + 4 or packet[4:5] != b"$" or int.from_bytes(packet[:4], "little") != VERSION:
        return None
    length = int.from_bytes(packet[START : START + 4], "big", signed=True)
    at = START + 4 + length
    if not 0 <= length <= LONGEST_NAME or len(packet) < at + _TIME.size:
        return None
    frame, part, rate, denominator = _TIME.unpack_from(packet, at)
    time = (frame + part) * denominator / rate if rate > 0 and denominator > 0 else math.nan
    stamp = clock(time)
    at += _TIME.size
    if len(packet) == at:
        return Face(stamp, found=False)
    if packet[at] != COUNT or len(packet) != at + 1 + _VALUES.size:
        return None
    values = _VALUES.unpack_from(packet, at + 1)
    if not all(map(math.isfinite, values)):
        return None
    weights = {name: weight(value) for name, value in zip(ARKIT_NAMES, values, strict=False)}
    yaw, pitch, roll = values[len(ARKIT_NAMES) : len(ARKIT_NAMES) + 3]
    head = rotvec(times(times(about("y", yaw), about("x", pitch)), about("z", roll)))
    return Face(stamp, weights=weights, head=head)
