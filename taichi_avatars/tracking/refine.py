"""Tracked parameters refined by pictures: every timestep is fitted to its own, through an avatar whose Gaussians are frozen.

An estimate, not a minimum of the loss: what is sought are the errors of a tracker, of known size and smooth in time, that
explain best what the pictures show. Energy of the corrections c of a timestep, in standard deviations of such errors:

    evidence * (number of pictures) * loss / (loss at first) + |c|^2 / 2 + sum over its neighbours in time |c - c'|^2 / 2

Where a neck errs apart from its head, its part of the last term counts `SLOW`^-2 times.

Quasi-Newton steps (BFGS; Nocedal and Wright 2006, 6.1 and procedure 18.2) that begin with a Gauss-Newton matrix. That belongs
to the avatar, its cameras and the size of the pictures far more than to a pose: all timesteps of a stage share one
(`evidence.Actor.probe`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.scores import decibel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.views import View
from taichi_avatars.tracking.evidence import HAIR_KEY, Actor, Evidence, Pictures, Shape, shrunk, widths_of
from taichi_avatars.tracking.offsets import HAIR, OUTER
from taichi_avatars.training.interrupts import held_back

PROBED, PROBES = 40, 2  # views at most, and probes per parameter, that the Gauss-Newton matrix is made of
SMALLEST_GAIN = 0.003  # of the energy, that a step must promise to be worth its pictures
SLOW = 0.2  # of its standard deviation, that the error of a neck apart changes by to the next timestep: shoulders are heavy
LEAST_CURVATURE = 0.2  # along a step, against what was expected there: less is noise of the images


@dataclass(frozen=True)
class Stage:
    """A pass over all timesteps. divide: of the pictures' size.  every: of the cameras, those looked at.  steps: at most."""

    divide: int
    every: int
    steps: int


STAGES = (Stage(divide=2, every=4, steps=2), Stage(divide=1, every=2, steps=2))
# One camera sees less and is tracked worse: more steps; a second pass knows what the neighbours found.
STAGES_OF_ONE_CAMERA = (Stage(divide=1, every=1, steps=5), Stage(divide=1, every=1, steps=3))


@dataclass(frozen=True)
class Errors:
    """How large a tracker's errors are, as standard deviations of each number.

    pose: of the angles of head, neck and jaw, radians; eyes: of theirs.  translation: metres.  expression: of each coefficient.
    neck: of how shoulders and neck share the rotation of a head that stays where it is; then pose is of head and jaw.
    hair: metres of how far it sways from where it mostly is: it hangs, and no parameter moves it.
    evidence: how many independent observations a picture counts for; the errors of its pixels are not.
    """

    pose: float = 0.003
    translation: float = 0.0003
    expression: float = 0.02
    evidence: float = 60.0
    eyes: float | None = None  # as pose
    neck: float | None = None  # root and neck err each by itself
    hair: float | None = None  # it stays

    @property
    def hair_sways(self) -> bool:
        return self.hair is not None

    def sigma(self, widths: Mapping[str, int]) -> Tensor:
        """(P,) in the order of `evidence.Shape`, whose parts have these widths."""
        hair = None if self.hair is None else self.hair / HAIR  # the fields are of that size
        apart = {"eyes_pose": self.eyes, "neck_pose": self.neck, HAIR_KEY: hair}
        known = {"translation": self.translation, "expr": self.expression, **{k: v for k, v in apart.items() if v is not None}}
        return torch.cat([torch.full((width,), known.get(key, self.pose)) for key, width in widths.items()])

    def ties(self, widths: Mapping[str, int]) -> Tensor:
        """(P,) by how much more two timesteps agree on an error than its size says, as precisions."""
        slow = {"neck_pose": 1.0 / SLOW**2} if self.neck is not None else {}
        return torch.cat([torch.full((width,), slow.get(key, 1.0)) for key, width in widths.items()])


# Errors of a tracker that sees landmarks in one camera: pitch against expression, distance against focal length. How the neck
# bends below the head it can but guess, and that hair sways it does not see.
LANDMARK_ERRORS = Errors(pose=0.02, translation=0.002, expression=0.06, eyes=0.06, neck=0.1, hair=0.005)


@dataclass(frozen=True)
class Fitted:
    """A timestep after a stage. before, after: PSNR of the pictures looked at, tracked and refined, dB; 0 but in the last."""

    timestep: int
    before: float
    after: float


