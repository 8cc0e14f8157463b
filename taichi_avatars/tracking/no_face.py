"""Why a face was not found in a video, or hardly, as far as a second look at some of its pictures tells."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np

from taichi_avatars.faces.detector import find_faces
from taichi_avatars.faces.regions import Picture
from taichi_avatars.tracking.source import Source, video_frames

LOOKED_AT = 5  # pictures
BEGINNING = 10.0  # seconds that show how a camera was held
LONGEST = 480  # pixels
BLACK = 0.05  # mean brightness
SURER = 0.08  # score by which a face must be surer when turned: between 0.15 and 0.3 where it is upside down


def why_no_face(source: Source) -> str:
    """What is in the pictures instead of a face that looks at the camera, and what to do: the rest of a sentence."""
    pictures = _some(source)
    if all(picture.mean() < 255 * BLACK for picture in pictures):
        return "its pictures are black: turn on a light, uncover the lens"
    if any(find_faces(picture) for picture in pictures):
        return "a head is there, but no face that could be tracked: only from the side, covered, or too blurred"
    return "no face was found in it"


def upside_down(source: Source) -> bool:
    """Whether faces are surer when the pictures are turned by a half: the networks see some in chins and necks, too."""
    gain = [_score(picture[::-1, ::-1].copy()) - _score(picture) for picture in _some(source, BEGINNING)]
    return float(np.mean(gain)) > SURER


def _some(source: Source, seconds: float = math.inf) -> list[Picture]:
    """A few pictures, evenly over the video or its beginning."""
    every = max(1, int(min(source.count, seconds * source.rate)) // LOOKED_AT)
    size = source.scaled(LONGEST)
    frames = (frame.picture(size) for frame in video_frames(source, source.rate) if frame.number % every == 0)
    return list(islice(frames, LOOKED_AT))


def _score(picture: Picture) -> float:
    return max((found.score for found in find_faces(picture, finest=1)), default=0.0)
