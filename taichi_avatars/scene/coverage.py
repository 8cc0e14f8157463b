"""The sides from which the cameras of a capture see the head: training has to invent the others."""

from __future__ import annotations

import math

import torch

from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.views import View

ONE_SIDE = math.radians(30.0)  # around the mean direction; sixteen cameras in front of a head spread about twice as far
LOW_DEGREE = 1  # of the colour, which is harmless with one side seen


def half_angle(views: list[View], flame: FlameSequence) -> float:
    """Largest angle between the mean viewing direction of a head and any other, radians.

    Directions are in the head's own axes: a head that turns in front of one camera is seen from several sides.

    Args:
        views: with timesteps of `flame`; at least one.
    """
    rows = torch.tensor([flame.row(view.timestep) for view in views if view.timestep is not None])
    turns = flame.facing(rows)
    centers = torch.stack([view.camera.center.detach().double() for view in views if view.timestep is not None])
    seen = (turns.mT @ (centers - flame.translation.detach()[rows].double())[..., None])[..., 0]
    seen = torch.nn.functional.normalize(seen, dim=1)
    middle = torch.nn.functional.normalize(seen.mean(0), dim=0)
    return float(torch.arccos((seen @ middle).clamp(-1.0, 1.0)).max())


def one_sided(views: list[View], flame: FlameSequence | None, sh_degree: int) -> str | None:
    """One line, with advice, if the cameras see a head from one side only; None otherwise.

    Args:
        sh_degree: that training is going to use.
    """
    if flame is None or not views:
        return None
    angle = half_angle(views, flame)
    if angle >= ONE_SIDE:
        return None
    advice = "; --sh-degree 0 keeps colours from learning light and pose instead" if sh_degree > LOW_DEGREE else ""
    return (
        f"the cameras see the head from one side only, {math.degrees(angle):.0f} degrees around their middle at most: "
        f"the other sides are invented{advice}"
    )