@dataclass
class State:
    """How far a refinement is; what `refine` needs to continue.

    Attributes:
        corrections: (T,P) of the rows of the sequence, in numbers of `evidence.Shape`.
        fitted: (stages,T) whether a stage has been done.
        scores: (T,2) PSNR before and after, dB.
        matrices: (stages,P,P) Gauss-Newton matrix of a picture, 0 before it is known.
    """

    corrections: Tensor
    fitted: Tensor
    scores: Tensor
    matrices: Tensor

    @staticmethod
    def of(sequence: FlameSequence, errors: Errors) -> State:
        count, width = len(sequence), sum(widths_of(sequence, errors.hair_sways).values())
        done = torch.zeros(len(STAGES), count, dtype=torch.bool)
        matrices = torch.zeros(len(STAGES), width, width, dtype=torch.float32)
        return State(torch.zeros(count, width, dtype=torch.float32), done, torch.zeros(count, 2, dtype=torch.float32), matrices)


@dataclass(frozen=True)
class _Problem:
    """What stays the same over all timesteps of a stage."""

    actor: Actor
    sequence: FlameSequence
    table: Tensor
    sigma: Tensor
    ties: Tensor
    evidence: float
    stages: tuple[Stage, ...]


def refine(
    avatar: Avatar,
    sequence: FlameSequence,
    groups: Sequence[Sequence[View]],
    background: tuple[float, float, float],
    errors: Errors,
    state: State,
    *,
    seed: int = 0,
    on_timestep: Callable[[Fitted], None] | None = None,
) -> FlameSequence:
    """Fits the parameters of every timestep of some views to their pictures.

    Args:
        avatar: of the person in the pictures; it is left as it is.
        sequence: tracked parameters, of the avatar's head.
        groups: views that may learn from each other, through the smoothness in time: of training, or held out. A timestep
            that several groups show belongs to the first of them.
        background: behind the avatar and behind pictures with alpha.
        errors: of the tracker.
        state: changed as the work proceeds; that of an interrupted refinement continues from there.
        on_timestep: called after each timestep of each stage; may raise to end it, the state is whole then.

    Returns:
        The refined sequence; timesteps without pictures keep their parameters.

    Raises:
        UserError: where there is no picture, or one cannot be read.
    """
    if avatar.head is None:
        raise UserError("a static scene has no head whose parameters could be refined; give the model of a head capture")
    lacking = [part for part in OUTER if part not in avatar.head.regions]
    if errors.hair_sways and lacking:
        raise UserError(f"this head does not say which vertices are its {lacking[0]}: its hair cannot sway; leave out its size")
    assert avatar.sequence is not None
    shown = _by_row(sequence, groups)
    if not shown:
        raise UserError("there is no picture to refine by: the capture lists none")
    shape = Shape.of(avatar.head, sequence, neck_apart=errors.neck is not None, hair_sways=errors.hair_sways)
    actor, table = Actor(avatar, shape, background), shape.numbers(sequence)
    several = any(len(views) > 1 for rows in shown for views in rows.values())
    stages = STAGES if several else STAGES_OF_ONE_CAMERA
    sigma, ties = errors.sigma(shape.widths), errors.ties(shape.widths)
    problem = _Problem(actor, sequence, table, sigma, ties, errors.evidence, stages)
    for number, stage in enumerate(stages):
        if not bool(state.matrices[number].any()):
            known = number > 0 and stages[number - 1].divide == stage.divide
            generator = torch.Generator().manual_seed(seed)
            matrix = state.matrices[number - 1] if known else _matrix(actor, sequence, table, shown, stage, generator)
            state.matrices[number] = matrix
        for rows in shown:
            for row, views in rows.items():
                if not state.fitted[number, row]:
                    fitted = _fit(problem, state, number, row, views, list(rows))
                    if on_timestep is not None:
                        on_timestep(fitted)
    refined = shape.sequence(table + state.corrections, sequence)
    return refined.with_table(torch.where(state.fitted.any(0)[:, None], refined.table(), sequence.table()))


def _by_row(sequence: FlameSequence, groups: Sequence[Sequence[View]]) -> list[dict[int, list[View]]]:
    """Of each group, its views by row of the sequence, in time."""
    taken: set[int] = set()
    found = []
    for views in groups:
        rows: dict[int, list[View]] = {}
        for view in views:
            if view.timestep is not None and view.timestep not in taken:
                rows.setdefault(sequence.row(view.timestep), []).append(view)
        taken |= {sequence.timesteps[row] for row in rows}
        if rows:
            found.append(dict(sorted(rows.items())))
    return found


