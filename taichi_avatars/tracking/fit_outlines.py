"""The fit once more, with the outline of the head: how large the skull is, how far the hair stands off, how the head is turned.

Landmarks end at the face: they leave open what is behind it, and pitch, focal length and expressions trade against one another.
The silhouette of a head that turns says both (as the photometric trackers use it, with an offset of the mesh for the hair).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.clip_equations import Clip, ClipEquations
from taichi_avatars.tracking.contours import ContourFinder, Contours
from taichi_avatars.tracking.fit import ClipFit, Fit, State, in_windows, residual, solve
from taichi_avatars.tracking.offsets import scalp_offsets
from taichi_avatars.tracking.points import JAW, TRANSLATION, HeadPoints, Landmarks
from taichi_avatars.tracking.silhouettes import Silhouette

TOGETHER = 80  # frames of all videos from which identity, offset and focal lengths are found
SIGMAS = (0.03, 0.015, 0.008, 0.006)  # metres, of the outline in each round: hair is far from the mesh at first
STEPS = 3  # of each round; then the outline is looked for again


def fit_outlines(
    head: FlameModel,
    clips: Sequence[Clip],
    found: Fit,
    silhouettes: Sequence[Mapping[int, Silhouette]],
    teaching: Sequence[Tensor],
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Fits landmarks and outlines together, from where landmarks alone led.

    Args:
        found: by landmarks alone.
        silhouettes: of each video, by frame.
        teaching: of each video, the frames that identity, offset and focal length may be learnt from.
        progress: called with frames done and all.
    """
    offsets = scalp_offsets(head)
    places, finder = Landmarks.of(head, offsets), ContourFinder(head, HeadPoints.of_vertices(head, offsets))

    def contours(number: int, rows: Tensor, frames: Tensor, shape: Tensor, focal: float, sigma: float) -> Contours:
        clip = clips[number]
        seen = [silhouettes[number].get(row) for row in rows.tolist()]
        return finder.find(seen, frames, shape, focal, (clip.width, clip.height), sigma)

    total = sum(len(rows) for rows in teaching)
    share = TOGETHER / max(total, 1)
    chosen = [_evenly(rows if len(rows) else torch.zeros(1, dtype=torch.long), share) for rows in teaching]
    parts = [clip.part(rows) for clip, rows in zip(clips, chosen, strict=True)]
    before = [own.frames[rows] for own, rows in zip(found.clips, chosen, strict=True)]
    state = State(before, torch.cat([found.shape, torch.zeros(offsets.shape[2])]), [math.log(own.focal) for own in found.clips])
    for sigma in SIGMAS:
        equations = []
        for k, (part, rows) in enumerate(zip(parts, chosen, strict=True)):
            seen = contours(k, rows, state.frames[k], state.shape, math.exp(state.log_focals[k]), sigma)
            equations.append(ClipEquations(head, places, part, seen))
        state, _ = solve(equations, state, shared=True, most=STEPS)

    done, everything, fits = 0, sum(len(clip) for clip in clips), []
    for k, (clip, own) in enumerate(zip(clips, found.clips, strict=True)):
        focal = math.exp(state.log_focals[k])
        start = _as_far(own.frames, focal / own.focal, places.points)
        start[chosen[k]] = state.frames[k]

        def equations_of(rows: Tensor, frames: Tensor, k: int = k, focal: float = focal) -> ClipEquations:
            seen = contours(k, rows, frames, state.shape, focal, SIGMAS[-1])
            return ClipEquations(head, places, clips[k].part(rows), seen)

        report = (lambda n, first=done: progress(first + n, everything)) if progress is not None else None
        frames = in_windows(equations_of, start, state.shape, state.log_focals[k], report)
        done += len(clip)
        fits.append(ClipFit(frames, focal, residual(ClipEquations(head, places, clip), frames, state.shape, focal)))
    offset = offsets @ state.shape[head.n_shape :]
    return replace(found, shape=state.shape[: head.n_shape], offset=offset, clips=fits)


def _evenly(rows: Tensor, share: float) -> Tensor:
    """A share of some rows, at least one."""
    wanted = max(1, min(len(rows), round(share * len(rows))))
    return rows[torch.linspace(0, len(rows) - 1, wanted).round().long().unique()]


def _as_far(frames: Tensor, share: float, points: HeadPoints) -> Tensor:
    """Frames (T,P) whose heads are `share` times as far from the camera: as large in the picture, by another focal length."""
    out = frames.clone()
    depth = points.joints[JAW, 2] + frames[:, TRANSLATION.stop - 1]
    out[:, TRANSLATION.stop - 1] += (share - 1) * depth
    return out
