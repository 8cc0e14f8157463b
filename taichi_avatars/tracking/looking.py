"""The first time through a video: what the face networks see in every picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.faces.following import FaceFollower, FaceOverTime, FaceTrack, Person, people
from taichi_avatars.faces.look import Look
from taichi_avatars.faces.networks import one_thread
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.tracking.no_face import why_no_face
from taichi_avatars.tracking.source import Source, video_frames

STEADY = 3  # pictures that a face must be seen in to count as one where there are others
LONGEST = 1280  # pixels of the pictures that faces are looked for in
FILM = "film one person who looks at the camera, the face a quarter of the picture's height or more, in even light"


@dataclass(eq=False)
class Watched:
    """What was seen of a video so far.

    Attributes:
        source: the video.
        width, height: of the pictures that landmarks are in, pixels.
        seconds: times of the pictures.
        follower: of the faces.
        finished: whether the video was watched to its end.
    """

    source: Source
    width: int
    height: int
    seconds: list[float]
    follower: FaceFollower
    finished: bool = False

    @staticmethod
    def begin(source: Source) -> Watched:
        return Watched(source, *source.scaled(LONGEST), [], FaceFollower())

    @property
    def scene(self) -> np.ndarray:
        """(T,) number of the scene that each picture belongs to."""
        starts = np.zeros(len(self.seconds), int)
        starts[self.follower.cuts] = 1
        return starts.cumsum()

    def save(self, path: Path) -> None:
        """Keeps what was seen, so that the rest can be watched later."""
        tracks = self.follower.tracks
        arrays: dict[str, Any] = {
            "seconds": np.array(self.seconds),
            "cuts": np.array(self.follower.cuts, int),
            "finished": np.array(self.finished),
            "lengths": np.array([len(t.frames) for t in tracks], int),
            "frames": np.array([f for t in tracks for f in t.frames], int),
            "presence": np.array([p for t in tracks for p in t.presence]),
            "points": np.array([p for t in tracks for p in t.points], np.float32).reshape(-1, 478, 3),
            "look": np.array([list(asdict(look).values()) for t in tracks for look in t.look]).reshape(-1, 3),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: Path, source: Source) -> Watched:
        """What `save` kept of the same video."""
        watched = Watched.begin(source)
        with np.load(path, allow_pickle=False) as file:
            watched.seconds, watched.finished = file["seconds"].tolist(), bool(file["finished"])
            end = file["lengths"].cumsum()
            columns = zip(*(np.split(file[name], end[:-1]) for name in ("frames", "points", "presence", "look")), strict=True)
            tracks = [FaceTrack(f.tolist(), list(p), q.tolist(), [Look(*row) for row in k]) for f, p, q, k in columns]
            watched.follower = FaceFollower(tracks if len(end) else [], file["cuts"].tolist(), len(watched.seconds))
        return watched


def watch(watched: Watched, rate: float, progress: Callable[[int, int], None] | None = None) -> None:
    """Watches a video to its end, or what was not seen yet of it. Where it is interrupted, what was seen so far stays.

    Args:
        rate: pictures per second at most.
        progress: called with pictures seen and their likely number.
    """
    expected = max(1, round(watched.source.seconds * min(rate, watched.source.rate)))
    with one_thread():
        for frame in video_frames(watched.source, rate):
            if frame.number < len(watched.seconds):
                continue
            watched.follower.step(frame.picture((watched.width, watched.height)))
            watched.seconds.append(frame.seconds)
            if progress is not None:
                progress(len(watched.seconds), max(expected, len(watched.seconds)))
    watched.finished = True


def face_of(watched: Watched, which: int = 1) -> tuple[Person, FaceOverTime]:
    """The person to be tracked.

    Args:
        which: 1 for the one that moves, is large and seen longest; 2 for the next, and so on.

    Raises:
        UserError: where there is none.
    """
    found = people(watched.follower.tracks)
    path = watched.source.path
    if not found:
        raise UserError(f"{path}: {why_no_face(watched.source)}; {FILM}")
    found = [person for person in found if person.frames >= STEADY] or found[:1]
    if which > len(found):
        raise UserError(f"{path}: shows {len(found)} faces, there is no face {which}; choose another --face")
    person = found[which - 1]
    return person, person.over(len(watched.seconds))
