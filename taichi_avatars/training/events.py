"""What a training run tells whoever watches it: the command line, a log, a viewer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """One step is done. loss: of this step; psnr: running mean over recent training images, dB; seconds: since the start."""

    iteration: int
    iterations: int
    loss: float
    psnr: float
    gaussians: int
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """A split was evaluated: val (novel view) or test (self-reenactment)."""

    iteration: int
    split: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Saved:
    """The avatar was written. path: its PLY."""

    iteration: int
    path: Path


@dataclass(frozen=True)
class Resumed:
    """The run continues from a checkpoint. path: the file, which is an earlier one where the last is damaged."""

    path: Path
    iteration: int


Event = Progress | Evaluated | Saved | Resumed
