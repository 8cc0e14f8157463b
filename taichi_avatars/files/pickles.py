"""Reading pickles without executing them: arrays, sparse matrices, chumpy holders and torch tensors become numpy arrays.

A pickle is a program: it names classes and functions, and calls them. Here every name resolves to one of the inert classes
below, none of which imports, calls or evaluates anything, or to an error. Not even numpy's own constructors are exposed, since
a forged dtype makes them read pointers from the file.
"""

from __future__ import annotations

import io
import pickle
import struct
import tokenize
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged, told_apart

# Errors that numpy, including its header parser, raises for broken or forged files.
BROKEN = (
    *(ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, MemoryError, RecursionError),
    *(SyntaxError, RuntimeError, NotImplementedError, AttributeError, zlib.error, struct.error, tokenize.TokenError),
)


def load_pickle(path: Path | str) -> Any:
    """The content of a pickle, Python 2's included, with every array as a numpy array.

    Raises:
        UserError: if the file is missing or broken, or names a class that is not on the list; nothing in it is executed.
    """
    path = Path(path)
    with told_apart(path), path.open("rb") as file:
        return read_pickle(file, str(path))


def load_npy(path: Path | str) -> Any:
    """The content of an .npy that may hold a pickled object.

    Raises:
        UserError: as `load_pickle`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            shape, dtype = npy_header(file)
            if dtype is None:
                raise ValueError("it has no valid header")
            if min(shape, default=0) < 0:  # numpy before 2 reads whatever there is
                raise ValueError(f"it claims to hold {shape}")
            if prod(shape) * dtype.itemsize > path.stat().st_size and not dtype.hasobject:
                raise ValueError(f"it claims to hold {shape}, more than its bytes")
            if dtype.hasobject:
                content = read_pickle(file, str(path))
                return content.item() if isinstance(content, np.ndarray) and shape == () else content
        return np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except UserError:
        raise
    except BROKEN as error:
        raise damaged(path, f"is not a complete .npy file ({plain(error)})", "copy it again") from None


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype | None]:
    """Shape and type that the .npy at the beginning of a file claims to hold; no type if it is not one."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except BROKEN:
        return (), None
    return shape, dtype


def read_pickle(file: BinaryIO, name: str) -> Any:
    """One pickle from an open file; `name` is used in errors."""
    try:
        return _plain(_Unpickler(file, encoding="latin1").load())
    except UserError as error:
        raise UserError(f"{name}: {plain(error)}") from None
    except Exception as error:  # a forged pickle can fail in any way that Python can
        raise UserError(
            f"{name}: is not a complete pickle of arrays ({type(error).__name__}: {plain(error)}); copy it again"
        ) from None


def plain(error: object) -> str:
    """The message without control characters, which a forged name could contain."""
    return "".join(c if c.isprintable() else "?" for c in str(error))[:300]


