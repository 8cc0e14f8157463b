"""The parts of a head's pose: their names here and in files, their sizes, and their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Part(NamedTuple):
    """One part of a pose that has the same size for every head.

    Attributes:
        name: in `HeadPose`.
        key: in files and in `FlameSequence`.
        joints: the roles of the joints that it rotates, an axis-angle each; none: it is a translation.
    """

    name: str
    key: str
    joints: tuple[str, ...]

    @property
    def size(self) -> int:
        return 3 * max(len(self.joints), 1)


PARTS = (
    Part("rotation", "rotation", ("root",)),
    Part("neck", "neck_pose", ("neck",)),
    Part("jaw", "jaw_pose", ("jaw",)),
    Part("eyes", "eyes_pose", ("left eye", "right eye")),
    Part("translation", "translation", ()),
)
ROLES = tuple(role for part in PARTS for role in part.joints)
REQUIRED = ("rotation", "translation")  # keys of the parts that every head has
SIZES = {part.key: part.size for part in PARTS}  # by key


class HeadPose(NamedTuple):
    """The pose of a head at one moment. Every part may have a leading batch axis, and be None or empty for zero.

    Attributes:
        expr: (E,) expression coefficients.
        rotation, neck, jaw: (3,) axis-angles, radians.
        eyes: (6,) axis-angles of the left, then the right eye, radians.
        translation: (3,) metres, added last.
        dynamic_offset: (V,3) metres, added before the pose.
    """

    expr: Tensor | None = None
    rotation: Tensor | None = None
    neck: Tensor | None = None
    jaw: Tensor | None = None
    eyes: Tensor | None = None
    translation: Tensor | None = None
    dynamic_offset: Tensor | None = None

    @staticmethod
    def of_keys(values: Mapping[str, Tensor | None]) -> HeadPose:
        """The pose from parts by their keys in files."""
        return HeadPose(*(values.get(key) for key in KEYS))

    def given(self) -> dict[str, Tensor]:
        """The parts that are not None, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


NEUTRAL = HeadPose()
_NAMES_TO_KEYS = {part.name: part.key for part in PARTS}
KEYS = tuple(_NAMES_TO_KEYS.get(name, name) for name in HeadPose._fields)  # of the parts of a HeadPose, in its order
MOVING = KEYS[:-1]  # the same without the dynamic offset: the parts in every row of a motion
