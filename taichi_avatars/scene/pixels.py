"""Image files of any format as 8-bit colours, alpha and mask weights; unsupported contents are refused by name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged

LARGEST_IMAGE = 80_000_000  # pixels: far above any capture, far below what a forged header can claim
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)  # errors that Pillow raises
LARGEST_LABEL = 31  # face parsers number 11 to 19 parts
GREY_STEPS = {"L;2": 85, "L;4": 17}  # the factors by which Pillow scales PNG's greys of fewer bits


def open_image(path: Path) -> Image.Image:
    """An image file, opened but not yet decoded.

    Raises:
        UserError: if it is missing, not an image, or far too large.
    """
    try:
        image = Image.open(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: the file is missing; copy it there or remove its frame from the capture") from error
    except UNREADABLE as error:
        raise damaged(path, f"cannot be read as an image ({error})", "export it again") from error
    if image.width * image.height > LARGEST_IMAGE:
        image.close()
        raise UserError(f"{path}: {image.width} x {image.height} pixels is more than this program reads; scale it down")
    return image


def colours(path: Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours (H,W,3) uint8 and alpha (H,W) uint8, None if the file has none.

    Raises:
        UserError: if it is broken, or holds values that are not colours.
    """
    try:
        if _is_numbers(image):
            values = np.asarray(image)
            grey, key = _eight_bits(path, values), image.info.get("transparency")
            opacity = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
            return np.repeat(grey[..., None], 3, 2), opacity
        _scale_key(image)
        image = _levelled(image)
        if image.has_transparency_data:
            pixels = np.asarray(image.convert("RGBA"))
            return pixels[..., :3], pixels[..., 3]
        return np.asarray(image.convert("RGB")), None
    except UserError:  # which is a ValueError, too
        raise
    except UNREADABLE as error:
        raise UserError(f"{path}: the image is broken or cut off ({error}); export it again") from error


def mask_weights(path: Path, image: Image.Image) -> np.ndarray:
    """(H,W) uint8: 255 where a mask is foreground.

    Levels 0 and 1, any two levels, 16 bits, values from 0 to 1 and masks in the alpha channel are supported.

    Raises:
        UserError: if it is broken, or its levels look like class labels.
    """
    try:
        if _is_numbers(image):
            return _stretched(path, np.asarray(image))
        opacity = None
        if image.has_transparency_data:
            opacity = np.asarray(image.convert("RGBA"))[..., 3]
            if image.mode != "P" and len(np.unique(opacity)) == 1:
                opacity = None
        grey = np.asarray(image.convert("L"))
    except UserError:  # which is a ValueError, too
        raise
    except UNREADABLE as error:
        raise UserError(f"{path}: the image is broken or cut off ({error}); export it again") from error
    if opacity is None:
        return _stretched(path, grey)
    if len(np.unique(grey)) == 1:  # a uniform colour: the mask is in the alpha channel
        return opacity
    return np.rint(_stretched(path, grey).astype(np.float32) * (opacity / np.float32(255.0))).astype(np.uint8)


def _is_numbers(image: Image.Image) -> bool:
    """Whether an image holds integers of 16 or 32 bits, or floating-point numbers: Pillow would clip them at 255."""
    return image.mode.startswith("I") or image.mode == "F"


def _eight_bits(path: Path, values: np.ndarray) -> np.ndarray:
    """(H,W) uint8 from values from 0 to 1, or from 16-bit integers."""
    low, high = _range(path, values)
    if values.dtype.kind == "f":
        if low < 0.0 or high > 1.0:
            raise UserError(
                f"{path}: holds floating-point numbers from {low:g} to {high:g}, want 0 to 1; export it with 8 bits per colour"
            )
        return np.rint(values * 255.0).astype(np.uint8)
    if low < 0 or high > 65535:
        raise UserError(f"{path}: holds integers from {low:g} to {high:g}, want 16 bits; export it with 8 bits per colour")
    if 1 < high <= 255:
        raise UserError(
            f"{path}: holds integers of {8 * values.dtype.itemsize} bits from {low:g} to {high:g}, which is nearly black: "
            "they look like those of 8 bits; export it with 8 bits per colour"
        )
    return np.rint(values / 257.0).astype(np.uint8)


def _stretched(path: Path, values: np.ndarray) -> np.ndarray:
    """Mask levels of any range, (H,W) uint8 up to 255."""
    _, high = _range(path, values)
    if high <= 1:
        return np.rint(values.astype(np.float64) * 255.0).clip(0, 255).astype(np.uint8)
    levels = np.unique(values)
    if len(levels) == 2 and 2.0 * float(levels[0]) <= high:  # two that are nearer to each other may both be light
        return np.where(values == high, 255, 0).astype(np.uint8)
    if high <= LARGEST_LABEL and bool((levels == np.rint(levels)).all()):
        raise UserError(
            f"{path}: its {len(levels)} levels from {levels[0]:g} to {high:g} look like class labels, not like a mask; "
            "write 255 where the person is and 0 elsewhere"
        )
    if high <= 255:
        return np.rint(values).clip(0, 255).astype(np.uint8)
    return _eight_bits(path, values)


def _range(path: Path, values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{path}: holds NaN or Inf; export it with 8 bits per colour")
    return low, high


def _levelled(image: Image.Image) -> Image.Image:
    """A 1-bit image as an 8-bit one: in the former Pillow before 13 ignores the transparent level."""
    key = image.info.get("transparency")
    if image.mode != "1" or key is None:
        return image
    levelled = image.convert("L")
    levelled.info["transparency"] = 255 if key else 0  # which Pillow also calls 1
    return levelled


def _scale_key(image: Image.Image) -> None:
    """Scales a PNG's transparent colour to 8 bits, as Pillow does for the pixels but not for that colour."""
    key = image.info.get("transparency")
    tiles = getattr(image, "tile", None)  # how the file stores its pixels, until they are decoded
    raw = tiles[0][3] if image.format == "PNG" and tiles else None
    if isinstance(key, int) and raw in GREY_STEPS:
        image.info["transparency"] = key * GREY_STEPS[raw]
    elif isinstance(key, tuple) and isinstance(raw, str) and raw.startswith("RGB;16"):
        image.info["transparency"] = tuple(value >> 8 for value in key)
