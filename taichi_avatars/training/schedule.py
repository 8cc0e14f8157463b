"""When things happen in a run: the paper's numbers for 600,000 steps, and what becomes of them in a short run."""

from __future__ import annotations

from dataclasses import dataclass

from taichi_avatars.config import PAPER_ITERATIONS, SHORT, TrainConfig

SHORTEST_INTERVAL = 100  # steps: fewer see too little of the gradient to judge by
SHORTEST_RESET = 3_000  # steps: an opacity reset needs this long to heal
SH_INTERVAL = 1_000  # steps per SH band at full length
SETTLE_FROM = 0.6  # share of a run
PRUNE_AT = (0.7, 0.74, 0.78, 0.82)  # shares of a run, at which Gaussians go that contribute least; the rest of it heals
PERCEPTUAL_FROM, PERCEPTUAL_EVERY = 2 / 3, 4  # share of a run; steps
SH_SHARES = (1 / 6, 1 / 3, 1 / 2)  # of a short run, at which the bands 1, 2, 3 join


@dataclass(frozen=True)
class Schedule:
    """A run's events in its own steps.

    densify_from, densify_until: strict bounds of density control.  densify_every: its interval.
    reset_every: interval of the opacity resets, None where the run is too short for one.
    band_at: first step of SH bands 1, 2, 3.
    position_steps: step at which the positions' learning rate is at its end.
    """

    iterations: int
    densify_from: int
    densify_until: int
    densify_every: int
    reset_every: int | None
    band_at: tuple[int, int, int]
    position_steps: int

    @staticmethod
    def of(config: TrainConfig) -> Schedule:
        """The schedule of a run; below 60,000 steps everything shrinks with the run."""
        total = config.iterations
        ends = config.position_lr_max_steps or total
        if total >= SHORT:
            bands = (SH_INTERVAL, 2 * SH_INTERVAL, 3 * SH_INTERVAL)
            reset = config.opacity_reset_interval
            first, every = config.densify_from_iter, config.densification_interval
            last = min(config.densify_until_iter, total)
            return Schedule(total, first, last, every, reset, bands, ends)
        share = total / PAPER_ITERATIONS
        every = max(SHORTEST_INTERVAL, round(config.densification_interval * share))
        reset = round(config.opacity_reset_interval * share)
        return Schedule(
            total,
            densify_from=max(SHORTEST_INTERVAL, round(config.densify_from_iter * share)),
            densify_until=round(config.densify_until_iter * share),
            densify_every=every,
            reset_every=reset if reset >= SHORTEST_RESET else None,
            band_at=(round(SH_SHARES[0] * total), round(SH_SHARES[1] * total), round(SH_SHARES[2] * total)),
            position_steps=ends,
        )

    def sh_degree(self, iteration: int, highest: int) -> int:
        """Degree in use at a step."""
        return min(highest, sum(iteration >= at for at in self.band_at))

    def densifies(self, iteration: int) -> bool:
        return self.densify_from < iteration < self.densify_until and iteration % self.densify_every == 0

    def prunes(self, iteration: int, share: float) -> float:
        """The share of the Gaussians that goes after this step for want of contribution, such that `share` goes in all.

        None goes where too few steps are left to make up for it.
        """
        rounds = [round(at * self.iterations) for at in PRUNE_AT]
        if self.iterations - rounds[-1] < SHORTEST_INTERVAL:
            return 0.0
        return 1.0 - (1.0 - share) ** (rounds.count(iteration) / len(rounds))

    def perceives(self, iteration: int) -> bool:
        """Whether the perceptual loss, which costs as much as all else, is part of a step."""
        return iteration > PERCEPTUAL_FROM * self.iterations and iteration % PERCEPTUAL_EVERY == 0

    def resets(self, iteration: int, white: bool) -> bool:
        """Whether opacities are reset after this step, while they can still heal; on white also when density control begins."""
        if self.reset_every is None or not 0 < iteration < min(self.densify_until, self.iterations - SHORTEST_RESET + 1):
            return False
        return iteration % self.reset_every == 0 or (white and iteration == self.densify_from)

    def rate_share(self, iteration: int, final: float) -> float:
        """What is left of the rates that do not fall otherwise: all until SETTLE_FROM of the run, log-linear to `final`."""
        return final ** max(0.0, (iteration / self.iterations - SETTLE_FROM) / (1.0 - SETTLE_FROM))

    def position_lr(self, iteration: int, first: float, last: float) -> float:
        """Log-linear from `first` to `last` over `position_steps`."""
        t = min(iteration / self.position_steps, 1.0)
        return first ** (1.0 - t) * last**t
