"""Follows every face of a film, picture by picture, and says afterwards which of them are whose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from taichi_avatars.faces.detector import Detection, find_faces
from taichi_avatars.faces.landmarks import CHIN, FOREHEAD, LEFT_EYE_CORNER, RIGHT_EYE_CORNER, FaceLandmarks, find_landmarks
from taichi_avatars.faces.look import Look, look_of
from taichi_avatars.faces.regions import Picture, Region

PRESENT = 0.5  # presence below which a face is lost
MOST_FACES = 3  # followed at once
SMALLEST_SHARE = 0.15  # faces smaller than this share of the largest are not followed
LOOK_EVERY = 10  # pictures between two looks for further faces
STILL_AFTER = 30  # pictures after which a face that did not change its shape is looked at now and then only
PATIENCE = 10  # pictures for which a lost face is looked for before its track ends
CUT = 0.12  # mean change of a thumbnail's brightness, of 1, above which a new scene begins
THUMBNAIL = 24  # pixels
ALIVE = 0.012  # change of shape, of the distance between the eyes; 0.004 for a poster, 0.03 for a calm speaker
AGAIN = 0.08  # a face whose centre moved by more than this share of its region is looked at again, in the middle of another
FAR = 0.25  # a face whose centre moves by more than this share of its size in one picture is another face


@dataclass(eq=False)
class FaceTrack:
    """One face as long as it was seen without a break.

    Attributes:
        frames: numbers of the N pictures that it was seen in, increasing.
        points: N times (478,3) float32, pixels, as in `FaceLandmarks`.
        presence: N times 0 to 1.
        look: N times how the face is exposed and how sharp it is.
    """

    frames: list[int] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    presence: list[float] = field(default_factory=list)
    look: list[Look] = field(default_factory=list)

    def size(self) -> float:
        """Median height from forehead to chin, pixels."""
        return float(np.median([np.linalg.norm(p[FOREHEAD, :2] - p[CHIN, :2]) for p in self.points]))

    def motion(self) -> float:
        """How much the shape of the landmarks changes (turning, speaking), of the distance between the eyes.

        A face on a poster moves with the camera, but keeps its shape.
        """
        chosen = np.linspace(0, len(self.points) - 1, min(len(self.points), 60)).astype(int)
        shapes = np.stack([self.points[k][:468, :2] for k in chosen]).astype(np.float64)
        shapes -= shapes.mean(1, keepdims=True)
        flat = shapes[..., 0] + 1j * shapes[..., 1]
        mean = flat[len(flat) // 2]
        for _ in range(3):  # each turned and scaled onto the mean, which is then taken again
            fit = (flat.conj() @ mean) / (abs(flat) ** 2).sum(1)
            mean = (flat * fit[:, None]).mean(0)
        fit = (flat.conj() @ mean) / (abs(flat) ** 2).sum(1)
        eyes = abs(mean[LEFT_EYE_CORNER] - mean[RIGHT_EYE_CORNER])
        return float(np.sqrt((abs(flat * fit[:, None] - mean) ** 2).mean()) / max(eyes, 1e-9))


@dataclass(eq=False)
class _Followed:
    track: FaceTrack
    region: Region
    size: float
    lost: int = 0  # pictures since it was seen
    still: bool = False  # a poster's: it is enough to look at it now and then


class FaceFollower:
    """Takes the pictures of a film in turn.

    A face that is lost is looked for again in the same picture; at a cut all tracks end, and faces are searched for again.

    Attributes:
        tracks: of all faces so far.
        cuts: numbers of the pictures with which a new scene begins.
        count: pictures so far.
    """

    def __init__(self, tracks: list[FaceTrack] | None = None, cuts: list[int] | None = None, count: int = 0) -> None:
        """Begins, or continues where another was interrupted: with new tracks."""
        self.tracks, self.cuts, self.count = tracks or [], cuts or [], count
        self._followed: list[_Followed] = []
        self._thumbnail: np.ndarray | None = None

    def step(self, picture: Picture) -> None:
        """The next picture, (H,W,3) uint8 RGB; of any size."""
        if self._is_cut(picture):
            self.cuts.append(self.count)
            self._followed = []
        for followed in list(self._followed):
            if not followed.still or self.count % LOOK_EVERY == 0:
                self._follow(picture, followed)
        if not any(f.lost == 0 for f in self._followed):
            self._search(picture, coarsest=3, finest=3) if self.count % LOOK_EVERY == 0 else self._search(
                picture, coarsest=0, finest=1
            )
        elif self.count % LOOK_EVERY == 0:
            self._search(picture, coarsest=1, finest=1)
        self.count += 1

    def _is_cut(self, picture: Picture) -> bool:
        rows, columns = (np.linspace(0, size - 1, THUMBNAIL).astype(int) for size in picture.shape[:2])
        small = picture[rows[:, None], columns].mean(2) / 255
        before, self._thumbnail = self._thumbnail, small
        if before is None:
            return False
        # The camera's exposure may change at once; that is no other scene.
        return float(np.abs((small - small.mean()) - (before - before.mean())).mean()) > CUT

    def _follow(self, picture: Picture, followed: _Followed) -> None:
        found = find_landmarks(picture, followed.region) if followed.lost == 0 else None
        if found is not None and found.presence >= PRESENT and found.moved() > AGAIN:
            found = find_landmarks(picture, found.surrounding())
        if found is None or not _continues(found, followed):
            found = self._find_again(picture, followed)
        if found is None or self._taken(found.surrounding(), followed):
            followed.lost += 1
            if followed.lost > PATIENCE:
                self._followed.remove(followed)
            return
        self._note(picture, followed, found)

    def _note(self, picture: Picture, followed: _Followed, found: FaceLandmarks) -> None:
        followed.track.frames.append(self.count)
        followed.track.points.append(found.points)
        followed.track.presence.append(found.presence)
        followed.track.look.append(look_of(picture, found.region))
        followed.region, followed.lost = found.next_region(), 0
        followed.size = followed.region.size
        if len(followed.track.frames) % STILL_AFTER == 0:
            followed.still = len(self._followed) > 1 and followed.track.motion() < ALIVE

    def _find_again(self, picture: Picture, followed: _Followed) -> FaceLandmarks | None:
        """The nearest face of about this size in the same picture."""

        def distance(detection: Detection) -> float:
            region = detection.region()
            return float(np.hypot(region.x - followed.region.x, region.y - followed.region.y)) / followed.size

        near = [d for d in find_faces(picture, finest=1) if 0.5 < d.region().size / followed.size < 2 and distance(d) < 1]
        return _confirmed(picture, min(near, key=distance)) if near else None

    def _taken(self, middle: Region, by: _Followed | None) -> bool:
        """Whether another track follows the face in this region already."""
        return any(
            np.hypot(middle.x - f.region.x, middle.y - f.region.y) < 0.3 * f.size
            for f in self._followed
            if f is not by and f.lost == 0
        )

    def _search(self, picture: Picture, coarsest: int, finest: int) -> None:
        """Begins tracks of faces that are not followed yet, the larger first."""
        largest = max((f.size for f in self._followed if f.lost == 0), default=0.0)
        for detection in sorted(find_faces(picture, coarsest=coarsest, finest=finest), key=lambda d: -d.size):
            if sum(f.lost == 0 for f in self._followed) >= MOST_FACES or detection.region().size < SMALLEST_SHARE * largest:
                break
            if self._taken(detection.region(), None):
                continue
            found = _confirmed(picture, detection)
            if found is None or self._taken(found.surrounding(), None):
                continue
            track = FaceTrack()
            self.tracks.append(track)
            self._followed.append(_Followed(track, found.region, found.region.size))
            self._note(picture, self._followed[-1], found)
            largest = max(largest, found.region.size)


def _continues(found: FaceLandmarks, followed: _Followed) -> bool:
    region = found.surrounding()
    step = np.hypot(region.x - followed.region.x, region.y - followed.region.y)
    return found.presence >= PRESENT and step < FAR * followed.size and 0.6 < region.size / followed.size < 1.6


def _confirmed(picture: Picture, detection: Detection) -> FaceLandmarks | None:
    """Landmarks in the region of a detection, and again in the region round those; None where there is no face."""
    first = find_landmarks(picture, detection.region())
    second = find_landmarks(picture, first.surrounding())
    return second if second.presence >= PRESENT else None


@dataclass(frozen=True, eq=False)
class Person:
    """All tracks of one face of a film, none of which overlap in time.

    Attributes:
        alive: whether it turns or speaks; posters do not.
        size: median height from forehead to chin, pixels.
        frames: number of pictures with the face.
    """

    tracks: tuple[FaceTrack, ...]
    alive: bool
    size: float
    frames: int

    def over(self, count: int) -> FaceOverTime:
        """What was seen in all pictures of the film."""
        points, values = np.full((count, 478, 3), np.nan, np.float32), np.full((count, 3), np.nan, np.float32)
        presence = np.zeros(count, np.float32)
        for track in self.tracks:
            points[track.frames] = np.stack(track.points)
            presence[track.frames] = track.presence
            values[track.frames] = [(look.sharpness, look.brightness, look.clipped) for look in track.look]
        return FaceOverTime(points, presence, *values.T)


@dataclass(frozen=True, eq=False)
class FaceOverTime:
    """One person's face in T pictures.

    Attributes:
        points: (T,478,3) landmarks, NaN where the face is not; presence: (T,), 0 there.
        sharpness, brightness, clipped: (T,) as `Look` has them, NaN where the face is not.
    """

    points: np.ndarray
    presence: np.ndarray
    sharpness: np.ndarray
    brightness: np.ndarray
    clipped: np.ndarray


def people(tracks: list[FaceTrack]) -> list[Person]:
    """Tracks put together by person, first the one to be followed: alive, large, and seen for long.

    Who is who is told by size and by what is seen at the same time; a face that looks different is not told apart.
    """
    described = [(track, track.motion() > ALIVE, track.size()) for track in tracks]
    described.sort(key=lambda d: -_weight(*d))
    groups: list[list[tuple[FaceTrack, bool, float]]] = []
    for one in described:
        for group in groups:
            together = any(set(one[0].frames) & set(other[0].frames) for other in group)
            if not together and one[1] == group[0][1] and 0.5 < one[2] / group[0][2] < 2:
                group.append(one)
                break
        else:
            groups.append([one])
    persons = [
        Person(
            tuple(track for track, _, _ in group),
            group[0][1],
            float(np.average([size for _, _, size in group], weights=[len(t.frames) for t, _, _ in group])),
            sum(len(track.frames) for track, _, _ in group),
        )
        for group in groups
    ]
    return sorted(persons, key=lambda p: -(p.frames * p.size * (1 if p.alive else 0.1)))


def _weight(track: FaceTrack, alive: bool, size: float) -> float:
    return len(track.frames) * size * (1 if alive else 0.1)
