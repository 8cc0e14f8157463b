"""A performance for a head with the 52 ARKit expression units: speech, expressions, blinks, gaze and head turns.

Every curve is a sum of smooth bumps, so a performance can be sampled at any rate. The same seed gives the same performance.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence

Weights = dict[str, float]


def both(**weights: float) -> Weights:
    """The same weight on the left and the right side."""
    return {name + side: weight for name, weight in weights.items() for side in ("Left", "Right")}


SYLLABLES: list[Weights] = [
    {"jawOpen": 0.5} | both(mouthLowerDown=0.15, mouthUpperUp=0.1),  # a
    {"jawOpen": 0.14} | both(mouthSmile=0.25, mouthStretch=0.3, mouthLowerDown=0.2),  # e
    {"jawOpen": 0.14, "mouthPucker": 0.65, "mouthFunnel": 0.2},  # u
    {"jawOpen": 0.32, "mouthFunnel": 0.5},  # o
    {"mouthRollLower": 0.25, "mouthRollUpper": 0.2} | both(mouthPress=0.3),  # m, b, p
    {"jawOpen": 0.06, "mouthRollLower": 0.4} | both(mouthUpperUp=0.2),  # f, v
    {"jawOpen": 0.08, "mouthShrugUpper": 0.1} | both(mouthStretch=0.25, mouthLowerDown=0.25),  # s, t
]

# What the two halves of a performance show besides speech: the held-out one has units and combinations that the other lacks.
EXPRESSIONS: dict[str, list[Weights]] = {
    "train": [
        both(mouthSmile=0.8, cheekSquint=0.5, eyeSquint=0.35),
        {"browInnerUp": 0.7} | both(browOuterUp=0.7, eyeWide=0.5),
        both(browDown=0.8, eyeSquint=0.4, noseSneer=0.3),
        {"jawOpen": 0.75},
        both(mouthFrown=0.7, mouthPress=0.2) | {"mouthShrugLower": 0.4},
        {"mouthLeft": 0.6, "mouthSmileLeft": 0.4},
        {"mouthPucker": 0.8},
        {"browInnerUp": 0.6} | both(mouthFrown=0.4),
    ],
    "test": [
        {"jawOpen": 0.45, "browInnerUp": 0.5} | both(mouthSmile=0.7, browOuterUp=0.5, cheekSquint=0.3),
        {"mouthRight": 0.5, "mouthSmileRight": 0.5, "eyeBlinkRight": 0.7, "cheekSquintRight": 0.5},
        both(browDown=0.5, mouthSmile=0.5, mouthDimple=0.3),
        {"mouthFunnel": 0.6, "jawOpen": 0.5} | both(eyeWide=0.6, browOuterUp=0.4),
        {"cheekPuff": 0.6, "browInnerUp": 0.4},
        {"browOuterUpLeft": 0.8, "jawLeft": 0.3, "mouthLeft": 0.3} | both(noseSneer=0.4),
    ],
}


def bump(time: np.ndarray, start: float, rise: float, hold: float, fall: float) -> np.ndarray:
    """0 before `start`, smoothly to 1 in `rise` seconds, `hold` there, and back in `fall`."""
    up = np.clip((time - start) / rise, 0.0, 1.0)
    down = np.clip((time - start - rise - hold) / fall, 0.0, 1.0)
    return up**2 * (3 - 2 * up) * (1 - down**2 * (3 - 2 * down))


def drift(time: np.ndarray, random: np.random.Generator, slowest: float, fastest: float, waves: int = 5) -> np.ndarray:
    """A smooth random curve with unit variance; its waves last between `fastest` and `slowest` seconds."""
    periods = np.exp(random.uniform(math.log(fastest), math.log(slowest), waves))
    phases = random.uniform(0, 2 * math.pi, waves)
    return np.sin(2 * math.pi * time[:, None] / periods + phases).sum(1) * math.sqrt(2 / waves)


def add_curve(weights: dict[str, np.ndarray], what: Weights, curve: np.ndarray) -> None:
    """Adds the units of `what`, each times its weight, to the curves (T,) of `weights`."""
    for name, weight in what.items():
        weights[name] = weights.get(name, np.zeros_like(curve)) + weight * curve


def expression_weights(time: np.ndarray, end: float, random: np.random.Generator, kind: str) -> dict[str, np.ndarray]:
    """Curves of the ARKit units until `end`, in [0, 1], without what follows from the gaze."""
    weights: dict[str, np.ndarray] = {}

    def add(what: Weights, curve: np.ndarray) -> None:
        add_curve(weights, what, curve)

    add(both(mouthSmile=0.1), np.ones_like(time))  # a friendly face at rest
    moment, order, held = -1.0, [], EXPRESSIONS[kind]
    while moment < end:
        order = order or list(random.permutation(len(held)))
        duration = random.uniform(0.5, 0.9)
        add(held[order.pop()], random.uniform(0.8, 1.15) * bump(time, moment, 0.3, duration, 0.4))
        moment += duration + random.uniform(0.5, 0.8)
        for _ in range(random.integers(2, 5)):
            length = random.uniform(0.16, 0.28)
            add(
                SYLLABLES[random.integers(len(SYLLABLES))],
                random.uniform(0.6, 1.1) * bump(time, moment, 0.5 * length, 0.03, 0.6 * length),
            )
            moment += length
    moment = random.uniform(-0.5, 0.8)
    while moment < end:
        add(both(eyeBlink=1.0), bump(time, moment, 0.09, 0.05, 0.16))
        moment += random.uniform(1.2, 3.0)
    return {name: np.clip(curve, 0.0, 1.0) for name, curve in weights.items()}


def gaze_angles(time: np.ndarray, end: float, random: np.random.Generator) -> np.ndarray:
    """Yaw to the person's left and pitch downwards (T, 2), radians: fixations with quick saccades between them."""
    angles = np.zeros((len(time), 2))
    moment, now = -1.0, np.zeros(2)
    while moment < end:
        then = random.normal(0, (0.17, 0.09)).clip((-0.35, -0.18), (0.35, 0.2)) if random.random() < 0.7 else np.zeros(2)
        angles += (then - now) * np.clip((time - moment) / 0.06, 0, 1)[:, None]
        now, moment = then, moment + random.uniform(0.35, 1.2)
    return angles


