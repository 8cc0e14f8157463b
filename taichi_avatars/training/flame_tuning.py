"""Fine-tuning of the tracked FLAME parameters: each timestep has its own Adam, and only the timestep of a step moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taichi_avatars.config import TrainConfig
from taichi_avatars.head.sequence import FlameSequence

# With the reference's dense Adam, momentum keeps moving a timestep between its visits, by 10 to 24 times the rate per visit.
MOMENTUM_BETWEEN_VISITS = 15.0
ENOUGH_VISITS = 100.0  # per timestep; a run with fewer takes longer steps
LARGEST_STRETCH = 5.0
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-15
FINAL_SHARE = 0.1  # of the learning rate, at the end of the run


@dataclass(frozen=True)
class Pose:
    """FLAME parameters of one timestep; leaves of the graph are behind them."""

    rotation: Tensor
    neck: Tensor
    jaw: Tensor
    eyes: Tensor
    translation: Tensor
    expr: Tensor
    dynamic_offset: Tensor | None


class FlameTuner:
    """The per-timestep parameters of a sequence as one table, of which a step sees and moves one row.

    The dynamic offset is one of them where one of its losses has a weight.

    Args:
        sequence: left as it is; `self.sequence` shares its constants and views the table for the rest.
        visits: expected training steps per timestep.
        num_vertices: V of the head.
    """

    def __init__(self, sequence: FlameSequence, config: TrainConfig, visits: float, num_vertices: int) -> None:
        parts = {
            "rotation": config.flame_pose_lr,
            "neck_pose": config.flame_pose_lr,
            "jaw_pose": config.flame_pose_lr,
            "eyes_pose": config.flame_pose_lr,
            "translation": config.flame_trans_lr,
            "expr": config.flame_expr_lr,
        }
        self.fixed = config.not_finetune_flame_params
        values = [getattr(sequence, name) for name in parts]
        if config.tunes_offset:
            offsets = sequence.dynamic_offset
            parts["dynamic_offset"] = config.flame_offset_lr
            values.append(torch.zeros(len(sequence), 3 * num_vertices) if offsets is None else offsets.flatten(1))
        self.table = torch.cat(values, 1).contiguous()
        self.sizes = [value.shape[1] for value in values]
        columns = dict(zip(parts, self.table.split(self.sizes, 1), strict=True))
        if config.tunes_offset:
            columns["dynamic_offset"] = columns["dynamic_offset"].unflatten(1, (-1, 3))
        self.sequence = replace(sequence, **columns)
        stretch = MOMENTUM_BETWEEN_VISITS * min(max(ENOUGH_VISITS / max(visits, 1.0), 1.0), LARGEST_STRETCH)
        self.rates = stretch * torch.cat([torch.full((n,), lr) for n, lr in zip(self.sizes, parts.values(), strict=True)])
        self.moments = torch.zeros(2, *self.table.shape)
        self.steps = torch.zeros(len(self.table), dtype=torch.int64)
        self._leaf: Tensor | None = None

    def pose(self, row: int) -> Pose:
        """The parameters of a row of the sequence, ready for a gradient."""
        self._leaf = self.table[row].clone().requires_grad_(not self.fixed)
        rotation, neck, jaw, eyes, translation, expr, *tuned = self._leaf.split(self.sizes)
        if tuned:
            offset = tuned[0].unflatten(0, (-1, 3))
        else:
            offset = None if self.sequence.dynamic_offset is None else self.sequence.dynamic_offset[row]
        return Pose(rotation, neck, jaw, eyes, translation, expr, offset)

    @property
    def gradient(self) -> Tensor | None:
        """Of the row whose pose was asked for last, where there is one."""
        return None if self._leaf is None else self._leaf.grad

    def offsets_beside(self, row: int) -> Tensor:
        """(n,V,3) dynamic offsets of the timesteps before and after a row, as far as training has seen them."""
        offsets = self.sequence.dynamic_offset
        assert offsets is not None
        beside = [r for r in (row - 1, row + 1) if 0 <= r < len(self.steps) and self.steps[r] > 0]
        return offsets[beside]

    @torch.no_grad()
    def step(self, row: int, progress: float) -> None:
        """Moves the row by its own Adam. progress: 0 at the start of the run, 1 at its end."""
        if self._leaf is None or self._leaf.grad is None:
            return
        self.steps[row] += 1
        count, gradient = int(self.steps[row]), self._leaf.grad
        first, second = self.moments[0, row], self.moments[1, row]
        first.lerp_(gradient, 1.0 - BETA1)
        second.lerp_(gradient.square(), 1.0 - BETA2)
        mean, spread = first / (1.0 - BETA1**count), second / (1.0 - BETA2**count)
        self.table[row] -= FINAL_SHARE**progress * self.rates * mean / (spread.sqrt() + EPSILON)
        self._leaf = None