def _matrix(
    actor: Actor,
    sequence: FlameSequence,
    table: Tensor,
    shown: list[dict[int, list[View]]],
    stage: Stage,
    generator: torch.Generator,
) -> Tensor:
    """(P,P) mean over pixels, and over views spread evenly over all, of dI dI^T."""
    views = [(row, view) for rows in shown for row, of_row in rows.items() for view in of_row[:: stage.every]]
    chosen = [views[place * len(views) // PROBED] for place in range(PROBED)] if len(views) > PROBED else views
    each = -(-PROBES * table.shape[1] // len(chosen))
    probes = []
    for row, view in chosen:
        offset = _offset(sequence, row)
        probes.append(actor.probe(table[row], offset, shrunk([view], stage.divide)[0], each, generator))
    found = torch.cat(probes)
    return found.T @ found / len(found)


def _fit(problem: _Problem, state: State, number: int, row: int, views: list[View], rows: list[int]) -> Fitted:
    """One timestep of one stage."""
    stage, last = problem.stages[number], number + 1 == len(problem.stages)
    actor, tracked, offset = problem.actor, problem.table[row], _offset(problem.sequence, row)
    pictures = Pictures.load(views[:: stage.every], actor.background, stage.divide)
    centre, weight = _neighbours(problem, state, number, row, rows)
    begin = state.corrections[row].clone()
    if number == 0 and weight:  # a neighbour has been fitted: what it found is a better start than none
        begin = centre / weight
    found, evidence = _minimum(problem, state.matrices[number], begin, tracked, offset, pictures, centre, weight, stage.steps)
    scores = state.scores[row]
    if last:
        before = actor.evidence(tracked, offset, pictures, gradient=False)
        scores = torch.tensor([decibel(before.error), decibel(evidence.error)])
    with held_back():  # what is saved after Ctrl-C is a timestep as a whole
        state.corrections[row], state.scores[row], state.fitted[number, row] = found, scores, True
    return Fitted(problem.sequence.timesteps[row], *state.scores[row].tolist())


def _neighbours(problem: _Problem, state: State, number: int, row: int, rows: list[int]) -> tuple[Tensor, float]:
    """Weighted sum (P,) of the corrections beside a row that are known, and the sum of the weights, 1 for the next timestep."""
    place, times = rows.index(row), problem.sequence.timesteps
    centre, weight = torch.zeros_like(problem.sigma), 0.0
    for other in (rows[place - 1] if place else None, rows[place + 1] if place + 1 < len(rows) else None):
        if other is None or not state.fitted[max(number - 1, 0), other]:
            continue
        near = 1.0 / abs(times[other] - times[row])
        centre, weight = centre + near * state.corrections[other], weight + near
    return centre, weight


def _minimum(
    problem: _Problem,
    matrix: Tensor,
    correction: Tensor,
    tracked: Tensor,
    offset: Tensor | None,
    pictures: Pictures,
    centre: Tensor,
    weight: float,
    steps: int,
) -> tuple[Tensor, Evidence]:
    """The best correction (P,) that some steps find, and the evidence for it."""
    actor, variance = problem.actor, problem.sigma.square()
    centre, holding = problem.ties * centre, 1.0 + weight * problem.ties
    now = actor.evidence(tracked + correction, offset, pictures)
    share = problem.evidence * len(pictures.views) / max(now.loss, 1e-8)

    def energy(at: Tensor, loss: float) -> float:
        # |c|^2 + sum w |c - c'|^2, less what does not depend on c
        return share * loss + 0.5 * float(((holding * at - 2.0 * centre) * at / variance).sum())

    def slope(at: Tensor, seen: Evidence) -> Tensor:
        assert seen.gradient is not None
        return share * seen.gradient + (holding * at - centre) / variance

    # Where nothing but background is, nothing differs: what differs elsewhere is more than the mean says.
    curvature = share * matrix * pictures.coverage / max(now.l1, 1e-8) + torch.diag(holding / variance)
    best, here = energy(correction, now.loss), slope(correction, now)
    for step in range(steps):
        move = torch.linalg.solve(curvature, here)
        if 0.5 * float(here @ move) < SMALLEST_GAIN * share * now.loss:
            break
        trial = correction - move
        seen = actor.evidence(tracked + trial, offset, pictures, gradient=step + 1 < steps)
        gained = best - energy(trial, seen.loss)
        there = None if seen.gradient is None else slope(trial, seen)
        if there is not None:  # a step that led too far tells of it, too
            curvature = with_secant(curvature, move, here - there)
        if gained > 0.0:
            correction, now, best = trial, seen, best - gained
            here = here if there is None else there
    return correction, now


def with_secant(curvature: Tensor, move: Tensor, change: Tensor) -> Tensor:
    """BFGS: the curvature (P,P) that explains how the slope changed (P,) along a move (P,), damped as Powell does."""
    expected = curvature @ move
    along, seen = float(move @ expected), float(move @ change)
    if seen < LEAST_CURVATURE * along:
        kept = (1.0 - LEAST_CURVATURE) * along / (along - seen)
        change = kept * change + (1.0 - kept) * expected
    return curvature - torch.outer(expected, expected) / along + torch.outer(change, change) / float(move @ change)


def _offset(sequence: FlameSequence, row: int) -> Tensor | None:
    return None if sequence.dynamic_offset is None else sequence.dynamic_offset[row]
