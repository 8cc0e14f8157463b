"""Fine-tuning of the tracked FLAME parameters: each timestep has its own Adam, and only the timesteps of a step move.

As published, the parameters are free numbers. The fast schedule estimates what a tracker got wrong instead, in three respects:

- The corrections have the mean 0 over the timesteps seen so far. What all of them share the Gaussians can do as well: a gauge,
  which held-out timesteps, whose parameters are not tuned, would not share.
- A parameter that hardly moves the surface keeps what was tracked. Adam alone takes steps of one size however little the images
  say; here the second moment is shared by all timesteps and has a floor, and a prior pulls corrections to 0. Both measure
  parameters in standard deviations of a tracker's errors.
- Nothing is corrected by more than `BOUND` of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from taichi_avatars.config import TrainConfig
from taichi_avatars.head.pose import PARTS, HeadPose
from taichi_avatars.head.sequence import FlameSequence

# With the reference's dense Adam, momentum keeps moving a timestep between its visits, by 10 to 24 times the rate per visit.
MOMENTUM_BETWEEN_VISITS = 15.0
ENOUGH_VISITS = 100.0  # per timestep; a run with fewer takes longer steps
LARGEST_STRETCH = 5.0
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-15
FINAL_SHARE = 0.1  # of the learning rate, at the end of the run
FLOOR = 0.05  # of the second moments, against their mean over the parameters
BOUND = 6.0


class FlameTuner:
    """The per-timestep parameters of a sequence as one table, of which a step sees and moves few rows, mostly one.

    The dynamic offset is one of them where one of its losses has a weight.

    Args:
        sequence: left as it is; `self.sequence` shares its constants and views the table for the rest.
        visits: expected training steps per timestep.
        num_vertices: V of the head.
    """

    def __init__(self, sequence: FlameSequence, config: TrainConfig, visits: float, num_vertices: int) -> None:
        rates = {part.key: config.flame_pose_lr if part.joints else config.flame_trans_lr for part in PARTS}
        rates |= {"expr": config.flame_expr_lr, "dynamic_offset": config.flame_offset_lr}
        self.fixed = config.not_finetune_flame_params
        values = sequence.moving()
        if config.tunes_offset:
            offsets = sequence.dynamic_offset
            empty = torch.zeros(len(sequence), 3 * num_vertices, dtype=torch.float32)
            values["dynamic_offset"] = empty if offsets is None else offsets.flatten(1)
        values = {key: values[key] for key in rates if key in values}
        self.table = torch.cat(list(values.values()), 1).contiguous()
        self.sizes = {key: value.shape[1] for key, value in values.items()}
        columns = self._columns(self.table)
        if config.tunes_offset:
            columns["dynamic_offset"] = columns["dynamic_offset"].unflatten(1, (-1, 3))
        self.sequence = replace(sequence, **columns)
        stretch = MOMENTUM_BETWEEN_VISITS * min(max(ENOUGH_VISITS / max(visits, 1.0), 1.0), LARGEST_STRETCH)
        self.rates = stretch * torch.cat([torch.full((n,), rates[key], dtype=torch.float32) for key, n in self.sizes.items()])
        self.weight = config.flame_prior
        sigmas = {part.key: config.flame_pose_sigma if part.joints else config.flame_trans_sigma for part in PARTS}
        sigmas["expr"] = config.flame_expr_sigma
        self.sigma = torch.cat(
            [torch.full((n,), sigmas[key], dtype=torch.float32) for key, n in self.sizes.items() if key in sigmas]
        )
        self.tracked = self.table[:, : len(self.sigma)].clone()
        self.moments = torch.zeros(2, *self.table.shape, dtype=torch.float32)
        self.steps = torch.zeros(len(self.table), dtype=torch.int64)
        self._leaves: dict[int, Tensor] = {}  # of the rows that the step has seen so far

    def _columns(self, table: Tensor) -> dict[str, Tensor]:
        """Views of the parts in the table's last axis, by their keys in files."""
        return dict(zip(self.sizes, table.split(list(self.sizes.values()), -1), strict=True))

    def pose(self, row: int) -> HeadPose:
        """The parameters of a row of the sequence, ready for a gradient."""
        if row not in self._leaves:
            self._leaves[row] = self.table[row].clone().requires_grad_(not self.fixed)
        values = self._columns(self._leaves[row])
        if "dynamic_offset" in values:
            values["dynamic_offset"] = values["dynamic_offset"].unflatten(0, (-1, 3))
        elif self.sequence.dynamic_offset is not None:
            values["dynamic_offset"] = self.sequence.dynamic_offset[row]
        return HeadPose.of_keys(values)

    def gradients(self) -> dict[int, Tensor]:
        """Of the rows whose poses were asked for since the last step, as far as there are any."""
        return {row: leaf.grad for row, leaf in self._leaves.items() if leaf.grad is not None}

    def offsets_beside(self, row: int) -> Tensor:
        """(n,V,3) dynamic offsets of the timesteps before and after a row, as far as training has seen them."""
        offsets = self.sequence.dynamic_offset
        assert offsets is not None
        beside = [r for r in (row - 1, row + 1) if 0 <= r < len(self.steps) and self.steps[r] > 0]
        return offsets[beside]

    @torch.no_grad()
    def step(self, gradients: Mapping[int, Tensor], progress: float) -> None:
        """Moves each of these rows by its own Adam. progress: 0 at the start of the run, 1 at its end."""
        for row in sorted(gradients):
            gradient = gradients[row]
            self.steps[row] += 1
            count = int(self.steps[row])
            first, second = self.moments[0, row], self.moments[1, row]
            second.lerp_(gradient.square(), 1.0 - BETA2)
            variance = second / (1.0 - BETA2**count)
            if self.weight:
                variance, pull = self._informed(row, variance)
                gradient = gradient + pull
            first.lerp_(gradient, 1.0 - BETA1)
            mean = first / (1.0 - BETA1**count)
            self.table[row] -= FINAL_SHARE**progress * self.rates * mean / (variance.sqrt() + EPSILON)
        if self.weight and gradients:
            self._centre()
        self._leaves.clear()

    def _informed(self, row: int, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Second moments of what the images say of any timestep, with a floor, in a row; the gradient of the row's prior."""
        tuned, sigma = len(self.sigma), self.sigma
        seen = self.steps > 0
        known = 1.0 - BETA2 ** self.steps[seen, None].float()
        said = (self.moments[1, seen, :tuned] / known).mean(0) * sigma.square()
        typical = said.mean()
        variance, pull = variance.clone(), torch.zeros_like(variance)
        variance[:tuned] = (said + FLOOR * typical) / sigma.square()
        pull[:tuned] = self.weight * typical.sqrt() * (self.table[row, :tuned] - self.tracked[row]) / sigma.square()
        return variance, pull

    def _centre(self) -> None:
        """Subtracts the mean correction from all timesteps seen so far, and bounds what is left."""
        seen, tuned = self.steps > 0, len(self.sigma)
        corrections = self.table[seen, :tuned] - self.tracked[seen]
        corrections = torch.clamp(corrections - corrections.mean(0), -BOUND * self.sigma, BOUND * self.sigma)
        self.table[seen, :tuned] = self.tracked[seen] + corrections
