"""Images with eight bits per channel, and PNG files."""

from __future__ import annotations

from fractions import Fraction
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
    """A PNG file of (H,W,4) uint8, in half the time that Pillow takes, which tries five filters on every row."""
    import av  # what trains and views does not load it

    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *pixels.shape[:2], "rgba", Fraction(1)
    encoder.options = {"pred": "up", "compression_level": "1"}
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
