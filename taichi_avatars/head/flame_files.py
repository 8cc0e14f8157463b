"""The files that describe a head, as plain arrays: FLAME's pickles, the same as npz, region masks, landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.npz import load_npz
from taichi_avatars.files.pickles import load_npy, load_pickle

JOINTS = 5
PARENTS = (-1, 0, 1, 1, 1)
FLAME_VERTICES, FLAME_FACES = 5023, 9976
FLAME_IDENTITY = 300  # of the 400 components of the original files, the first are identity and the rest expression


@dataclass(frozen=True)
class HeadArrays:
    """A head model, float32 and int64, metres.

    Attributes:
        v_template: (V,3).
        shapedirs, exprdirs: (V,3,S) and (V,3,E), identity and expression components.
        posedirs: (V,3,36) pose correctives, or None where the model has none.
        regressor: (V,5), joints root, neck, jaw, left eye, right eye from vertices.
        weights: (V,5), skinning.
        faces: (F,3).
        uv: (F,3,2) texture coordinates of each corner, or None.
        landmarks: faces (L,) and barycentric weights (L,3), or None.
        regions: vertex ids by name.
        expression_names: of the E components, or None.
        name: of a model that has one.
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    exprdirs: np.ndarray
    posedirs: np.ndarray | None
    regressor: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    landmarks: tuple[np.ndarray, np.ndarray] | None = None
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    expression_names: list[str] | None = None
    name: str | None = None

    @property
    def has_flame_topology(self) -> bool:
        return len(self.v_template) == FLAME_VERTICES and len(self.faces) == FLAME_FACES


