"""PlayCanvas' compressed PLY: Gaussians in chunks of 256, quantised between the minimum and maximum of their chunk.

A Gaussian takes 16 bytes: position and log-scale 11, 10 and 11 bits; rotation 2 bits for its largest component and 10 for each
of the others; colour of band 0 and opacity 8 bits each. Spherical harmonics above take a byte each, from -4 to 4.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from taichi_avatars.avatar.gaussians import C0, Gaussians
from taichi_avatars.export.world import unit_quats
from taichi_avatars.files.atomic import atomic_path

CHUNK = 256
LARGEST_LOG_SCALE = 20.0
SH_RANGE = 8.0
RANGES = [f"{end}_{prefix}{axis}" for prefix, axes in (("", "xyz"), ("scale_", "xyz"), ("", "rgb")) for end in ("min", "max")
          for axis in axes]  # fmt: skip
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")


def write_compressed_ply(gaussians: Gaussians, path: Path | str) -> None:
    """Writes unbound Gaussians in Morton order, so that neighbours share a chunk."""
    means = gaussians.means.detach().double().numpy()
    order = np.argsort(_morton(means), kind="stable")
    log_scales = gaussians.log_scales.detach().double().numpy().clip(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
    color = 0.5 + C0 * gaussians.sh_base.detach()[:, 0].double().numpy()
    at, at_range = _in_chunks(means[order])
    size, size_range = _in_chunks(log_scales[order])
    shade, shade_range = _in_chunks(color[order])
    # Steps 0 and 255 would be infinite as logits, which is how the tools that convert these files write them.
    opacity = gaussians.opacities.detach().double().numpy()[order, None].clip(1.0 / 255.0, 254.0 / 255.0)
    packed = np.stack(
        [
            _pack(at, (11, 10, 11)),
            _pack_rotations(unit_quats(gaussians.quats)[order]),
            _pack(size, (11, 10, 11)),
            _pack(np.concatenate([shade, opacity], 1), (8, 8, 8, 8)),
        ],
        1,
    )
    rest = gaussians.sh_rest.detach().transpose(1, 2).flatten(1).double().numpy()[order]
    steps = np.clip(np.floor((rest / SH_RANGE + 0.5) * 256.0), 0, 255).astype(np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_header(len(at_range), len(packed), rest.shape[1]))
        file.write(np.concatenate([at_range, size_range, shade_range], 1).astype("<f4").tobytes())
        file.write(packed.astype("<u4").tobytes())
        file.write(steps.tobytes())


def _header(chunks: int, count: int, rest: int) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {chunks}"]
    lines += [f"property float {name}" for name in RANGES]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in PACKED)]
    if rest:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{k}" for k in range(rest))]
    return "\n".join([*lines, "end_header", ""]).encode("ascii")


def _in_chunks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (N,3) as fractions of their chunk's range, and the ranges (chunks,6): three minima, then three maxima."""
    starts = np.arange(0, len(values), CHUNK)
    if not len(starts):
        return values, np.empty((0, 6))
    # The range is stored as float32, so values are measured against it in float32.
    low = np.minimum.reduceat(values, starts).astype(np.float32).astype(np.float64)
    high = np.maximum.reduceat(values, starts).astype(np.float32).astype(np.float64)
    chunk = np.arange(len(values)) // CHUNK
    extent = np.where(high > low, high - low, 1.0)
    return (values - low[chunk]) / extent[chunk], np.concatenate([low, high], 1)


def _pack(shares: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0,1] (N,len(bits)) in one word each, the first in the highest bits."""
    word = np.zeros(len(shares), np.uint32)
    for column, width in zip(shares.T, bits, strict=True):
        top = (1 << width) - 1
        word = (word << np.uint32(width)) | np.clip(np.round(column * top), 0, top).astype(np.uint32)
    return word


def _pack_rotations(quats: np.ndarray) -> np.ndarray:
    """Which of w, x, y, z is largest, and the other three, which lie within +-sqrt(1/2), with its sign made positive."""
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    signed = quats * np.where(quats[rows, largest] < 0.0, -1.0, 1.0)[:, None]
    others = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[largest]
    shares = 0.5 + np.sqrt(0.5) * signed[rows[:, None], others]
    return (largest.astype(np.uint32) << np.uint32(30)) | _pack(shares, (10, 10, 10))


def _morton(means: np.ndarray) -> np.ndarray:
    """(N,) Morton code of each point: the bits of its three coordinates, interleaved."""
    if not len(means):
        return np.empty(0, np.uint64)
    low, high = means.min(0), means.max(0)
    cells = ((means - low) / np.where(high > low, high - low, 1.0) * 1023.0).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(3 * bit + axis)
    return code
