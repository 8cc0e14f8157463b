"""The pose of a head apart from that of the neck below it.

Files hold the root's rotation and the neck's on top of it. Their product is how the head is turned, which pictures show far
better than how the two share it. So what is tracked and refined are rotation and place of the head, and the neck's pose beside
them bends the neck alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import roma
from torch import Tensor

from taichi_avatars.head.flame import FlameModel, ShapedHead


def arm_of(head: FlameModel, shaped: ShapedHead) -> Tensor:
    """(3,) from the root joint to the neck's, metres, at rest."""
    joints = head.pose(shaped).joints[:2]
    return joints[-1] - joints[0]


def head_first(parts: Mapping[str, Tensor], arm: Tensor) -> dict[str, Tensor]:
    """Parts of poses (...,N), by their keys in files, with the rotation and translation that would bring a head with a straight
    neck to the same place. A head without a neck keeps what it has.

    Args:
        arm: (3,) from the root joint to the neck's, metres.
    """
    if "neck_pose" not in parts:
        return dict(parts)
    turned = roma.rotvec_composition((parts["rotation"], parts["neck_pose"]))
    return {**parts, "rotation": turned, "translation": parts["translation"] - _swing(turned, parts["rotation"], arm)}


def root_first(parts: Mapping[str, Tensor], arm: Tensor) -> dict[str, Tensor]:
    """The reverse of `head_first`: parts as files have them."""
    if "neck_pose" not in parts:
        return dict(parts)
    root = roma.rotvec_composition((parts["rotation"], -parts["neck_pose"]))
    return {**parts, "rotation": root, "translation": parts["translation"] + _swing(parts["rotation"], root, arm)}


def _swing(head: Tensor, root: Tensor, arm: Tensor) -> Tensor:
    """(...,3) how far the neck's joint is from where the root's rotation brings it, were it turned as the head is."""
    return (roma.rotvec_to_rotmat(head) - roma.rotvec_to_rotmat(root)) @ arm