def performance(
    head: FlameModel,
    seconds: float = 8.0,
    fps: float = 25.0,
    seed: int = 0,
    kind: str = "train",
    shape: torch.Tensor | None = None,
) -> FlameSequence:
    """A performance of a head with ARKit units, sampled at `fps`; timesteps count from 0.

    Args:
        head: must name its expression components as ARKit does (the built-in head).
        kind: "train" or "test", which show different expressions.
        shape: identity coefficients (n_shape,), 0 where not given.

    Raises:
        UserError: for a head whose expression components have no such names.
    """
    require_units(head)
    random = np.random.default_rng([seed, sorted(EXPRESSIONS).index(kind)])
    time = np.arange(max(1, round(seconds * fps))) / fps
    weights, gaze = expression_weights(time, seconds, random, kind), gaze_angles(time, seconds, random)

    def curves(sizes: list[float], slowest: float, fastest: float) -> np.ndarray:
        return np.stack([size * drift(time, random, slowest, fastest) for size in sizes], 1)

    poses = {
        "jaw_pose": curves([0.0, 0.012, 0.006], 3.0, 0.6),
        "rotation": curves([0.05, 0.11, 0.03], 6.0, 2.0),
        "neck_pose": curves([0.03, 0.05, 0.02], 5.0, 1.5),
        "translation": curves([0.006, 0.003, 0.005], 6.0, 2.0),
    }
    return played(head, weights, gaze, poses, shape)


def require_units(head: FlameModel) -> None:
    """Raises a UserError for a head whose expression components have no ARKit names."""
    if "jawOpen" not in (head.expression_names or []):
        raise UserError(
            "this motion needs a head with ARKit expression units, which this head's file does not name: use the built-in head"
        )


def played(
    head: FlameModel,
    weights: dict[str, np.ndarray],
    gaze: np.ndarray,
    poses: dict[str, np.ndarray],
    shape: torch.Tensor | None,
) -> FlameSequence:
    """Curves of units and poses as FLAME parameters: lids follow the gaze, the jaw's joint the unit jawOpen.

    Args:
        weights: (T,) each.
        gaze: (T,2), see `gaze_angles`.
        poses: jaw_pose without the opening, rotation, neck_pose, translation, (T,3).
        shape: (n_shape,), 0 where not given.
    """
    weights, names = dict(weights), head.expression_names or []
    # The lids go with the eyeballs; at full deflection the unit is at 1.
    lids = {"Down": gaze[:, 1] / 0.35, "Up": -gaze[:, 1] / 0.35}
    for direction, amount in lids.items():
        for side in ("Left", "Right"):
            weights[f"eyeLook{direction}{side}"] = np.clip(amount, 0, 1)
    expr = np.zeros((len(gaze), head.n_expr))
    for name, curve in weights.items():
        expr[:, names.index(name)] = curve
    vergence = 0.02
    eyes = np.zeros((len(gaze), 6))
    eyes[:, 0::3], eyes[:, 1::3] = gaze[:, 1:], gaze[:, :1]
    eyes[:, 1] -= vergence
    eyes[:, 4] += vergence
    # The linear jawOpen carries most of an opening; the joint adds a part of it and the sideways play of chewing.
    jaw = poses["jaw_pose"].copy()
    jaw[:, 0] += 0.1 * weights["jawOpen"] if "jawOpen" in weights else 0.0
    values = {**poses, "expr": expr, "eyes_pose": eyes, "jaw_pose": jaw}
    tensors = {name: torch.from_numpy(value).float() for name, value in values.items()}
    shape = torch.zeros(head.n_shape) if shape is None else shape
    return FlameSequence(timesteps=list(range(len(gaze))), shape=shape, static_offset=None, dynamic_offset=None, **tensors)
