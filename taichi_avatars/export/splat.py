"""The `.splat` format of web viewers: 32 bytes a Gaussian, no spherical harmonics above band 0.

A record holds position (3 float32), scale (3 float32, after the activation), red, green, blue and opacity (4 uint8), and the
quaternion w, x, y, z (4 uint8: 128 + 128 q). Records are sorted by importance, so that a viewer that shows a file
while loading it shows the large and opaque ones first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from taichi_avatars.avatar.gaussians import C0, Gaussians
from taichi_avatars.export.world import unit_quats
from taichi_avatars.files.atomic import atomic_path

RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def write_splat(gaussians: Gaussians, path: Path | str) -> None:
    """Writes unbound Gaussians as `.splat`; colour is that of SH band 0."""
    log_scales, opacities = gaussians.log_scales.detach(), gaussians.opacities.detach()
    color = 0.5 + C0 * gaussians.sh_base.detach()[:, 0].double().numpy()
    records = np.empty(len(gaussians), RECORD)
    records["mean"] = gaussians.means.detach().numpy()
    records["scale"] = log_scales.exp().numpy()
    records["rgba"] = np.concatenate([_byte(255.0 * color), _byte(255.0 * opacities.double().numpy()[:, None])], 1)
    records["quat"] = _byte(128.0 + 128.0 * unit_quats(gaussians.quats))
    importance = log_scales.sum(1) + opacities.log()
    order = np.argsort(-importance.numpy(), kind="stable")
    with atomic_path(path) as temporary:
        temporary.write_bytes(records[order].tobytes())


def _byte(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
