"""From an observed face to a pose of an avatar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import place
from taichi_avatars.errors import UserError
from taichi_avatars.head.pose import PARTS, HeadPose
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.arkit import LARGEST_TURN, NECK_SHARE
from taichi_avatars.motion.face_map import FaceMap, columns
from taichi_avatars.motion.live.face import Face, Quat, quat, rotvec, times
from taichi_avatars.motion.retarget import Range


@dataclass(frozen=True, eq=False)
class Stand:
    """The resting place of an avatar's head: the mean of its own motion.

    Attributes:
        rotation: of its root.
        translation: (3,) of its root, metres.
    """

    rotation: Quat
    translation: np.ndarray


def stand_of(avatar: Avatar) -> Stand:
    """Puts the neutral face at the centre of the space of the avatar's own motion, in its mean orientation."""
    where = place(avatar)
    turn = torch.from_numpy(_rotvec_of(where.rotation.double().numpy())).float()
    points = avatar.mesh(flame={"rotation": turn}).vertices @ where.rotation
    middle = where.rotation @ (0.5 * (points.amin(0) + points.amax(0)))
    return Stand(quat(*turn.tolist()), (where.center - middle).double().numpy())


class FaceRig:
    """Turns faces into rows (E expression components, rotation, neck, jaw, eyes, translation), and rows into poses.

    Rows are buffered and smoothed: they are linear in the sender's values, with the head's whole rotation in `rotation`. They
    have all these parts for every head; parts that it lacks are left out of its poses.

    Attributes:
        size: numbers in a row, E + 18.
        face_map: of its head.

    Args:
        limits: of expressions and jaw, None for none.
    """

    def __init__(self, avatar: Avatar, face_map: FaceMap, limits: Range | None = None) -> None:
        if avatar.head is None or avatar.sequence is None:
            raise UserError("this scene is not bound to a head: there is nothing that a motion could drive")
        self.face_map = face_map
        held = {} if limits is None else {"expr": limits.expr, "jaw": limits.jaw}
        self._limits = {part: [bound.numpy() for bound in pair] for part, pair in held.items() if pair is not None}
        self._parts = avatar.head.parts
        self._neck_share = NECK_SHARE if "neck" in {part.name for part in self._parts} else 0.0
        self._columns = columns(avatar.head.n_expr)
        self.size = self._columns["translation"].stop
        self._index = {name: row for row, name in enumerate(face_map.names)}
        self._looks = [row for name, row in self._index.items() if name.startswith("eyeLook")]
        self._stand = stand_of(avatar)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the known weights."""
        return self.face_map.names

    def row(self, face: Face) -> np.ndarray:
        """(E + 18,) float64. Weights of unknown names have no effect."""
        if face.flame is not None:
            out = np.zeros(self.size)
            for name, values in face.flame.items():
                part = self._columns[name]
                count = min(len(values), part.stop - part.start)
                out[part.start : part.start + count] = values[:count]
            return out
        weights = np.zeros(len(self._index), np.float32)
        for name, value in face.weights.items():
            row = self._index.get(name)
            if row is not None:
                weights[row] = value
        out = (weights @ self.face_map.matrix).astype(np.float64)
        out[self._columns["rotation"]] = face.head
        if face.eyes is not None and not weights[self._looks].any():
            out[self._columns["eyes"]] = face.eyes
        return out

    def finished(self, row: np.ndarray, neutral: np.ndarray | None, *, weights: bool) -> np.ndarray:
        """The row of a pose: relative to the sender's neutral face, within limits, the head's rotation shared with the neck.

        Args:
            neutral: a row, None for zero.
            weights: whether the row came from weights rather than FLAME parameters.
        """
        out, place = row.copy(), self._columns
        if neutral is not None:
            out -= neutral
            for part in ("rotation", "neck", "jaw"):
                out[place[part]] = _turned_back(row[place[part]], neutral[place[part]])
            for start in (place["eyes"].start, place["eyes"].start + 3):
                out[start : start + 3] = _turned_back(row[start : start + 3], neutral[start : start + 3])
        expr = place["expr"]
        if weights and self.face_map.bounded:
            out[expr] = out[expr].clip(0.0, 1.0)
        for part, limits in self._limits.items():
            out[place[part]] = out[place[part]].clip(*limits)
        if weights:
            turn = out[place["rotation"]]
            angle = math.sqrt(float(turn @ turn))
            turn = turn * (LARGEST_TURN * math.tanh(angle / LARGEST_TURN) / angle) if angle > 1e-8 else turn
            out[place["rotation"]] = (1.0 - self._neck_share) * turn
            out[place["neck"]] += self._neck_share * turn
        return out

    def placed(self, row: np.ndarray) -> np.ndarray:
        """The same row for the avatar at its own place."""
        out, place = row.copy(), self._columns
        out[place["rotation"]] = rotvec(times(self._stand.rotation, quat(*row[place["rotation"]].tolist())))
        out[place["translation"]] += self._stand.translation
        return out

    def pose(self, row: np.ndarray) -> HeadPose:
        """The pose of a row."""
        values = torch.from_numpy(row.astype(np.float32))
        names = ("expr", *(part.name for part in self._parts))
        return HeadPose(**{name: values[self._columns[name]] for name in names})

    def sequence(self, rows: np.ndarray, own: FlameSequence) -> FlameSequence:
        """Rows (T, E + 18) as a motion of the avatar with this sequence."""
        parts = {name: torch.from_numpy(np.ascontiguousarray(rows[:, at], np.float32)) for name, at in self._columns.items()}
        keys: dict[str, Any] = {part.key: parts[part.name] if part in self._parts else None for part in PARTS}
        return FlameSequence(list(range(len(rows))), own.shape.detach(), parts["expr"], **keys)


def _turned_back(turn: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """An axis-angle relative to a neutral one."""
    back = quat(*(-neutral).tolist())
    return np.array(rotvec(times(back, quat(*turn.tolist()))))


def _rotvec_of(rotation: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_rotvec()
