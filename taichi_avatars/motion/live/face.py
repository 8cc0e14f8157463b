"""One observation of a face, independent of the protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LARGEST_TIME = 1e12  # largest time of a sender's clock, seconds: even milliseconds since 1970 are less


class Quat(NamedTuple):
    """A unit quaternion; x to the person's left, y up, z forward."""

    w: float
    x: float
    y: float
    z: float


@dataclass(frozen=True, eq=False)
class Face:
    """One observation.

    Attributes:
        time: on the sender's clock, seconds; None if it has none.
        found: whether the sender sees a face; if not, all other fields are meaningless.
        weights: by ARKit's names, or the head's own, from 0 to 1.
        head: axis-angle of the head, x to the person's left, y up, z forward, radians.
        eyes: axis-angles of the left and the right eye in the same axes, for senders without gaze weights.
        flame: parts of a pose instead of all these, as for `Avatar.render(flame=...)`.
    """

    time: float | None = None
    found: bool = True
    weights: Mapping[str, float] = field(default_factory=dict)
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    eyes: tuple[float, ...] | None = None
    flame: Mapping[str, list[float]] | None = None


LOST = Face(found=False)


def weight(value: float) -> float:
    """A weight clamped to its bounds."""
    return min(max(value, 0.0), 1.0)


def numbers(values: Any, count: int | None = None, largest: float = 1e3) -> list[float] | None:
    """A list of this many finite numbers as floats; None for anything else. Input from the network is untrusted."""
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        return None
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not -largest <= value <= largest:  # nor NaN
            return None
    return [float(value) for value in values]


def clock(value: Any) -> float | None:
    """A time on a sender's clock; None if it is not one."""
    one = numbers([value], 1, LARGEST_TIME)
    return None if one is None else one[0]


def about(axis: str, angle: float) -> Quat:
    """The rotation about an axis by an angle in radians."""
    c, s = math.cos(0.5 * angle), math.sin(0.5 * angle)
    return Quat(c, *(s if name == axis else 0.0 for name in "xyz"))


def times(a: Quat, b: Quat) -> Quat:
    """Product of quaternions: first b, then a."""
    return Quat(
        a.w * b.w - a.x * b.x - a.y * b.y - a.z * b.z,
        a.w * b.x + a.x * b.w + a.y * b.z - a.z * b.y,
        a.w * b.y - a.x * b.z + a.y * b.w + a.z * b.x,
        a.w * b.z + a.x * b.y - a.y * b.x + a.z * b.w,
    )


def rotvec(q: Quat) -> tuple[float, float, float]:
    """The axis-angle of a quaternion, of at most half a turn; zero for one without length."""
    sine = math.sqrt(q.x * q.x + q.y * q.y + q.z * q.z)
    if sine < 1e-12:
        return 0.0, 0.0, 0.0
    angle = 2.0 * math.atan2(sine, abs(q.w))
    factor = math.copysign(angle / sine, q.w if q.w else 1.0)
    return factor * q.x, factor * q.y, factor * q.z


def quat(x: float, y: float, z: float) -> Quat:
    """The quaternion of an axis-angle."""
    angle = math.sqrt(x * x + y * y + z * z)
    factor = math.sin(0.5 * angle) / angle if angle > 1e-12 else 0.5
    return Quat(math.cos(0.5 * angle), factor * x, factor * y, factor * z)
