"""Sets up a source and the processing of its motion from the user's options."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.motion.face_map import face_map
from taichi_avatars.motion.live.performer import Performer
from taichi_avatars.motion.live.rig import FaceRig
from taichi_avatars.motion.live.source import Source
from taichi_avatars.motion.live.sources import HOST, open_source
from taichi_avatars.motion.retarget import seen_range


def prepare(
    avatar: Avatar,
    source: str,
    *,
    host: str = HOST,
    sender: str | None = None,
    smoothing: float = 1.0,
    relative: bool = False,
    seen: Iterable[int] | None = None,
    blendshapes: Path | None = None,
) -> tuple[Performer, Source]:
    """Opens a source for an avatar; it yields nothing before its `start`.

    Args:
        source, host, sender: see `sources.open_source`.
        smoothing: see `smoothing.OneEuro`.
        relative: whether a sender's first second is its neutral face.
        seen: timesteps whose range limits expressions and jaw; None for no limits.
        blendshapes: see `face_map.face_map`.

    Raises:
        UserError: if the avatar has no head, or there is no such source.
    """
    if avatar.head is None or avatar.sequence is None:
        raise UserError("a static scene has no head that a motion could drive; give a model trained on a head capture")
    limits = None if seen is None else seen_range(avatar.sequence, seen)
    rig = FaceRig(avatar, face_map(avatar.head, blendshapes), limits)
    return Performer(rig, smoothing=smoothing, relative=relative), open_source(source, rig.names, host=host, sender=sender)
