"""How a tracked head's turn is shared between shoulders and neck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import roma
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.tracking.clip_equations import Clip
from taichi_avatars.tracking.necks import arm_of, root_first

NECK_SHARE = 0.7  # of a turn away from where the head mostly faces; the shoulders follow by the rest


def bend(head: FlameModel, sequence: FlameSequence, clips: Sequence[Clip]) -> FlameSequence:
    """A sequence tracked with a straight neck, as somebody moves whose shoulders follow the head but a little.

    The head stays where it is. How much the shoulders follow is a first guess, which refinement by the pictures corrects.

    Args:
        clips: the videos whose frames the rows are, one after the other.
    """
    arm = arm_of(head, sequence.shaped(head))
    neck = []
    for clip, rotation in zip(clips, sequence.rotation.split([len(clip) for clip in clips]), strict=True):
        turn = torch.zeros_like(rotation)
        for scene in clip.scene.unique():
            rows = clip.scene == scene
            turn[rows] = _turned(rotation[rows], clip.usable[rows])
        neck.append(NECK_SHARE * turn)
    parts = {"rotation": sequence.rotation, "neck_pose": torch.cat(neck), "translation": sequence.translation}
    return replace(sequence, **root_first(parts, arm))


def _turned(rotation: Tensor, usable: Tensor) -> Tensor:
    """Axis-angles (N,3) from where a head mostly faces to its rotations (N,3), of which some (N,) are known."""
    if not bool(usable.any()):
        return torch.zeros_like(rotation)
    matrix = roma.rotvec_to_rotmat(rotation)
    middle = roma.special_procrustes(matrix[usable].mean(0))
    assert isinstance(middle, Tensor)
    usual = roma.rotmat_to_rotvec(middle.mT @ matrix[usable]).median(0).values
    return roma.rotmat_to_rotvec((middle @ roma.rotvec_to_rotmat(usual)).mT @ matrix)
