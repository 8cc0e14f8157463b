"""The files that describe a head, as plain arrays: FLAME's pickles, their npz form, GNM's npz, region masks, landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.npz import float_array, index_array, load_npz
from taichi_avatars.files.pickles import load_npy, load_pickle
from taichi_avatars.head.gnm_files import MARK, own_keys
from taichi_avatars.head.pose import ROLES

JOINTS = 5
PARENTS = (-1, 0, 1, 1, 1)
FLAME_VERTICES, FLAME_FACES = 5023, 9976
FLAME_IDENTITY = 300  # of the 400 components of the original files, the first 300 are identity and the rest expression


@dataclass(frozen=True)
class HeadArrays:
    """A head model, float32 and int64, metres.

    Attributes:
        v_template: (V,3).
        shapedirs, exprdirs: (V,3,S) and (V,3,E), identity and expression components.
        posedirs: (V,3,9C) pose correctives of the last C joints, or None if the model has none.
        joints: joints from vertices (V,J); or template (J,3) and identity components (J,3,S) of the joints themselves.
        weights: (V,J), skinning.
        faces: (F,3).
        roles: the role of each of the J joints, in the order of `pose.ROLES`; the first is the root.
        parents: the parent of each joint, which precedes it.
        kind: "flame", or "gnm" for a head whose joints follow from identity alone.
        uv: (F,3,2) texture coordinates of each corner, or None.
        landmarks: faces (L,) and barycentric weights (L,3), or None.
        regions: vertex ids by name.
        expression_names: of the E components, or None.
        name: of the model, if it has one.
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    exprdirs: np.ndarray
    posedirs: np.ndarray | None
    joints: np.ndarray | tuple[np.ndarray, np.ndarray]
    weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    landmarks: tuple[np.ndarray, np.ndarray] | None = None
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    expression_names: list[str] | None = None
    name: str | None = None
    roles: tuple[str, ...] = ROLES
    parents: tuple[int, ...] = PARENTS

    @property
    def kind(self) -> str:
        return "gnm" if isinstance(self.joints, tuple) else "flame"

    @property
    def has_flame_topology(self) -> bool:
        return len(self.v_template) == FLAME_VERTICES and len(self.faces) == FLAME_FACES


def read_head(path: Path | str) -> HeadArrays:
    """A head model from FLAME's .pkl, read without executing it, from an .npz with the same keys, or from GNM's npz.

    Raises:
        UserError: naming the file and what in it is missing, refused or of the wrong shape.
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
    """A head model from arrays with FLAME's names, or with GNM's; `path` is used in errors."""
    if MARK in keys:
        keys = own_keys(keys, path)
    template = float_array(keys, "v_template", path, ("V", 3))
    n_vertices = len(template)
    components = float_array(keys, "shapedirs", path, (n_vertices, 3, "K"))
    n_shape = _count(keys, "n_shape", FLAME_IDENTITY, components.shape[2], path)
    n_expr = _count(keys, "n_expr", components.shape[2] - n_shape, components.shape[2] - n_shape, path)
    faces = index_array(keys, "f", path, ("F", 3), n_vertices)
    joints: np.ndarray | tuple[np.ndarray, np.ndarray]
    if "J_template" in keys:
        roles, parents = _tree(keys, path)
        j_template = float_array(keys, "J_template", path, (len(roles), 3))
        joints, corrected = (j_template, float_array(keys, "J_shapedirs", path, (len(roles), 3, n_shape))), len(roles)
    else:
        roles, parents = ROLES, PARENTS
        if "kintree_table" in keys:
            _check_parents(np.asarray(keys["kintree_table"]), path)
        joints, corrected = np.ascontiguousarray(_regressor(keys, n_vertices, path).T), JOINTS - 1
    posedirs = float_array(keys, "posedirs", path, (n_vertices, 3, 9 * corrected)) if "posedirs" in keys else None
    names = [str(n) for n in np.asarray(keys["expression_names"]).tolist()] if "expression_names" in keys else None
    if names is not None and len(names) != n_expr:
        raise UserError(f"{path}: expression_names holds {len(names)} names, want {n_expr}")
    return HeadArrays(
        v_template=template,
        shapedirs=components[..., :n_shape],
        exprdirs=components[..., n_shape : n_shape + n_expr],
        posedirs=posedirs if posedirs is not None and posedirs.any() else None,
        joints=joints,
        weights=float_array(keys, "weights", path, (n_vertices, len(roles))),
        faces=faces,
        uv=_uv(keys, len(faces), path),
        landmarks=landmarks_from_keys(keys, len(faces), path) if "full_lmk_faces_idx" in keys else None,
        regions={
            key.removeprefix("region_"): index_array(keys, key, path, ("N",), n_vertices)
            for key in keys
            if key.startswith("region_")
        },
        expression_names=names,
        name=str(np.asarray(keys["name"])) if "name" in keys else None,
        roles=roles,
        parents=parents,
    )


def _tree(keys: Mapping[str, Any], path: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Roles and parents of the joints of a head that is not FLAME's."""
    names = tuple(str(name) for name in np.asarray(keys.get("joint_names", ())).tolist())
    if names[:1] != ("root",) or list(names) != [role for role in ROLES if role in names]:
        raise UserError(f"{path}: joint_names are {', '.join(names) or 'missing'}; want root and any of {', '.join(ROLES[1:])}")
    if len({"left eye", "right eye"} & set(names)) == 1:
        raise UserError(f"{path}: joint_names holds one eye; want both or none")
    table = np.asarray(keys.get("kintree_table", ()))
    parents = table[0].tolist() if table.shape == (2, len(names)) and table.dtype.kind in "iu" else [-1] * len(names)
    if any(not 0 <= parent < j for j, parent in enumerate(parents) if j):
        raise UserError(f"{path}: kintree_table is {table.tolist()}; want the parent of each joint before it")
    return names, (-1, *parents[1:])


