"""The FLAME parameters of a capture or a motion, one row for each timestep, as flame_param.npz holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.files.npz import load_npz
from taichi_avatars.head.flame import FlameModel, HeadMesh, ShapedHead
from taichi_avatars.head.pose import KEYS, MOVING, PARTS, SIZES, HeadPose, Part


def columns(table: Tensor, widths: Mapping[str, int]) -> dict[str, Tensor]:
    """Views of the parts that are adjacent in a table's last axis, by key."""
    return dict(zip(widths, table.split(list(widths.values()), -1), strict=True))


@dataclass(eq=False)
class FlameSequence:
    """FLAME parameters over time. Axis-angles in radians, metres, float32.

    Attributes:
        timesteps: T timestep indices of the dataset, sorted, not necessarily contiguous or from 0.
        shape: (S,).
        expr: (T,E).
        rotation, translation: (T,3).
        neck_pose, jaw_pose: (T,3), or None for a head without that joint.
        eyes_pose: (T,6), left then right, or None.
        static_offset: (V,3) or None.
        dynamic_offset: (T,V,3) or None.
    """

    timesteps: list[int]
    shape: Tensor
    expr: Tensor
    rotation: Tensor
    neck_pose: Tensor | None
    jaw_pose: Tensor | None
    eyes_pose: Tensor | None
    translation: Tensor
    static_offset: Tensor | None = None
    dynamic_offset: Tensor | None = None
    _shaped: tuple[tuple, ShapedHead] | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.timesteps)

    def row(self, timestep: int) -> int:
        """The row of one of the dataset's timesteps.

        Raises:
            UserError: if there is none.
        """
        try:
            return self.timesteps.index(timestep)
        except ValueError:
            raise UserError(f"timestep {timestep}: there is none; {_listing(self.timesteps)}") from None

    def table(self) -> Tensor:
        """(T,P) all parameters of each timestep except the dynamic offset, in the order of `moving`."""
        return torch.cat(list(self.moving().values()), 1)

    def with_table(self, table: Tensor) -> FlameSequence:
        """The same sequence with other values (T,P), in the order of `table`."""
        return replace(self, **columns(table, self.widths()))

    def some(self, rows: list[int] | slice) -> FlameSequence:
        """The same sequence in some of its rows."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        values = {key: value[rows] for key, value in self.moving().items()}
        offset = None if self.dynamic_offset is None else self.dynamic_offset[rows]
        return replace(self, timesteps=[self.timesteps[row] for row in chosen], **values, dynamic_offset=offset)

    def widths(self) -> dict[str, int]:
        """The size of each part of `moving`."""
        return {key: values.shape[1] for key, values in self.moving().items()}

    def mesh(self, head: FlameModel, row: int) -> HeadMesh:
        """The posed head of a row. Differentiable in all parameters that require a gradient."""
        return head.pose(self.shaped(head), self.pose(row))

    def vertices(self, head: FlameModel, rows: slice) -> Tensor:
        """(N,V,3) the posed heads of some rows, metres. Differentiable in all parameters that require a gradient."""
        return head.pose(self.shaped(head), self.pose(rows)).vertices

    def moving(self) -> dict[str, Tensor]:
        """Expressions and the parts of the pose over time, by their keys in files; without the dynamic offset."""
        return {key: value for key in MOVING if (value := getattr(self, key)) is not None}

    def facing(self, rows: list[int] | Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """(N,3,3): the rotation of the head in these rows, by the root and the neck."""
        joints = [values for values in (self.rotation, self.neck_pose) if values is not None]
        first, *more = (roma.rotvec_to_rotmat(values.detach()[rows].to(dtype)) for values in joints)
        return first @ more[0] if more else first

    def pose(self, row: int | slice) -> HeadPose:
        """The pose of a row, or of several; parts that the sequence does not have are None."""
        values = {key: getattr(self, key) for key in KEYS}
        return HeadPose.of_keys({key: None if value is None else value[row] for key, value in values.items()})

    def shaped(self, head: FlameModel) -> ShapedHead:
        """The head before expression and pose; computed once, unless shape or static offset require a gradient or change."""
        parts = [t for t in (self.shape, self.static_offset) if t is not None]
        if any(t.requires_grad or t.is_inference() for t in parts):  # a change of the latter cannot be detected
            return head.shaped(self.shape, self.static_offset)
        key = (head, *((t, t._version) for t in parts))
        if self._shaped is None or not _same(self._shaped[0], key):
            with torch.no_grad():
                self._shaped = (key, head.shaped(self.shape, self.static_offset))
        return self._shaped[1]

    def fit(self, head: FlameModel) -> FlameSequence:
        """The same parameters for this head; fewer coefficients or vertices are padded with zeros.

        Raises:
            UserError: naming both numbers if there are more than the head has.
        """
        return replace(
            self,
            shape=_pad("shape", self.shape, 0, head.n_shape, "shape components"),
            expr=_pad("expr", self.expr, 1, head.n_expr, "expression components"),
            static_offset=self.static_offset
            if self.static_offset is None
            else _pad("static_offset", self.static_offset, 0, head.num_vertices, "vertices"),
            dynamic_offset=self.dynamic_offset
            if self.dynamic_offset is None
            else _pad("dynamic_offset", self.dynamic_offset, 1, head.num_vertices, "vertices"),
        )

    @staticmethod
    def load_npz(path: Path | str, head: FlameModel | None = None, parts: Sequence[Part] = PARTS) -> FlameSequence:
        """Parameters from flame_param.npz of an avatar, from a motion file, or from a tracker's output with the same keys.

        Args:
            head: the parameters are padded to its size; None: as they are in the file.
            parts: of the pose, that the file must hold; those of the head, if that is given.

        Raises:
            UserError: naming the file and the key that is missing, of the wrong shape, NaN, or too large for the head.
        """
        return FlameSequence.from_arrays(load_npz(path), Path(path), head, parts)

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, np.ndarray], path: Path, head: FlameModel | None = None, parts: Sequence[Part] = PARTS
    ) -> FlameSequence:
        """The same from arrays that have already been read; `path` is used in errors."""
        parameters = _read(arrays, path, parts if head is None else head.parts)
        count = len(parameters["expr"])
        timesteps = parameters.pop("timesteps", torch.arange(count)).tolist()
        sequence = FlameSequence(timesteps, **parameters)
        return sequence if head is None else _fitted(sequence, head, path)

    @staticmethod
    def from_frames(frames: Mapping[int, Path], head: FlameModel | None = None, parts: Sequence[Part] = PARTS) -> FlameSequence:
        """Parameters from one npz per timestep. Shape and static offset are those of the first.

        Args:
            frames: the file of each of the dataset's timesteps.

        Raises:
            UserError: as `load_npz`, and if there are no frames or a file holds more than one timestep.
        """
        if not frames:
            raise UserError("there are no FLAME parameters: want at least one timestep")
        rows: list[FlameSequence] = []
        for timestep in sorted(frames):
            one = FlameSequence.load_npz(frames[timestep], head, parts)
            if len(one) != 1:
                raise UserError(f"{frames[timestep]}: holds {len(one)} timesteps, want one")
            if rows and one.expr.shape != rows[0].expr.shape:
                raise UserError(
                    f"{frames[timestep]}: expr has {one.expr.shape[1]} components, the timesteps before {rows[0].expr.shape[1]}"
                )
            rows.append(one)
        stacked = {key: torch.cat([getattr(one, key) for one in rows]) for key in rows[0].moving()}
        offsets = [one.dynamic_offset for one in rows]
        known = next((o for o in offsets if o is not None), None)
        if known is not None:
            stacked["dynamic_offset"] = torch.cat([torch.zeros_like(known) if o is None else o for o in offsets])
        return replace(rows[0], timesteps=sorted(frames), **stacked)

    def save_npz(self, path: Path | str, *, full_for: int | None = None) -> None:
        """Writes flame_param.npz, as other tools read it: numbers only.

        Args:
            full_for: V: offsets are written even where they are zero, and a row for every number up to the last timestep.
                The reference's own tools require that, and it is large.
        """
        arrays: dict[str, Any] = {key: value.detach().numpy() for key, value in self.moving().items()}
        static, dynamic = (None if t is None else t.detach().numpy() for t in (self.static_offset, self.dynamic_offset))
        timesteps, full = np.array(self.timesteps, np.int64), full_for is not None and min(self.timesteps, default=0) >= 0
        if full_for is not None and full:
            static = np.zeros((full_for, 3), np.float32) if static is None else static
            arrays["dynamic_offset"] = np.zeros((len(self), full_for, 3), np.float32) if dynamic is None else dynamic
            arrays = {name: _by_timestep(values, timesteps) for name, values in arrays.items()}
        elif dynamic is not None and dynamic.any():
            arrays["dynamic_offset"] = dynamic
        if not full and self.timesteps != list(range(len(self))):
            arrays["timesteps"] = timesteps
        if static is not None:
            arrays["static_offset"] = static[None]
        arrays["shape"] = self.shape.detach().numpy()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


def _by_timestep(rows: np.ndarray, timesteps: np.ndarray) -> np.ndarray:
    """Row t for timestep t, zeros where there is none."""
    table = np.zeros((int(timesteps.max(initial=-1)) + 1, *rows.shape[1:]), rows.dtype)
    table[timesteps] = rows
    return table


def _same(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and a[0] is b[0] and all(x[0] is y[0] and x[1] == y[1] for x, y in zip(a[1:], b[1:], strict=True))


def _listing(timesteps: list[int]) -> str:
    if not timesteps:
        return "the sequence is empty"
    return f"the {len(timesteps)} known ones run from {timesteps[0]} to {timesteps[-1]}"


def _pad(name: str, value: Tensor, axis: int, size: int, what: str) -> Tensor:
    have = value.shape[axis]
    if have > size:
        raise UserError(f"{name} holds {have} {what}, but the head has {size}: choose the head that the file was made for")
    if have == size:
        return value
    extra = list(value.shape)
    extra[axis] = size - have
    return torch.cat([value, value.new_zeros(extra)], axis)


def _fitted(sequence: FlameSequence, head: FlameModel, path: Path) -> FlameSequence:
    try:
        return sequence.fit(head)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(keys: Mapping[str, np.ndarray], path: Path, parts: Sequence[Part]) -> dict[str, Any]:
    """The parameters in a file, with a time axis where needed, all of the same length; None for absent parts."""
    sizes = {part.key: part.size for part in parts}
    missing = [key for key in ("shape", *MOVING) if key not in keys and (key not in SIZES or key in sizes)]
    if missing:
        raise UserError(f"{path}: lacks {', '.join(missing)}; it holds {', '.join(sorted(keys)) or 'nothing'}; export it again")
    for key in SIZES:
        if key not in sizes and np.any(keys.get(key, 0)):
            raise UserError(f"{path}: {key} is not 0, but the head has no such joint: choose the head that the file is for")
    known = ("shape", "expr", *sizes, "static_offset", "dynamic_offset")
    values = {key: _tensor(keys[key], key, path) for key in known if key in keys and keys[key].size + (key == "expr")}
    values["shape"] = _one_shape(values.get("shape", torch.zeros(0, dtype=torch.float32)), path)
    out: dict[str, Any] = dict.fromkeys(SIZES)
    out["shape"] = _form(values, "shape", ("S",), path)
    for key, size in {"expr": "E", **sizes}.items():
        out[key] = _form(values, key, ("T", size), path)
    if "static_offset" in values:
        out["static_offset"] = _form(values, "static_offset", ("V", 3), path)
    if "dynamic_offset" in values and bool(values["dynamic_offset"].any()):  # files of older tools hold 62 kB of zeros per row
        out["dynamic_offset"] = _form(values, "dynamic_offset", ("T", "V", 3), path)
    count = len(out["expr"])
    for key in (*sizes, "dynamic_offset"):
        if key in out and len(out[key]) != count:
            raise UserError(f"{path}: {key} holds {len(out[key])} timesteps, expr {count}; export it again")
    if "timesteps" in keys:
        out["timesteps"] = torch.from_numpy(np.asarray(keys["timesteps"], np.int64))
        if out["timesteps"].shape != (count,) or bool((out["timesteps"].diff() <= 0).any()):
            raise UserError(f"{path}: timesteps must be {count} increasing numbers; export it again")
    return out


def _one_shape(shape: Tensor, path: Path) -> Tensor:
    """One shape, also from trackers that repeat it for every timestep."""
    if shape.ndim != 2:
        return shape
    differing = (shape != shape[:1]).any(1).nonzero()
    if len(differing):
        raise UserError(
            f"{path}: shape has {len(shape)} rows, and row {int(differing[0])} differs from the first: one person has one "
            "shape; keep one row"
        )
    return shape[0]


def _tensor(value: np.ndarray, key: str, path: Path) -> Tensor:
    if value.dtype.kind not in "biuf":
        raise UserError(f"{path}: {key} holds no numbers but {value.dtype}; export it again")
    tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"{path}: {key} holds NaN or infinite numbers: track this capture again, or repair the file")
    return tensor


def _form(values: Mapping[str, Tensor], key: str, shape: tuple[int | str, ...], path: Path) -> Tensor:
    """The value in the expected shape; files may have a leading axis of 1 or not."""
    if key not in values:
        raise UserError(f"{path}: {key} is empty; export it again")
    value = values[key]
    if value.ndim == len(shape) + 1 and len(value) == 1:
        value = value[0]
    elif value.ndim == len(shape) - 1 and shape[0] == "T":
        value = value[None]
    fits = value.ndim == len(shape) and all(isinstance(s, str) or n == s for n, s in zip(value.shape, shape, strict=True))
    if not fits:
        raise UserError(
            f"{path}: {key} has shape {tuple(values[key].shape)}, want ({', '.join(map(str, shape))}); export it again"
        )
    return value
