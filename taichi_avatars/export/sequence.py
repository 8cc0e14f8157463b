"""An animation as a zip of PLYs, one per frame, in the world: SuperSplat and others play it as a sequence."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.export.world import in_world, y_down
from taichi_avatars.files.atomic import atomic_path, writing

EPOCH = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same frames make the same zip
FAST = 1  # zlib level: a tenth larger than with the default, several times faster


@torch.no_grad()
def write_sequence(
    avatar: Avatar,
    path: Path | str,
    *,
    degree: int | None = None,
    turn: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> None:
    """Writes `frame_0000.ply` ... into a zip. Gaussian i is the same in every frame.

    Args:
        avatar: its whole sequence is written.
        turn: to y down.
        on_frame: called with the number of frames done.
    """
    assert avatar.sequence is not None
    timesteps = avatar.sequence.timesteps
    digits = max(4, len(str(len(timesteps) - 1)))
    with (
        atomic_path(path) as temporary,
        writing(path),
        zipfile.ZipFile(temporary, "w") as bundle,
    ):
        for number, timestep in enumerate(timesteps):
            posed = in_world(avatar, avatar.mesh(timestep), degree)
            entry = zipfile.ZipInfo(f"frame_{number:0{digits}d}.ply", EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            bundle.writestr(entry, ply_bytes(y_down(posed) if turn else posed), compresslevel=FAST)
            if on_frame is not None:
                on_frame(number + 1)


def ply_bytes(gaussians: Gaussians) -> bytes:
    """The content of a PLY of these Gaussians."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.ply"
        gaussians.save_ply(file)
        return file.read_bytes()
