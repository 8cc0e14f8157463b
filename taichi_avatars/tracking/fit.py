"""Pose, gaze and expression of every frame, one identity, and a focal length for each video, from landmarks.

Levenberg and Marquardt's method over all frames at once. Frames are tied to their neighbours only, so that the equations are
block-tridiagonal, and what they share is found through a Schur complement: the work grows with the number of frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.banded import Eliminated
from taichi_avatars.tracking.clip_equations import Clip, ClipEquations, PlacedFrames
from taichi_avatars.tracking.points import POSE, Landmarks
from taichi_avatars.tracking.start import first_guess

MOST_STEPS = 14
ENOUGH = 3e-4  # share of the cost by which a step must lower it to be followed by another
FIRST_DAMPING, LEAST_DAMPING, EASE, RESIST = 1e-3, 1e-6, 0.2, 8.0
TRIES = 6
TOGETHER = 80  # frames of all videos from which identity and focal lengths are found; more change them by less than 0.2%
WINDOW, OVERLAP = 240, 24  # frames that are then fitted at once, and how many of them again with the next


@dataclass(frozen=True, eq=False)
class ClipFit:
    """What was found for a video of T frames.

    Attributes:
        frames: (T,P) parameters, as `Landmarks` has them, in a world whose origin is the camera, y up, which looks along -z.
        focal: pixels.
        residual: (T,) root mean square distance between landmarks in sight and their places, pixels; NaN without landmarks.
    """

    frames: Tensor
    focal: float
    residual: Tensor


@dataclass(frozen=True, eq=False)
class Fit:
    """Attributes:
    shape: (S,) identity.
    offset: (V,3) metres, what the mesh lacks of hair and skull; None where landmarks alone were fitted.
    clips: of each video.
    steps: that were taken over all frames.
    """

    shape: Tensor
    clips: list[ClipFit]
    steps: int
    offset: Tensor | None = None


@dataclass(frozen=True, eq=False)
class State:
    """What is looked for: (T,P) frames and log_focals of each video, and the person's shape (S,)."""

    frames: list[Tensor]
    shape: Tensor
    log_focals: list[float]


def fit(head: FlameModel, clips: Sequence[Clip], progress: Callable[[int, int], None] | None = None) -> Fit:
    """Fits the built-in head to the landmarks of videos of one person.

    Identity and focal lengths come from at most 80 frames, evenly chosen; then every frame is fitted, in windows, so that
    memory stays bounded.

    Args:
        progress: called with frames done and all.
    """
    places = Landmarks.of(head)
    total = sum(len(clip) for clip in clips)
    share = min(1.0, TOGETHER / max(total, 1))
    chosen = [_spread(clip, max(2, round(share * len(clip)))) for clip in clips]
    parts = [clip.part(rows) for clip, rows in zip(clips, chosen, strict=True)]
    state, steps = solve([ClipEquations(head, places, part) for part in parts], _start(places, parts, head), shared=True)
    done, fits = 0, []
    for clip, rows, part, known, log_focal in zip(clips, chosen, parts, state.frames, state.log_focals, strict=True):
        frames = known
        if len(part) < len(clip):

            def equations_of(rows: Tensor, _: Tensor, clip: Clip = clip) -> ClipEquations:
                return ClipEquations(head, places, clip.part(rows))

            report = (lambda n, first=done: progress(first + n, total)) if progress is not None else None
            frames = in_windows(equations_of, _between(clip, rows, known), state.shape, log_focal, report)
        done += len(clip)
        if progress is not None:
            progress(done, total)
        focal = math.exp(log_focal)
        fits.append(ClipFit(frames, focal, residual(ClipEquations(head, places, clip), frames, state.shape, focal)))
    return Fit(state.shape, fits, steps)


def _spread(clip: Clip, count: int) -> Tensor:
    """Rows of `count` frames with landmarks, evenly spread; all of them where there are no more."""
    if count >= len(clip):
        return torch.arange(len(clip))
    usable = clip.usable.nonzero()[:, 0]
    usable = usable if len(usable) else torch.arange(len(clip))
    return usable[torch.linspace(0, len(usable) - 1, count).round().long()].unique()


def _start(places: Landmarks, clips: Sequence[Clip], head: FlameModel) -> State:
    frames = []
    for clip in clips:
        seen = torch.where(clip.usable[:, None, None], clip.landmarks[:, places.number], torch.nan)
        guess = first_guess(places, seen, clip.center, clip.focal, POSE + head.n_expr)
        guess[:, POSE:] = clip.expressions
        frames.append(guess)
    return State(frames, torch.zeros(head.n_shape), [math.log(clip.focal) for clip in clips])


