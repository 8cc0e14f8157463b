"""Packets as senders write them, from the published layouts; nothing of the package's own is used for it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

LIVE_LINK_ORDER = (
    "EyeBlinkLeft", "EyeLookDownLeft", "EyeLookInLeft", "EyeLookOutLeft", "EyeLookUpLeft", "EyeSquintLeft", "EyeWideLeft",
    "EyeBlinkRight", "EyeLookDownRight", "EyeLookInRight", "EyeLookOutRight", "EyeLookUpRight", "EyeSquintRight",
    "EyeWideRight", "JawForward", "JawLeft", "JawRight", "JawOpen", "MouthClose", "MouthFunnel", "MouthPucker",
    "MouthLeft", "MouthRight", "MouthSmileLeft", "MouthSmileRight", "MouthFrownLeft", "MouthFrownRight",
    "MouthDimpleLeft", "MouthDimpleRight", "MouthStretchLeft", "MouthStretchRight", "MouthRollLower", "MouthRollUpper",
    "MouthShrugLower", "MouthShrugUpper", "MouthPressLeft", "MouthPressRight", "MouthLowerDownLeft",
    "MouthLowerDownRight", "MouthUpperUpLeft", "MouthUpperUpRight", "BrowDownLeft", "BrowDownRight", "BrowInnerUp",
    "BrowOuterUpLeft", "BrowOuterUpRight", "CheekPuff", "CheekSquintLeft", "CheekSquintRight", "NoseSneerLeft",
    "NoseSneerRight", "TongueOut", "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll",
    "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)  # fmt: skip
UUID = b"$0F1E2D3C-0000-1111-2222-333344445555"


def live_link(values: Mapping[str, float] | None, frame: int = 0, part: float = 0.0, rate: int = 60) -> bytes:
    """A packet of Live Link Face; without a face where there are no values."""
    name = b"iPhone"
    head = struct.pack("<I", 6) + UUID + struct.pack(">i", len(name)) + name + struct.pack(">ifii", frame, part, rate, 1)
    if values is None:
        return head
    return head + bytes([61]) + struct.pack(">61f", *(values.get(one, 0.0) for one in LIVE_LINK_ORDER))


def ifacialmocap(
    values: Mapping[str, int], head: Sequence[float] = (0.0,) * 6, eyes: Sequence[Sequence[float]] = ((0.0,) * 3,) * 2
) -> bytes:
    """A packet of iFacialMocap; eyes right, then left, as it sends them."""
    texts = [",".join(str(float(number)) for number in part) for part in (head, *eyes)]
    weights = "".join(f"{name}-{value}|" for name, value in values.items())
    return f"{weights}=head#{texts[0]}|rightEye#{texts[1]}|leftEye#{texts[2]}|".encode()


def vmc(values: Mapping[str, float], bones: Mapping[str, Sequence[float]] | None = None, time: float | None = None) -> bytes:
    """A frame of the VMC protocol as one bundle, written by python-osc; rotations x,y,z,w."""
    from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
    from pythonosc.osc_message_builder import OscMessageBuilder

    bundle = OscBundleBuilder(IMMEDIATELY)  # pyright: ignore[reportArgumentType]

    def add(address: str, *arguments: object) -> None:
        message = OscMessageBuilder(address)
        for argument in arguments:
            message.add_arg(argument)  # pyright: ignore[reportArgumentType]
        bundle.add_content(message.build())  # pyright: ignore[reportArgumentType]

    if time is not None:
        add("/VMC/Ext/T", time)
    for bone, rotation in (bones or {}).items():
        add("/VMC/Ext/Bone/Pos", bone, 0.0, 0.0, 0.0, *map(float, rotation))
    for name, value in values.items():
        add("/VMC/Ext/Blend/Val", name, float(value))
    add("/VMC/Ext/Blend/Apply")
    return bundle.build().dgram
