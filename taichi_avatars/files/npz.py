"""Arrays from foreign .npz files: no pickles, nothing larger than a head or a capture."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged
from taichi_avatars.files.pickles import BROKEN, npy_header, plain

LARGEST_NPZ = 4 << 30  # bytes: FLAME has 0.2 GiB, a dynamic offset of 10,000 timesteps 0.6


def load_npz(path: Path | str) -> dict[str, np.ndarray]:
    """All arrays of an .npz, which must not hold pickled objects.

    Raises:
        UserError: naming the file, and the key if one is at fault.
    """
    path = Path(path)
    key = None
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise UserError(f"{path}: is a single array (.npy), want an .npz with named arrays")
            arrays = {}
            _check_sizes(file, path)
            for key in file.files:
                arrays[key] = file[key]
            return arrays
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path, or copy it again") from None
    except UserError:
        raise
    except (*BROKEN, zipfile.BadZipFile) as error:
        if key is None:  # numpy's message would suggest a pickle to be trusted
            raise damaged(path, "is not a complete .npz file", "copy it again or export it again") from None
        raise UserError(f"{path}: {plain(key)} cannot be read ({plain(error)}); export it again as plain numbers") from None


def float_array(keys: Mapping[str, Any], key: str, path: Path, shape: tuple[int | str, ...]) -> np.ndarray:
    """An array of finite float32 in the expected shape, where a name stands for any size.

    Raises:
        UserError: naming file and key.
    """
    value = _get(keys, key, path)
    _fit(value, key, path, shape)
    value = np.array(value, dtype=np.float32, order="C")
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {key} holds NaN or infinite numbers")
    return value


def index_array(keys: Mapping[str, Any], key: str, path: Path, shape: tuple[int | str, ...], count: int) -> np.ndarray:
    """An array of int64 below `count` in the expected shape.

    Raises:
        UserError: naming file and key.
    """
    value = _get(keys, key, path)
    _fit(value, key, path, shape)
    if value.dtype.kind == "f" and value.size:
        raise UserError(f"{path}: {key} holds {value.dtype} numbers, want indices")
    value = np.array(value, dtype=np.int64, order="C")
    if value.size and not 0 <= value.min() <= value.max() < count:
        raise UserError(f"{path}: {key} holds indices from {value.min()} to {value.max()}, want 0 to {count - 1}")
    return value


def _check_sizes(file: np.lib.npyio.NpzFile, path: Path) -> None:
    """Raises UserError if the arrays are larger than those of any head or capture, or than their bytes in the file."""
    assert file.zip is not None  # an open file
    entries = file.zip.infolist()
    held = sum(entry.file_size for entry in entries)
    if held > LARGEST_NPZ:
        raise UserError(f"{path}: unpacks to {held / 2**30:.1f} GiB, more than this program reads; export it again")
    for entry in entries:
        with file.zip.open(entry) as member:
            shape, dtype = npy_header(member)
        if dtype is not None and not dtype.hasobject and prod(shape) * dtype.itemsize > entry.file_size:
            raise UserError(f"{path}: {plain(entry.filename)} claims to hold {shape}, more than its bytes; export it again")


def _get(keys: Mapping[str, Any], key: str, path: Path) -> np.ndarray:
    if key not in keys:
        raise UserError(f"{path}: lacks {key}; it holds {', '.join(sorted(map(str, keys))) or 'nothing'}")
    value = np.asarray(keys[key])
    if value.dtype.kind not in "biuf":
        raise UserError(f"{path}: {key} holds no numbers but {value.dtype}")
    return value


def _fit(value: np.ndarray, key: str, path: Path, shape: tuple[int | str, ...]) -> None:
    if value.ndim != len(shape) or any(isinstance(s, int) and n != s for n, s in zip(value.shape, shape, strict=False)):
        raise UserError(f"{path}: {key} has shape {value.shape}, want ({', '.join(map(str, shape))})")
