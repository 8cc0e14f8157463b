"""GNM Head's npz (Google 2026, Apache-2.0): its keys converted to those of our head files, and back.

GNM has components on the first axis and vertices on the second, separate joints instead of a regressor, correctives of all
joints, and freely named joints. Our file holds the same under FLAME's names, with joints by role, and the rest unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.npz import float_array, index_array
from taichi_avatars.head.pose import ROLES

MARK = "template_vertex_positions"  # only GNM's files have it
KEPT = "gnm_"  # prefix of the keys that our file keeps for the conversion back
WEIGHT_SUM_ERROR = 1e-4
MEMBER = 0.5  # minimum weight of a vertex in a group

# Regions that other commands need, by the corresponding vertex groups of GNM Head 3.
REGIONS = {
    "eye_left": ("left_eye",),
    "eye_right": ("right_eye",),
    "teeth_upper": ("upper_teeth_and_gums",),
    "teeth_lower": ("lower_teeth_and_gums",),
    "lips": ("upper_lip", "lower_lip"),
    "mouth_inside": ("mouth_sock",),
}
# Keys that our file has under other names; everything else is kept.
TRANSLATED = (
    *(MARK, "template_joint_positions", "vertex_identity_basis", "joint_identity_basis", "expression_basis"),
    *("expression_names", "joint_parent_indices", "skinning_weights", "pose_correctives_regressor"),
)


def own_keys(keys: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """GNM's arrays as those of our head file; `path` is used in errors.

    Raises:
        UserError: naming what is missing or of the wrong shape, or a joint of unknown role.
    """
    template = float_array(keys, MARK, path, ("V", 3))
    joints = float_array(keys, "template_joint_positions", path, ("J", 3))
    count, number = len(template), len(joints)
    identity = float_array(keys, "vertex_identity_basis", path, ("I", count, 3))
    of_joints = float_array(keys, "joint_identity_basis", path, (len(identity), number, 3))
    expression = float_array(keys, "expression_basis", path, ("E", count, 3))
    weights = float_array(keys, "skinning_weights", path, (number, count))
    if count and abs(weights.sum(0) - 1.0).max() > WEIGHT_SUM_ERROR:
        raise UserError(f"{path}: the skinning_weights of a vertex sum to {_furthest_from_one(weights.sum(0)):.4g}, want 1")
    names, parents = _names(keys, "joint_names", number, path), _parents(keys, number, path)
    order, roles = _by_role(names, parents, path)
    rank = {joint: at for at, joint in enumerate(order)}
    out: dict[str, Any] = {
        "v_template": template,
        "shapedirs": np.ascontiguousarray(np.concatenate([identity, expression]).transpose(1, 2, 0)),
        "n_shape": np.array(len(identity)),
        "n_expr": np.array(len(expression)),
        "joint_names": np.array(roles),
        "J_template": joints[order],
        "J_shapedirs": np.ascontiguousarray(of_joints[:, order].transpose(1, 2, 0)),
        "kintree_table": np.array([[-1, *(rank[parents[joint]] for joint in order[1:])], range(number)], np.int32),
        "weights": np.ascontiguousarray(weights[order].T),
    }
    if "expression_names" in keys:
        out["expression_names"] = np.array(_names(keys, "expression_names", len(expression), path))
    if "pose_correctives_regressor" in keys:
        regressor = float_array(keys, "pose_correctives_regressor", path, (9 * number, 3 * count))
        if regressor.any():
            by_joint = regressor.reshape(number, 9, count, 3)[order]
            out["posedirs"] = np.ascontiguousarray(by_joint.reshape(9 * number, count, 3).transpose(1, 2, 0))
    out["f"], uv = _faces(keys, count, path)
    if uv is not None:
        out["vt"], out["ft"] = uv.reshape(-1, 2), np.arange(3 * len(uv), dtype=np.int32).reshape(-1, 3)
    out |= {f"region_{name}": ids for name, ids in _regions(keys, count, out["weights"], roles, path).items()}
    out |= {KEPT + key: np.asarray(value) for key, value in keys.items() if key not in TRANSLATED}
    out[KEPT + "joint_names"] = np.array([names[joint] for joint in order])
    return out


def gnm_keys(keys: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """GNM's arrays from our head file that was made from one of GNM's; joints in the order of their roles.

    Raises:
        UserError: if our file was not made from one of GNM's.
    """
    if KEPT + "joint_names" not in keys:
        raise UserError(f"{path}: was not made from a GNM file, whose joints depend on identity alone; give such a file")
    template = float_array(keys, "v_template", path, ("V", 3))
    count, n_shape = len(template), int(keys["n_shape"])
    joints = float_array(keys, "J_template", path, ("J", 3))
    number = len(joints)
    components = float_array(keys, "shapedirs", path, (count, 3, n_shape + int(keys["n_expr"]))).transpose(2, 0, 1)
    parents = np.asarray(keys["kintree_table"])[0].copy()
    parents[0] = 0  # the root's is itself
    correctives = np.zeros((count, 3, 9 * number), np.float32)
    if "posedirs" in keys:
        correctives = float_array(keys, "posedirs", path, correctives.shape)
    out: dict[str, Any] = {
        MARK: template,
        "template_joint_positions": joints,
        "vertex_identity_basis": np.ascontiguousarray(components[:n_shape]),
        "joint_identity_basis": float_array(keys, "J_shapedirs", path, (number, 3, n_shape)).transpose(2, 0, 1),
        "expression_basis": np.ascontiguousarray(components[n_shape:]),
        "joint_parent_indices": parents.astype(np.int32),
        "skinning_weights": np.ascontiguousarray(float_array(keys, "weights", path, (count, number)).T),
        "pose_correctives_regressor": correctives.transpose(2, 0, 1).reshape(9 * number, 3 * count),
    }
    if "expression_names" in keys:
        out["expression_names"] = np.asarray(keys["expression_names"])
    return out | {key.removeprefix(KEPT): np.asarray(value) for key, value in keys.items() if key.startswith(KEPT)}


def _furthest_from_one(sums: np.ndarray) -> float:
    return float(sums[np.abs(sums - 1.0).argmax()])


def _names(keys: Mapping[str, Any], key: str, count: int, path: Path) -> list[str]:
    if key not in keys:
        raise UserError(f"{path}: lacks {key}; it holds {', '.join(sorted(map(str, keys)))}")
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in np.ravel(keys[key]).tolist()]
    if len(names) != count:
        raise UserError(f"{path}: {key} holds {len(names)} names, want {count}")
    return names


def _parents(keys: Mapping[str, Any], number: int, path: Path) -> list[int]:
    """The parent of each joint; the root's is itself, or none."""
    if "joint_parent_indices" not in keys:
        raise UserError(f"{path}: lacks joint_parent_indices; it holds {', '.join(sorted(map(str, keys)))}")
    parents = np.ravel(keys["joint_parent_indices"])
    if parents.dtype.kind not in "iu" or len(parents) != number or not all(-1 <= p < number for p in parents.tolist()):
        raise UserError(f"{path}: joint_parent_indices are {parents.tolist()[:9]}, want the numbers of {number} joints")
    return [joint if parent < 0 else parent for joint, parent in enumerate(parents.tolist())]