class _Sealed(type):
    """Metaclass of classes that a pickle may hold but not change."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise UserError(f"the pickle tries to change {cls.__name__}.{name}: refused")


class _Inert(metaclass=_Sealed):
    state: Any = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def plain(self) -> Any:
        return None


class _Dtype(_Inert):
    """numpy.dtype: simple numbers, text and object only."""

    def __init__(self, code: Any, *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        if any(part is not None for part in state[2:5]):
            raise UserError("holds an array of records, which no FLAME file has: refused")
        self.order = str(state[1])

    @property
    def is_object(self) -> bool:
        return self.code[:1] == "O"

    def resolve(self) -> np.dtype:
        dtype = np.dtype(self.code)
        if dtype.kind not in "biufSU":
            raise UserError(f"holds an array of type {self.code!r}, which no FLAME file has: refused")
        if self.order == ">":
            return dtype.newbyteorder(">")
        return dtype.newbyteorder("<") if self.order == "<" else dtype


class _Array(_Inert):
    """numpy.ndarray, with the state in its pickle."""

    def plain(self) -> np.ndarray:
        *_, shape, dtype, fortran, content = self.state
        if dtype.is_object:
            out = np.empty(len(content), dtype=object)
            for i, item in enumerate(content):
                out[i] = _plain(item)
            return out.reshape(shape)
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        return np.frombuffer(raw, dtype.resolve()).reshape(shape, order="F" if fortran else "C")


class _Reconstruct(_Inert):
    def __new__(cls, *_: object) -> Any:
        return _Array()


class _Scalar(_Inert):
    def __new__(cls, dtype: _Dtype, content: Any = None) -> Any:
        if dtype.is_object:
            return content
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        return np.frombuffer(raw, dtype.resolve())[0]


class _FromBuffer(_Inert):
    def __new__(cls, content: Any, dtype: _Dtype, shape: Any, order: str) -> Any:
        array = _Array()
        array.state = (1, shape, dtype, order == "F", content)
        return array


class _Holder(_Inert):
    """An instance of chumpy's or scipy's: its data without its behaviour."""

    name = ""

    def field(self, *names: str) -> Any:
        for name in names:
            if isinstance(self.state, dict) and name in self.state:
                return _plain(self.state[name])
        raise UserError(f"holds a {self.name} without {' or '.join(names)}: cannot be read")


class _Chumpy(_Holder):
    def plain(self) -> np.ndarray:
        if self.name.endswith(".Select"):  # chumpy's lazy indexing
            chosen = np.asarray(self.field("a")).ravel()[np.asarray(self.field("idxs"))]
            return chosen.reshape(self.field("preferred_shape")) if "preferred_shape" in self.state else chosen
        return self.field("x")


class _Sparse(_Holder):
    """A scipy.sparse matrix, converted to dense."""

    def plain(self) -> np.ndarray:
        shape = tuple(int(n) for n in self.field("_shape", "shape"))
        data = np.asarray(self.field("data"))
        if "coo" in self.name:
            row, column = self.field("coords") if "coords" in self.state else (self.field("row"), self.field("col"))
        else:
            starts, inner = np.asarray(self.field("indptr")), np.asarray(self.field("indices"))
            outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            row, column = (outer, inner) if "csr" in self.name else (inner, outer)
        if len(shape) != 2 or prod(shape) > 1 << 28 or np.any(np.less(row, 0)) or np.any(np.less(column, 0)):
            raise UserError(f"holds a sparse matrix of shape {shape} that is broken or too large")
        dense = np.zeros(shape, data.dtype)
        np.add.at(dense, (row, column), data)
        return dense


class _Tensor(_Inert):
    """torch's _rebuild_tensor and _rebuild_tensor_v2."""

    def __new__(cls, storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> Any:
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if not isinstance(storage, np.ndarray) or min((offset, *size, *stride)) < 0 or prod(size) > storage.size:
            raise UserError("holds a broken torch tensor")
        if prod(size) and last >= storage.size:
            raise UserError("holds a torch tensor that reaches past its storage")
        steps = tuple(step * storage.itemsize for step in stride)
        return np.lib.stride_tricks.as_strided(storage[offset:], tuple(size), steps).copy()


class _Parameter(_Inert):
    def __new__(cls, data: Any, *_: object) -> Any:
        return data


class _StorageBytes(_Inert):
    """torch.storage._load_from_bytes: a storage inside a pickle is torch's old file format, as bytes."""

    def __new__(cls, content: Any) -> Any:
        file = io.BytesIO(content.encode("latin1") if isinstance(content, str) else content)
        for _ in range(3):  # magic number, version, machine
            _Unpickler(file, encoding="latin1").load()
        reader = _Unpickler(file, encoding="latin1")
        storage = reader.load()
        _Unpickler(file, encoding="latin1").load()  # keys of the storages, of which there is one
        if not isinstance(storage, _Storage) or not isinstance(storage.count, int):
            raise UserError("holds a torch storage that cannot be read")
        (count,) = struct.unpack("<q", file.read(8))
        raw = file.read()
        dtype = np.dtype(storage.dtype)
        if count != storage.count or count < 0 or len(raw) != count * dtype.itemsize:
            raise UserError("holds a torch storage that is cut off")
        return np.frombuffer(raw, dtype)


class _Storage(_Inert):
    def __init__(self, dtype: str, count: Any) -> None:
        self.dtype, self.count = dtype, count


class _OrderedDict(dict, metaclass=_Sealed):
    def __setstate__(self, state: Any) -> None:
        pass


class _Bytes(_Inert):
    """Bytes as Python 3 writes them for Python 2: `_codecs.encode(text, "latin1")`, or `bytes()`."""

    def __new__(cls, text: Any = "", *_: object) -> Any:
        if not isinstance(text, str):
            raise UserError("holds bytes that are not text")
        return text.encode("latin1")


class _Object(_Inert):
    """`object`, which pickles of Python 2 name as the base of an instance."""


class _Instance(_Inert):
    """copy_reg._reconstructor(class, object, None)."""

    def __new__(cls, kind: Any, *_: object) -> Any:
        if not (isinstance(kind, type) and issubclass(kind, _Inert)):
            raise UserError("builds an instance of something that is no class of a FLAME file")
        return kind()


_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_KNOWN: dict[str, type] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "torch._utils._rebuild_tensor": _Tensor,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _Parameter,
    "torch.storage._load_from_bytes": _StorageBytes,
    "collections.OrderedDict": _OrderedDict,
    "_codecs.encode": _Bytes,
    **{f"{core}.multiarray._reconstruct": _Reconstruct for core in ("numpy.core", "numpy._core")},
    **{f"{core}.multiarray.scalar": _Scalar for core in ("numpy.core", "numpy._core")},
    **{f"{core}.numeric._frombuffer": _FromBuffer for core in ("numpy.core", "numpy._core")},
    **{f"{module}._reconstructor": _Instance for module in ("copy_reg", "copyreg")},
    **{f"{module}.object": _Object for module in ("__builtin__", "builtins")},
    **{f"{module}.bytes": _Bytes for module in ("__builtin__", "builtins")},
    **{f"{module}.set": set for module in ("__builtin__", "builtins")},
    **{f"{module}.frozenset": frozenset for module in ("__builtin__", "builtins")},
}
_SPARSE = ("csr_matrix", "csc_matrix", "coo_matrix", "csr_array", "csc_array", "coo_array")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _KNOWN[full]
        if module == "torch" and name in _STORAGES:
            return _Sealed(name, (_Inert,), {"dtype": _STORAGES[name]})
        if module.split(".")[0] == "chumpy" and "." not in name:
            return _Sealed(name, (_Chumpy,), {"name": full})
        if module.startswith("scipy.sparse") and name in _SPARSE:
            return _Sealed(name, (_Sparse,), {"name": full})
        raise UserError(
            f"names {full}, which is no array, sparse matrix, chumpy holder or torch tensor; refused, and nothing of it was run"
        )

    def persistent_load(self, pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and hasattr(pid[1], "dtype"):
            return _Storage(pid[1].dtype, pid[4])
        raise UserError(f"refers to something outside itself ({str(pid)[:60]}): refused")


def _plain(value: Any) -> Any:
    """The unpickler's result with every holder replaced by its contents."""
    if isinstance(value, _Inert):
        return value.plain()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
