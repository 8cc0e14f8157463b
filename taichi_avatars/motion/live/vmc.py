"""The VMC protocol (protocol.vmc.info) of VTuber programs: OSC messages over UDP, one frame in several packets.

`/VMC/Ext/Blend/Val` name value, `/VMC/Ext/Blend/Apply` at the end of a frame's values, `/VMC/Ext/Bone/Pos` name, place and
rotation (x,y,z,w) of a bone in Unity's axes, `/VMC/Ext/T` seconds. Names are ARKit's ("perfect sync"), or those of VRM models.
"""

from __future__ import annotations

from typing import Any

from taichi_avatars.motion.face_map import ARKIT_NAMES
from taichi_avatars.motion.live.face import Face, Quat, clock, numbers, rotvec, times, weight
from taichi_avatars.motion.live.osc import NoOsc, messages

PORT = 39539
LARGEST = 8192  # bytes of a packet: senders stay below the size that a network transmits unfragmented
_ARKIT = {name.lower(): name for name in ARKIT_NAMES}
_BONES = ("Neck", "Head", "LeftEye", "RightEye")
_BOTH_BLINK = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
_SMILE = {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4}
_SAD = {"mouthFrownLeft": 0.7, "mouthFrownRight": 0.7, "browInnerUp": 0.6}
_RELAXED = {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5}
# The expressions of VRM 0 and 1 in ARKit's weights.
VRM: dict[str, dict[str, float]] = {
    "a": {"jawOpen": 0.6},
    "i": {"jawOpen": 0.12, "mouthStretchLeft": 0.5, "mouthStretchRight": 0.5},
    "u": {"jawOpen": 0.12, "mouthPucker": 0.7},
    "e": {"jawOpen": 0.3, "mouthStretchLeft": 0.4, "mouthStretchRight": 0.4},
    "o": {"jawOpen": 0.4, "mouthFunnel": 0.7},
    "blink": _BOTH_BLINK,
    "blink_l": {"eyeBlinkLeft": 1.0},
    "blink_r": {"eyeBlinkRight": 1.0},
    "joy": _SMILE,
    "angry": {"browDownLeft": 0.9, "browDownRight": 0.9, "mouthPressLeft": 0.3, "mouthPressRight": 0.3},
    "sorrow": _SAD,
    "fun": _RELAXED,
    "surprised": {"eyeWideLeft": 0.8, "eyeWideRight": 0.8, "browInnerUp": 0.7, "jawOpen": 0.25},
}
_OTHER_NAMES = {
    "aa": "a", "ih": "i", "ou": "u", "ee": "e", "oh": "o", "blinkleft": "blink_l", "blinkright": "blink_r", "happy": "joy",
    "sad": "sorrow", "relaxed": "fun",
}  # fmt: skip


class Reader:
    """Assembles the frames of one sender."""

    def __init__(self) -> None:
        self._arkit: dict[str, float] = {}
        self._vrm: dict[str, float] = {}
        self._bones: dict[str, Quat] = {}
        self._time: float | None = None
        self._applies = False

    def read(self, packet: bytes) -> Face | None:
        """The face that a packet completes; None if it completes none, or is not a packet of this protocol."""
        if len(packet) > LARGEST:
            return None
        try:
            held = messages(packet)
        except NoOsc:
            return None
        complete = turned = False
        for address, values in held:
            if address == "/VMC/Ext/Blend/Val" and len(values) == 2:
                self._note(values[0], values[1])
            elif address == "/VMC/Ext/Blend/Apply":
                complete = self._applies = True
            elif address == "/VMC/Ext/Bone/Pos" and len(values) == 8 and values[0] in _BONES:
                turned |= self._turn(values[0], values[4:8])
            elif address == "/VMC/Ext/T" and len(values) == 1:
                self._time = clock(values[0])
        return self._face() if complete or (turned and not self._applies) else None

    def _note(self, name: Any, value: Any) -> None:
        amount = numbers([value], 1)
        if not isinstance(name, str) or amount is None:
            return
        key = name.lower()
        if key in _ARKIT:
            self._arkit[_ARKIT[key]] = weight(amount[0])
        elif (key := _OTHER_NAMES.get(key, key)) in VRM:
            self._vrm[key] = weight(amount[0])

    def _turn(self, bone: str, values: Any) -> bool:
        turn = numbers(list(values), 4)
        if turn is None or abs(sum(part * part for part in turn) - 1.0) > 0.1:
            return False
        x, y, z, w = turn
        self._bones[bone] = Quat(
            w, x, -y, -z
        )  # Unity's x is the person's right; a mirror preserves the rotation about its own axis
        return True

    def _face(self) -> Face:
        weights = dict(self._arkit)
        if not weights:  # senders of perfect sync also send the coarse ones, for models that lack the others
            for name, amount in self._vrm.items():
                for arkit, share in VRM[name].items():
                    weights[arkit] = weight(weights.get(arkit, 0.0) + share * amount)
        still = Quat(1.0, 0.0, 0.0, 0.0)
        head = rotvec(times(self._bones.get("Neck", still), self._bones.get("Head", still)))
        eyes = (*rotvec(self._bones.get("LeftEye", still)), *rotvec(self._bones.get("RightEye", still)))
        return Face(self._time, weights=weights, head=head, eyes=eyes)