def _by_role(names: list[str], parents: list[int], path: Path) -> tuple[list[int], list[str]]:
    """The joints in the order of `pose.ROLES`, and the roles that there are."""
    roles = [_role(name, root=parents[joint] == joint) for joint, name in enumerate(names)]
    for name, role in zip(names, roles, strict=True):
        if role is None:
            raise UserError(f"{path}: joint_names: {name!r} has no known role; want neck or head, jaw, left and right eye")
    twice = [role for role in ROLES if roles.count(role) > 1]
    if twice or "root" not in roles or len({"left eye", "right eye"} & set(roles)) == 1:
        what = f"two joints are the {twice[0]}" if twice else "there is one eye" if "root" in roles else "none is the root"
        raise UserError(f"{path}: joint_names {', '.join(names)} with the parents {parents}: {what}")
    order = [roles.index(role) for role in ROLES if role in roles]
    for at, joint in enumerate(order[1:], 1):
        if parents[joint] not in order[:at]:
            raise UserError(f"{path}: joint_parent_indices: {names[joint]} cannot be a child of {names[parents[joint]]}")
    return order, [role for role in ROLES if role in roles]


def _role(name: str, *, root: bool) -> str | None:
    """The role of a joint by its name, in any spelling: "left_eye", "LeftEye", "eye.L"."""
    if root:
        return "root"
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    whole = "".join(words)
    if "eye" in whole:
        left = "left" in whole or "l" in words
        return "left eye" if left else "right eye" if "right" in whole or "r" in words else None
    if "jaw" in whole or "mandible" in whole:
        return "jaw"
    return "neck" if "head" in whole or "neck" in whole else None


