"""Who the built-in subject is: everything that differs between two people, drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.head.flame import FlameModel

Color = tuple[float, float, float]

# Linear albedo from very fair to very dark skin.
SKIN_TONES: tuple[Color, ...] = (
    (0.70, 0.45, 0.34),
    (0.58, 0.33, 0.22),
    (0.42, 0.21, 0.125),
    (0.24, 0.105, 0.055),
    (0.11, 0.045, 0.024),
)
HAIR_COLORS: tuple[Color, ...] = (
    (0.030, 0.019, 0.013),
    (0.075, 0.042, 0.024),
    (0.16, 0.088, 0.045),
    (0.30, 0.19, 0.095),
    (0.20, 0.068, 0.026),
)
EYE_COLORS: tuple[Color, ...] = ((0.085, 0.04, 0.018), (0.12, 0.15, 0.20), (0.14, 0.13, 0.06), (0.08, 0.13, 0.10))


@dataclass(frozen=True)
class Identity:
    """Attributes:
    shape: (n_shape,) identity coefficients of the head.
    skin, lips, hair, iris: linear albedo.
    redness, freckles, stubble: strength, 0..1.
    hair_length: of the longest strands, metres.
    parting: where the hair is parted, in half head widths to the person's left.
    """

    seed: int
    shape: Tensor
    skin: Color
    lips: Color
    hair: Color
    iris: Color
    redness: float
    freckles: float
    stubble: float
    hair_length: float
    parting: float


def identity(head: FlameModel, seed: int) -> Identity:
    """The person with this seed. Seed 0 is the subject of the demonstration."""
    random = np.random.default_rng([seed, 20])
    tone = 0.85 if seed == 0 else random.uniform(0, len(SKIN_TONES) - 1)
    low = min(int(tone), len(SKIN_TONES) - 2)
    mixed = np.exp((1 - tone + low) * np.log(SKIN_TONES[low]) + (tone - low) * np.log(SKIN_TONES[low + 1]))
    dark = tone > 2.2
    hair = HAIR_COLORS[0] if dark else HAIR_COLORS[1] if seed == 0 else HAIR_COLORS[random.integers(len(HAIR_COLORS))]
    iris = EYE_COLORS[0] if dark else EYE_COLORS[1] if seed == 0 else EYE_COLORS[random.integers(len(EYE_COLORS))]
    lips = mixed * np.array([0.72, 0.43, 0.47]) + np.array([0.03, 0.0, 0.005])
    fade = 1.0 / (1.0 + 0.06 * np.arange(head.n_shape))
    return Identity(
        seed=seed,
        shape=torch.from_numpy(0.8 * random.normal(size=head.n_shape).clip(-1.8, 1.8) * fade).float(),
        skin=(float(mixed[0]), float(mixed[1]), float(mixed[2])),
        lips=(float(lips[0]), float(lips[1]), float(lips[2])),
        hair=hair,
        iris=iris,
        redness=float(random.uniform(0.5, 1.0)) * (0.5 if dark else 1.0),
        freckles=0.7 if seed == 0 else float(random.uniform(0, 1)) * (0.3 if dark else 1.0),
        stubble=float(random.uniform(0.0, 0.7)),
        hair_length=float(random.uniform(0.018, 0.030)),
        parting=float(random.choice([-1, 1]) * random.uniform(0.25, 0.5)),
    )
