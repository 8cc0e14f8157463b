"""What the processes of a run tell each other: the sums of a step, where a run begins, and whether all are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from taichi_avatars import ranks, runtime
from taichi_avatars.errors import UserError

if TYPE_CHECKING:
    from taichi_avatars.scene.views import View
    from taichi_avatars.training.run import Run


class StepSums(NamedTuple):
    """What one view, or some of a step's views together, showed beside gradients.

    loss, error: sums over them, the second of mean squared errors.
    observed: what density control asks, `density.observation`; None where it has ended.
    """

    loss: float = 0.0
    error: float = 0.0
    observed: Tensor | None = None

    def __add__(self, other: StepSums) -> StepSums:  # pyright: ignore[reportIncompatibleMethodOverride]
        observed = self.observed
        if other.observed is not None:
            observed = other.observed if observed is None else observed + other.observed
        return StepSums(self.loss + other.loss, self.error + other.error, observed)


def of_all_views(run: Run, views: Sequence[View], own: StepSums) -> tuple[StepSums, dict[int, Tensor]]:
    """The sums of a step, of which every process has seen some of the views.

    The gradients of the Gaussians are put in place; returned are the sums over all views, and FLAME gradients by row. One flat
    buffer carries all of it, without the SH bands that are not in use yet: all but the base colour is three quarters of it.
    """
    flame = {} if run.tuner is None else run.tuner.gradients()
    if not ranks.together():
        return own, flame
    device = runtime.device()
    leaves = [leaf for leaf in run.optimizer.gaussians.parameters().values() if leaf.grad is not None]
    bands = (run.schedule.sh_degree(run.iteration, run.config.sh_degree) + 1) ** 2 - 1
    rest = run.optimizer.gaussians.sh_rest
    gradients = [leaf.grad[:, :bands] if leaf is rest else leaf.grad for leaf in leaves]  # pyright: ignore[reportOptionalSubscript]
    rows: list[int] = []
    if run.tuner is not None and flame:
        rows = list(dict.fromkeys(run.tuner.sequence.row(view.timestep) for view in views if view.timestep is not None))
    nothing = torch.zeros_like(next(iter(flame.values()))) if flame else None
    of_rows = [flame.get(row, nothing).to(device) for row in rows]  # pyright: ignore[reportOptionalMemberAccess]
    figures = torch.tensor([own.loss, own.error], device=device, dtype=torch.float32)
    observed = [] if own.observed is None else [own.observed]

    sums = iter(ranks.add_up([*gradients, *of_rows, figures, *observed]))
    for leaf in leaves:
        total = next(sums)
        if leaf.grad is not None and total.shape != leaf.grad.shape:  # the other bands have no gradient in any process
            leaf.grad[:, :bands] = total
        else:
            leaf.grad = total
    flame = {row: next(sums).cpu() for row in rows}
    loss, error = next(sums).tolist()
    return StepSums(loss, error, next(sums, None)), flame


def check_sameness(run: Run) -> None:
    """Raises where the processes do not have bit-identical Gaussians: none of them would be the run's."""
    if not ranks.together():
        return
    digest = hashlib.blake2b(digest_size=16)
    for values in [*run.optimizer.gaussians.parameters().values(), *([] if run.tuner is None else [run.tuner.table])]:
        digest.update(values.detach().cpu().contiguous().numpy().data)
    if len(set(ranks.gather(digest.digest()))) > 1:
        raise ranks.AgreedError(
            f"the processes have come to different Gaussians at step {run.iteration}, as machines of different kinds can; "
            "train on machines of one kind"
        )


def agreed(error: UserError | None) -> UserError:
    """The error of a step that failed in some of the processes, for all of them. error: of this one, where it has one."""
    if error is not None and not ranks.together():
        return error
    return ranks.AgreedError(next(text for text in ranks.gather(None if error is None else str(error)) if text is not None))