def _faces(keys: Mapping[str, Any], count: int, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Triangles (F,3) and the texture coordinates of their corners (F,3,2), if any.

    GNM's `triangles` are its `quads` split in two. Quads not covered by triangles are split here and appended.
    """
    triangles = index_array(keys, "triangles", path, ("T", 3), count) if "triangles" in keys else np.zeros((0, 3), np.int64)
    quads = index_array(keys, "quads", path, ("Q", 4), count) if "quads" in keys else np.zeros((0, 4), np.int64)
    held = _keys_of(triangles)
    halves = [np.isin(_keys_of(quads[:, corners]), held) for corners in ([0, 1, 2], [0, 2, 3], [0, 1, 3], [1, 2, 3])]
    left = ~((halves[0] & halves[1]) | (halves[2] & halves[3]))
    faces = np.concatenate([triangles, quads[left][:, [0, 1, 2]], quads[left][:, [0, 2, 3]]])
    if not len(faces):
        raise UserError(f"{path}: lacks triangles and quads; it holds {', '.join(sorted(map(str, keys)))}")
    parts = [_uv(keys, "triangle_uvs", (len(triangles), 3, 2))]
    if left.any():
        corners = _uv(keys, "quad_uvs", (len(quads), 4, 2))
        parts += [None if corners is None else corners[left][:, cut] for cut in ([0, 1, 2], [0, 2, 3])]
    uv = [part for part in parts if part is not None]
    return faces, np.concatenate(uv) if len(uv) == len(parts) else None


def _keys_of(triangles: np.ndarray) -> np.ndarray:
    """One number per triangle, the same for all orders of its corners."""
    a, b, c = np.sort(triangles, 1).T
    return (a << 42) + (b << 21) + c


def _uv(keys: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Texture coordinates per corner; a head is complete without them."""
    if not shape[0]:
        return np.zeros(shape, np.float32)
    values = np.asarray(keys[key]) if key in keys else None
    return None if values is None or values.shape != shape or values.dtype.kind != "f" else values.astype(np.float32)


def _regions(keys: Mapping[str, Any], count: int, weights: np.ndarray, roles: list[str], path: Path) -> dict[str, np.ndarray]:
    """Vertex ids by the names of the vertex groups and by our own names; eyes also by the skinning weights of their joints."""
    found: dict[str, np.ndarray] = {}
    if "vertex_groups" in keys and "vertex_group_names" in keys:
        groups = float_array(keys, "vertex_groups", path, ("G", count))
        names = _names(keys, "vertex_group_names", len(groups), path)
        found = {name: np.flatnonzero(group > MEMBER) for name, group in zip(names, groups, strict=True)}
    for region, parts in REGIONS.items():
        if region not in found and all(part in found for part in parts):
            found[region] = np.unique(np.concatenate([found[part] for part in parts]))
    for region, role in (("eye_left", "left eye"), ("eye_right", "right eye")):
        if region not in found and role in roles:
            found[region] = np.flatnonzero(weights[:, roles.index(role)] > MEMBER)
    return {name: ids for name, ids in found.items() if len(ids)}