def _between(clip: Clip, rows: Tensor, known: Tensor) -> Tensor:
    """All frames from some of them, linearly in time; across a cut, as the nearest."""
    right = torch.searchsorted(rows, torch.arange(len(clip))).clamp(1, max(len(rows) - 1, 1)).clamp(max=len(rows) - 1)
    left = (right - 1).clamp(min=0)
    at, a, b = clip.seconds, clip.seconds[rows[left]], clip.seconds[rows[right]]
    share = ((at - a) / (b - a).clamp(min=1e-9)).clamp(0, 1)
    cut = clip.scene[rows[left]] != clip.scene[rows[right]]
    share = torch.where(cut, (clip.scene == clip.scene[rows[right]]).to(share.dtype), share)[:, None].float()
    return (1 - share) * known[left] + share * known[right]


def in_windows(
    equations_of: Callable[[Tensor, Tensor], ClipEquations],
    start: Tensor,
    shape: Tensor,
    log_focal: float,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Every frame with identity and focal length held; windows overlap, and of what two share the later has the second half.

    Args:
        equations_of: makes those of some rows, which are at (N,P).
        start: (T,P) of all frames.
        progress: called with frames done.
    """
    out = start.clone()
    for first in range(0, len(start), WINDOW - OVERLAP):
        rows = torch.arange(first, min(first + WINDOW, len(start)))
        state, _ = solve([equations_of(rows, out[rows])], State([out[rows]], shape, [log_focal]), shared=False)
        skip = OVERLAP // 2 if first else 0
        out[rows[skip:]] = state.frames[0][skip:]
        if progress is not None:
            progress(int(rows[-1]) + 1)
        if rows[-1] == len(start) - 1:
            break
    return out


def solve(equations: Sequence[ClipEquations], state: State, shared: bool, most: int = MOST_STEPS) -> tuple[State, int]:
    """Levenberg and Marquardt's method, with at most so many steps; says how many were taken.

    Args:
        shared: whether identity and focal lengths are looked for too.
    """
    damping, steps = FIRST_DAMPING, 0
    placed = _placed(equations, state)
    while steps < most:
        steps += 1
        visible = [e.visibility(at) for e, at in zip(equations, placed, strict=True)]
        linear = [
            e.linearise(at, f, state.shape, log_focal, v, shared)
            for e, at, f, log_focal, v in zip(equations, placed, state.frames, state.log_focals, visible, strict=True)
        ]
        before = _cost(equations, placed, state, visible)
        after = before
        for _ in range(TRIES):
            moved = _moved(state, linear, damping, shared)
            there = _placed(equations, moved)
            after = _cost(equations, there, moved, visible)
            if after < before:
                state, placed, damping = moved, there, max(damping * EASE, LEAST_DAMPING)
                break
            damping *= RESIST
        if before - after < ENOUGH * before:
            break
    return state, steps


def _placed(equations: Sequence[ClipEquations], state: State) -> list[list[PlacedFrames]]:
    return [e.place(frames, state.shape) for e, frames in zip(equations, state.frames, strict=True)]


def _cost(
    equations: Sequence[ClipEquations], placed: Sequence[list[PlacedFrames]], state: State, visible: Sequence[Tensor]
) -> float:
    rows = zip(equations, placed, state.frames, state.log_focals, visible, strict=True)
    return sum(e.cost(at, frames, state.shape, log_focal, v) for e, at, frames, log_focal, v in rows)


def _moved(state: State, linear: Sequence[tuple], damping: float, shared: bool) -> State:
    """The state after a step."""
    eliminated: list[Eliminated] = [frames.eliminate(damping) for frames, _, _ in linear]
    if not shared:
        steps = [e.step(np.zeros(0)) for e in eliminated]
        return replace(state, frames=[f + torch.from_numpy(s).float() for f, s in zip(state.frames, steps, strict=True)])
    size = len(state.shape)
    matrix, gradient = np.zeros((size + len(linear),) * 2), np.zeros(size + len(linear))
    columns = [np.append(np.arange(size), size + k) for k in range(len(linear))]
    for column, (_, own, slope), e in zip(columns, linear, eliminated, strict=True):
        raised = own + damping * np.diag(np.diag(own))
        matrix[np.ix_(column, column)] += raised - e.matrix
        gradient[column] += slope - e.gradient
    known = np.diag(matrix) <= 0  # a focal length that is known has no equation
    matrix[known, known] = 1.0
    step = -np.linalg.solve(matrix, gradient)
    frames = [
        f + torch.from_numpy(e.step(step[column])).float()
        for f, e, column in zip(state.frames, eliminated, columns, strict=True)
    ]
    focals = [log_focal + float(change) for log_focal, change in zip(state.log_focals, step[size:], strict=True)]
    return State(frames, state.shape + torch.from_numpy(step[:size]).float(), focals)


def residual(equations: ClipEquations, frames: Tensor, shape: Tensor, focal: float) -> Tensor:
    """(T,) root mean square distance of the landmarks in sight, pixels; NaN where there are none."""
    out = torch.full((len(frames),), torch.nan)
    for part in equations.chunks():
        placed = equations.points.place(frames[part], shape)
        weight = equations.visible(placed, part)
        squared = (equations.project(placed.world, focal) - equations.target[part]).square().sum(2)
        out[part] = ((weight * squared).sum(1) / weight.sum(1)).sqrt()
    return torch.where(equations.usable, out, torch.nan)
