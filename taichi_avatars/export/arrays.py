"""Everything about an avatar at a pose as arrays in one npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.export.world import in_world, turned, y_down
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.head.pose import KEYS


@torch.no_grad()
def write_arrays(
    avatar: Avatar, timestep: int | None, path: Path | str, *, degree: int | None = None, turn: bool = False
) -> None:
    """Writes the Gaussians in the world, after activation, and, of an avatar, their local parameters, binding, triangle
    frames, mesh, joints, landmarks and the parameters of the pose.

    Args:
        timestep: of the avatar's sequence; None for the neutral pose.
        turn: whether the Gaussians in the world are turned to y down; everything else is unchanged.
    """
    mesh = None if avatar.head is None else avatar.mesh(timestep)
    posed = in_world(avatar, mesh, degree)
    if turn:
        posed = y_down(posed)
    arrays = {
        "means": posed.means,
        "quats": posed.quats,
        "scales": posed.log_scales.exp(),
        "opacities": posed.opacities,
        "sh": posed.sh(posed.degree),
    }
    if any(avatar.origin):
        origin = turned(avatar.origin) if turn else avatar.origin
        arrays["means"] = posed.means.double() + torch.tensor(origin, dtype=torch.float64)
    if avatar.head is not None and mesh is not None and avatar.sequence is not None:
        g = avatar.gaussians
        _, frames = avatar.world(mesh)
        assert frames is not None and g.binding is not None
        local = {"means": g.means, "quats": g.quats, "log_scales": g.log_scales, "logit_opacities": g.logit_opacities}
        arrays |= {f"local_{name}": values for name, values in local.items()}
        arrays |= {"binding": g.binding, "faces": avatar.head.faces}
        arrays |= {f"frame_{name}": values for name, values in frames._asdict().items()}
        arrays |= {name: values for name, values in mesh._asdict().items() if values is not None}
        arrays |= {"shape": avatar.sequence.shape}
        row = None if timestep is None else avatar.sequence.row(timestep)
        for key in KEYS:
            values = getattr(avatar.sequence, key)
            if values is not None:
                arrays[key] = torch.zeros_like(values[0]) if row is None else values[row]
        if avatar.sequence.static_offset is not None:
            arrays["static_offset"] = avatar.sequence.static_offset
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{name: values.detach().cpu().numpy() for name, values in arrays.items()})  # pyright: ignore[reportArgumentType]
