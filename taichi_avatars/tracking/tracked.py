"""A video after it was watched: who is tracked in it, what the networks saw of them, and whether that can be tracked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.faces.following import FaceOverTime, Person
from taichi_avatars.faces.landmarks import CHIN, FOREHEAD, LEFT_EYE_CORNER, RIGHT_EYE_CORNER, find_expressions
from taichi_avatars.faces.networks import load_networks
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.clip_equations import SURE, Clip
from taichi_avatars.tracking.coverage import Coverage, coverage, turn_angles
from taichi_avatars.tracking.looking import FILM, Watched, face_of
from taichi_avatars.tracking.no_face import upside_down
from taichi_avatars.tracking.one_person import stranger
from taichi_avatars.tracking.points import ROTATION, rotation_matrix
from taichi_avatars.tracking.priors import expressions_of_network

LIKELY_FOCAL, FOCAL_SPREAD = 0.85, 0.2  # of the longer side; standard deviation of its logarithm: phones and webcams
FEWEST = 12  # pictures with a face
SMALLEST_FACE = 40.0  # pixels from forehead to chin
FLEETING = 6  # pictures: a face that is seen for less at a time cannot be seen to move
MOST_IN_PROFILE = 50.0  # degrees
FRONTAL = 0.35  # distance of the eyes, of the height of the face
MOST_LEANING = 60.0  # degrees to one side
TOO_BLURRED = 0.02  # sharpness, see `faces.look`; real videos have 0.05 to 0.1


@dataclass(frozen=True, eq=False)
class Tracked:
    """A video and what was found in it.

    Attributes:
        strengths: (T,52) of the network's blendshapes, NaN where the face is not.
        focal_from: where its focal length is from.
        first: timestep of its first picture in the capture.
    """

    watched: Watched
    person: Person
    seen: FaceOverTime
    clip: Clip
    strengths: np.ndarray
    focal_from: str
    first: int


def examined(head: FlameModel, watched: Watched, which: int, focal_given: float | None, first: int) -> Tracked:
    """What is tracked of a video.

    Args:
        which: of several faces, from 1.
        focal_given: focal length in pixels of the video's own size; None: from the file, or estimated.
        first: timestep of its first picture.

    Raises:
        UserError: one line that says what to film or give instead.
    """
    person, seen = face_of(watched, which)
    source = watched.source
    if problem := _problem(watched, person, seen):
        raise UserError(f"{source.path}: {problem}")
    share = watched.width / source.width
    if focal_given is not None:
        focal, focal_spread, origin = focal_given * share, 0.0, "given"
    elif source.focal is not None:
        focal, focal_spread, origin = source.focal * share, 0.0, "the file"
    else:
        focal, focal_spread, origin = LIKELY_FOCAL * max(watched.width, watched.height), FOCAL_SPREAD, "estimated"
    strengths = find_expressions(np.nan_to_num(seen.points))
    strengths[seen.presence == 0] = np.nan
    clip = Clip(
        torch.from_numpy(seen.points),
        torch.from_numpy(seen.presence),
        torch.from_numpy(expressions_of_network(head, load_networks().blendshapes.names, strengths)),
        torch.tensor(watched.seconds),
        torch.from_numpy(watched.scene),
        watched.width,
        watched.height,
        focal,
        focal_spread,
    )
    return Tracked(watched, person, seen, clip, strengths, origin, first)


def _problem(watched: Watched, person: Person, seen: FaceOverTime) -> str | None:
    """Why a face cannot be tracked, and what to do; None where it can."""
    there = seen.presence >= SURE
    count, seconds = int(there.sum()), watched.seconds[-1] if watched.seconds else 0.0
    leaning = count > 0 and abs(_lean(seen.points[there])) > MOST_LEANING
    if leaning or upside_down(watched.source):
        return "the head is not upright in it; turn the video, or hold the camera so that it is"
    if count < FEWEST:
        return f"shows a face in {count} pictures only, {seconds:.1f} seconds in all; {FILM}, for half a minute"
    if person.size < SMALLEST_FACE:
        return f"the face is {person.size:.0f} pixels high, want {SMALLEST_FACE:.0f} at least; {FILM}"
    if not person.alive and person.frames < FLEETING * len(person.tracks):
        return f"the face is lost again and again: its pictures flicker, are full of noise, or cut to and fro; {FILM}"
    if not person.alive:
        return f"the face does not move, as on a photograph or in a drawing; {FILM}, who turns and speaks"
    if np.median(seen.sharpness[there]) < TOO_BLURRED:
        return "all of it is blurred; more light, slower movements, a clean lens, and let the camera focus on the face"
    if (other := stranger(seen, watched.scene, SURE)) is not None:
        return f"another person is shown from {watched.seconds[other]:.1f} seconds on; cut the video so that one is left"
    return None


def _lean(points: np.ndarray) -> float:
    """Median angle of the line through the eyes, degrees, of landmarks (T,478,3) but those in profile; 0 without."""
    across = points[:, LEFT_EYE_CORNER, :2] - points[:, RIGHT_EYE_CORNER, :2]
    apart = np.linalg.norm(across, axis=1)
    frontal = apart > FRONTAL * np.linalg.norm(points[:, FOREHEAD, :2] - points[:, CHIN, :2], axis=1)
    if not frontal.any():
        return 0.0
    middle = np.median(across[frontal] / apart[frontal, None], axis=0)
    return float(np.degrees(np.arctan2(middle[1], middle[0])))


def check_views(tracked: Tracked, frames: Tensor) -> None:
    """Raises UserError where a video shows its person from the side alone. frames: (T,P) parameters."""
    yaw, _ = turn_angles(rotation_matrix(frames[tracked.clip.usable][:, ROTATION])[0].numpy())
    if len(yaw) and np.median(abs(yaw)) > MOST_IN_PROFILE:
        raise UserError(f"{tracked.watched.source.path}: shows the face from the side only; {FILM}")


def coverage_of(tracked: Tracked, frames: Tensor) -> Coverage:
    """What a tracked video shows."""
    yaw, pitch = turn_angles(rotation_matrix(frames[:, ROTATION])[0].numpy())
    by_name = dict(zip(load_networks().blendshapes.names, tracked.strengths.T, strict=True))
    native = tracked.watched.source.width / tracked.watched.width
    seconds = tracked.watched.seconds[-1] if tracked.watched.seconds else 0.0
    return coverage(tracked.seen, seconds, tracked.person.size * native, yaw, pitch, by_name)
