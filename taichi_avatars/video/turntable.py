"""A turntable film of a resting head, over the sides covered by its video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import place
from taichi_avatars.files.png import as_uint8
from taichi_avatars.scene.images import Background
from taichi_avatars.video.label import labelled
from taichi_avatars.video.mp4 import write_mp4
from taichi_avatars.video.viewpoints import frontal_camera, swung

FPS = 25
SIZE = (480, 640)  # pixels


@dataclass(frozen=True)
class Turn:
    """left, right: angles of the camera to the person's own left and right, radians; one is negative where the camera stays on
    the other side of the face.  below: by how much it looks up at the face, radians.  frames: of the film.
    """

    left: float
    right: float
    below: float
    frames: int

    def yaw(self, frame: int) -> float:
        """Angle of the camera to the person's left: from the middle to one side, to the other, and back."""
        swing = math.sin(2.0 * math.pi * frame / self.frames)
        return 0.5 * (self.left - self.right + swing * (self.left + self.right))


@torch.no_grad()
def write_turntable(
    path: Path,
    avatar: Avatar,
    timesteps: Sequence[int],
    turn: Turn,
    background: Background,
    on_frame: Callable[[int], None],
    label: str | None = None,
) -> None:
    """Films the head in the most typical of these timesteps, by expression and rotation.

    Args:
        path: an .mp4.
        timesteps: that the avatar was trained on.
        on_frame: called with the number of frames done.
    """
    assert avatar.sequence is not None and avatar.head is not None
    still = resting(avatar, timesteps)
    assert still.sequence is not None
    where, timestep = place(still), still.sequence.timesteps[0]
    camera = frontal_camera(where, *SIZE)
    behind = (float(background[0]), float(background[1]), float(background[2]))

    def frames() -> Iterator[np.ndarray]:
        for number in range(turn.frames):
            image = still.render(swung(camera, where, turn.yaw(number), turn.below), timestep=timestep, background=behind).image
            yield labelled(as_uint8(image), label)
            on_frame(number + 1)

    write_mp4(path, frames(), FPS)


def resting(avatar: Avatar, timesteps: Sequence[int]) -> Avatar:
    """The avatar in a single timestep: the nearest to the median of all parameters except the translation."""
    sequence = avatar.sequence
    assert sequence is not None
    sequence = replace(sequence, dynamic_offset=None)
    seen = sequence.some([sequence.row(timestep) for timestep in timesteps])
    felt = torch.cat([values for key, values in seen.moving().items() if key != "translation"], 1)
    nearest = int((felt - felt.median(0).values).abs().sum(1).argmin())
    return Avatar(avatar.gaussians, avatar.head, seen.some([nearest]), avatar.origin)
