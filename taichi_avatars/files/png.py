"""Images with eight bits per channel, and PNG files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi_avatars.files.atomic import atomic_path


def as_uint8(frame: np.ndarray | Tensor) -> np.ndarray:
    """A frame as (H,W,3) uint8; floats in [0,1] are clamped and rounded.

    Args:
        frame: (H,W,3) uint8 array or (3,H,W) float tensor.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(frame, Tensor) and frame.is_floating_point() and frame.ndim == 3 and frame.shape[0] == 3:
        pixels = (frame.detach().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        return pixels.permute(1, 2, 0).contiguous().cpu().numpy()
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3:
        return frame
    raise ValueError(f"want (H,W,3) uint8 or a (3,H,W) float tensor, got {tuple(frame.shape)} {frame.dtype}")


def write_png(path: Path | str, image: Tensor | np.ndarray) -> Path:
    """Writes an image, (3,H,W) floats in [0,1] or (H,W,3) uint8."""
    with atomic_path(path) as temporary:
        Image.fromarray(as_uint8(image)).save(temporary)
    return Path(path)


def encode_rgba(pixels: np.ndarray) -> bytes:
    """A PNG file of (H,W,4) uint8, in half the time of Pillow's, which tries five filters for every row (PNG, section 9).

    Each row is stored as its difference from the one above; most of what was cut out is empty, so that runs are enough.
    """
    height, width = pixels.shape[:2]
    flat = np.ascontiguousarray(pixels).reshape(height, 4 * width)
    rows = np.empty((height, 1 + 4 * width), np.uint8)
    rows[:, 0] = 2  # the filter "up"
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    packed = zlib.compressobj(1, strategy=zlib.Z_RLE)
    chunks = (
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 6, 0, 0, 0)),  # 8 bits, colour with alpha
        (b"IDAT", packed.compress(rows.data) + packed.flush()),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
        for name, data in chunks
    )
