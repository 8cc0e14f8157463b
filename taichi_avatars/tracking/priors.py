"""What is likely before a picture is seen: ranges of jaw, gaze and expressions, and how fast things move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking.points import GAZE, JAW_POSE, POSE, ROTATION, TRANSLATION

# Standard deviations; radians, metres, expression units.
JAW_OPEN, JAW_ASIDE = 0.10, 0.03
GAZE_ANGLE, VERGENCE_SPREAD, VERGENCE = 0.3, 0.03, 0.02
EXPRESSION = 0.25  # round what the blendshape network says
UNSEEN = {"cheekPuff": 0.15, "jawForward": 0.15, "tongueOut": 0.05}  # what landmarks say little about
OUT_OF_RANGE = 0.05  # of expressions below 0 or above 1
IDENTITY_PER_FRAME = 1.0  # weight of a unit of identity squared, per frame: errors of landmarks stay the same over frames
# Random walk: standard deviation after a second.
WALK_ROTATION, WALK_TRANSLATION, WALK_JAW, WALK_JAW_ASIDE = 0.8, 0.15, 1.0, 0.3
WALK_GAZE, WALK_VERGENCE, WALK_EXPRESSION = 3.0, 0.02, 4.0
RESTING = 0.2  # the quantile over time that a unit rests at
SHORTEST_STEP = 1 / 240  # seconds


@dataclass(frozen=True, eq=False)
class FramePriors:
    """Of T frames with P parameters.

    Attributes:
        mean: (T,P); precision: (P,).
        ties: (T-1,P) precision of the change to the next frame; 0 across a cut.
    """

    mean: Tensor
    precision: Tensor
    ties: Tensor


def expressions_of_network(head: FlameModel, names: tuple[str, ...], strengths: np.ndarray) -> np.ndarray:
    """Strengths (T,52) of the network's blendshapes as coefficients (T,E) of the head, less what the face shows at rest.

    A person's resting face is the identity's matter: the network sees furrows and squints in the shape of many a neutral face.
    """
    known = head.expression_names or []
    out = np.zeros((len(strengths), head.n_expr), np.float32)
    for column, name in enumerate(names):
        if name in known:
            out[:, known.index(name)] = strengths[:, column]
    seen = np.isfinite(out).all(1)
    rest = np.quantile(out[seen], RESTING, axis=0) if seen.any() else np.zeros(head.n_expr, np.float32)
    return np.nan_to_num(((out - rest) / (1 - rest)).clip(0, 1)).astype(np.float32)


def frame_priors(head: FlameModel, expressions: Tensor, seconds: Tensor, scene: Tensor) -> FramePriors:
    """Priors of T frames.

    Args:
        expressions: (T,E) what the blendshape network says.
        seconds: (T,) times; scene: (T,) number of the scene of each, which nothing goes across.
    """
    count = len(expressions)
    size = POSE + head.n_expr
    deviation = torch.full((size,), EXPRESSION)
    deviation[ROTATION], deviation[TRANSLATION] = torch.inf, torch.inf
    deviation[JAW_POSE] = torch.tensor([JAW_OPEN, JAW_ASIDE, JAW_ASIDE])
    deviation[GAZE] = torch.tensor([GAZE_ANGLE, GAZE_ANGLE, VERGENCE_SPREAD])
    for name, value in UNSEEN.items():
        deviation[POSE + (head.expression_names or []).index(name)] = value
    mean = torch.zeros(count, size)
    mean[:, POSE:] = expressions
    mean[:, GAZE.stop - 1] = VERGENCE

    walk = torch.full((size,), WALK_EXPRESSION)
    walk[ROTATION], walk[TRANSLATION] = WALK_ROTATION, WALK_TRANSLATION
    walk[JAW_POSE] = torch.tensor([WALK_JAW, WALK_JAW_ASIDE, WALK_JAW_ASIDE])
    walk[GAZE] = torch.tensor([WALK_GAZE, WALK_GAZE, WALK_VERGENCE])
    step = seconds.diff().clamp(min=SHORTEST_STEP)
    ties = (scene.diff() == 0).float()[:, None] / (walk**2 * step[:, None])
    return FramePriors(mean, 1 / deviation**2, ties)