def read_masks(path: Path | str, n_vertices: int) -> dict[str, np.ndarray]:
    """Vertex ids by region name, from FLAME_masks.pkl or an .npz with the same names.

    Raises:
        UserError: naming the file and the region.
    """
    path = Path(path)
    content = load_npz(path) if path.suffix == ".npz" else load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, want a dictionary of region names")
    return {str(name): index_array(content, name, path, ("N",), n_vertices) for name in content}


def read_landmarks(path: Path | str, n_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces (L,) and barycentric weights (L,3) of the landmarks, from FLAME's landmark_embedding_with_eyes.npy or an .npz.

    Raises:
        UserError: naming the file and what in it is missing or wrong.
    """
    path = Path(path)
    content = load_npz(path) if path.suffix == ".npz" else load_npy(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no dictionary, want one with the keys full_lmk_faces_idx and full_lmk_bary_coords")
    return landmarks_from_keys(content, n_faces, path)


def landmarks_from_keys(keys: Mapping[str, Any], n_faces: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    flat = {key: np.squeeze(np.asarray(keys[key])) for key in ("full_lmk_faces_idx", "full_lmk_bary_coords") if key in keys}
    faces = index_array(flat, "full_lmk_faces_idx", path, ("L",), n_faces)
    return faces, float_array(flat, "full_lmk_bary_coords", path, (len(faces), 3))


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
        return float_array(keys, "J_regressor", path, (JOINTS, n_vertices))
    data, starts = float_array(keys, "J_data", path, ("N",)), index_array(keys, "J_indptr", path, (JOINTS + 1,), 1 << 62)
    columns = index_array(keys, "J_indices", path, (len(data),), n_vertices)
    if starts[0] != 0 or starts[-1] != len(data) or np.any(np.diff(starts) < 0):
        raise UserError(f"{path}: J_indptr is {starts.tolist()}, want rows that cover the {len(data)} numbers of J_data")
    dense = np.zeros((JOINTS, n_vertices), np.float32)
    np.add.at(dense, (np.repeat(np.arange(JOINTS), np.diff(starts)), columns), data)
    return dense


def _uv(keys: Mapping[str, Any], n_faces: int, path: Path) -> np.ndarray | None:
    if "vt" not in keys:
        return None
    points = float_array(keys, "vt", path, ("U", 2))
    return points[index_array(keys, "ft", path, (n_faces, 3), len(points))]