def read_head(path: Path | str) -> HeadArrays:
    """A head model from FLAME's .pkl, read without running it, or from an .npz with the same keys.

    Raises:
        UserError: naming the file and what of it is missing, refused or of the wrong shape.
    """
    path = Path(path)
    if path.suffix == ".npz":
        return head_from_keys(load_npz(path), path)
    if path.suffix == ".pkl":
        content = load_pickle(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: holds a {type(content).__name__}, want FLAME's dictionary of arrays")
        return head_from_keys(content, path)
    raise UserError(f"{path}: is not a head model: want FLAME's .pkl, or an .npz with the same keys")


def head_from_keys(keys: Mapping[str, Any], path: Path) -> HeadArrays:
    """A head model from arrays with FLAME's names; `path` is for the errors."""
    template = _array(keys, "v_template", path, ("V", 3))
    n_vertices = len(template)
    components = _array(keys, "shapedirs", path, (n_vertices, 3, "K"))
    n_shape = _count(keys, "n_shape", FLAME_IDENTITY, components.shape[2], path)
    n_expr = _count(keys, "n_expr", components.shape[2] - n_shape, components.shape[2] - n_shape, path)
    faces = _indices(keys, "f", path, ("F", 3), n_vertices)
    posedirs = _array(keys, "posedirs", path, (n_vertices, 3, 9 * (JOINTS - 1))) if "posedirs" in keys else None
    if "kintree_table" in keys:
        _check_parents(np.asarray(keys["kintree_table"]), path)
    names = [str(n) for n in np.asarray(keys["expression_names"]).tolist()] if "expression_names" in keys else None
    if names is not None and len(names) != n_expr:
        raise UserError(f"{path}: expression_names holds {len(names)} names, want {n_expr}")
    return HeadArrays(
        v_template=template,
        shapedirs=components[..., :n_shape],
        exprdirs=components[..., n_shape : n_shape + n_expr],
        posedirs=posedirs if posedirs is not None and posedirs.any() else None,
        regressor=np.ascontiguousarray(_regressor(keys, n_vertices, path).T),
        weights=_array(keys, "weights", path, (n_vertices, JOINTS)),
        faces=faces,
        uv=_uv(keys, len(faces), path),
        landmarks=landmarks_from_keys(keys, len(faces), path) if "full_lmk_faces_idx" in keys else None,
        regions={
            key.removeprefix("region_"): _indices(keys, key, path, ("N",), n_vertices)
            for key in keys
            if key.startswith("region_")
        },
        expression_names=names,
        name=str(np.asarray(keys["name"])) if "name" in keys else None,
    )


def read_masks(path: Path | str, n_vertices: int) -> dict[str, np.ndarray]:
    """Vertex ids by region name, from FLAME_masks.pkl or an .npz with the same names.

    Raises:
        UserError: naming the file and the region.
    """
    path = Path(path)
    content = load_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, want a dictionary of region names")
    return {str(name): _indices(content, name, path, ("N",), n_vertices) for name in content}


def read_landmarks(path: Path | str, n_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces (L,) and barycentric weights (L,3) of the landmarks, from FLAME's landmark_embedding_with_eyes.npy or an .npz.

    Raises:
        UserError: naming the file and what of it is missing or wrong.
    """
    path = Path(path)
    content = load_npz(path) if path.suffix == ".npz" else load_npy(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no dictionary, want one with full_lmk_faces_idx and full_lmk_bary_coords")
    return landmarks_from_keys(content, n_faces, path)


def landmarks_from_keys(keys: Mapping[str, Any], n_faces: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    flat = {key: np.squeeze(np.asarray(keys[key])) for key in ("full_lmk_faces_idx", "full_lmk_bary_coords") if key in keys}
    faces = _indices(flat, "full_lmk_faces_idx", path, ("L",), n_faces)
    return faces, _array(flat, "full_lmk_bary_coords", path, (len(faces), 3))


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


def _array(keys: Mapping[str, Any], key: str, path: Path, shape: tuple[int | str, ...]) -> np.ndarray:
    value = _get(keys, key, path)
    _fit(value, key, path, shape)
    value = np.array(value, dtype=np.float32, order="C")
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {key} holds NaN or infinite numbers")
    return value


def _indices(keys: Mapping[str, Any], key: str, path: Path, shape: tuple[int | str, ...], count: int) -> np.ndarray:
    value = _get(keys, key, path)
    _fit(value, key, path, shape)
    if value.dtype.kind == "f" and value.size:
        raise UserError(f"{path}: {key} holds {value.dtype} numbers, want indices")
    value = np.array(value, dtype=np.int64, order="C")
    if value.size and not 0 <= value.min() <= value.max() < count:
        raise UserError(f"{path}: {key} holds indices from {value.min()} to {value.max()}, want 0 to {count - 1}")
    return value


def _count(keys: Mapping[str, Any], key: str, default: int, most: int, path: Path) -> int:
    count = int(np.asarray(keys[key])) if key in keys else min(default, most)
    if not 0 <= count <= most:
        raise UserError(f"{path}: {key} is {count}, but shapedirs has room for {most}")
    return count


def _check_parents(table: np.ndarray, path: Path) -> None:
    parents = table[0].astype(np.uint32).astype(np.int32) if table.shape == (2, JOINTS) else table  # 4294967295 means none
    if table.shape != (2, JOINTS) or tuple(parents.tolist()) != PARENTS:
        raise UserError(f"{path}: kintree_table is {table.tolist()}, want the parents {list(PARENTS)} of FLAME's five joints")


def _regressor(keys: Mapping[str, Any], n_vertices: int, path: Path) -> np.ndarray:
    if "J_indptr" not in keys:
        return _array(keys, "J_regressor", path, (JOINTS, n_vertices))
    data, starts = _array(keys, "J_data", path, ("N",)), _indices(keys, "J_indptr", path, (JOINTS + 1,), 1 << 62)
    columns = _indices(keys, "J_indices", path, (len(data),), n_vertices)
    if starts[0] != 0 or starts[-1] != len(data) or np.any(np.diff(starts) < 0):
        raise UserError(f"{path}: J_indptr is {starts.tolist()}, want rows that cover the {len(data)} numbers of J_data")
    dense = np.zeros((JOINTS, n_vertices), np.float32)
    np.add.at(dense, (np.repeat(np.arange(JOINTS), np.diff(starts)), columns), data)
    return dense


def _uv(keys: Mapping[str, Any], n_faces: int, path: Path) -> np.ndarray | None:
    if "vt" not in keys:
        return None
    points = _array(keys, "vt", path, ("U", 2))
    return points[_indices(keys, "ft", path, (n_faces, 3), len(points))]
