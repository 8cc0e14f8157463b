"""A head file in GNM Head 3's layout, made from the built-in head: same face, no jaw joint, joints that follow identity alone.

As a script: `python tests/head/gnm_layout.py FILE.npz` writes one of GNM's full size.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from taichi_avatars.head.assets import write_head_json
from taichi_avatars.head.flame import BUILTIN, FlameModel
from taichi_avatars.head.flame_files import HeadArrays, read_head

VERTICES, IDENTITIES = 17821, 253
REGIONS = {"left_eye_region": 100, "right_eye_region": 100, "lower_face_region": 150, "tongue": 32, "pupils": 1}
JAW_STEP = 0.1  # radians that one unit of a jaw component stands for
JOINT_NAMES = ("neck", "head", "left_eye", "right_eye")
GROUPS = {
    "left_eye": "eye_left",
    "right_eye": "eye_right",
    "upper_teeth_and_gums": "teeth_upper",
    "lower_teeth_and_gums": "teeth_lower",
    "tongue": "tongue",
    "ears": "ears",
    "mouth_sock": "mouth_inside",
}


def gnm_arrays(vertices: int | None = None) -> dict[str, np.ndarray]:
    """The built-in head with its own identities and expressions, and the jaw's rotation as three expressions more.

    Args:
        vertices: triangles are cut in three until there are so many; None: as it is.
    """
    head = read_head(BUILTIN)
    assert isinstance(head.joints, np.ndarray)
    number = len(head.v_template)
    mixing, faces = _cut(number, head.faces, number if vertices is None else vertices)
    root, neck, jaw, *eyes = head.weights.T
    expression = np.concatenate([head.exprdirs.transpose(2, 0, 1), _jaw_turns(head, jaw)])
    regressor = head.joints.T[[0, 1, 3, 4]]
    groups = np.zeros((len(GROUPS), number))
    for group, region in zip(groups, GROUPS.values(), strict=True):
        group[head.regions[region]] = 1.0
    names = [*(head.expression_names or []), *(f"jaw_{axis}" for axis in "xyz")]
    count = len(mixing)
    single = {
        "template_vertex_positions": mixing @ head.v_template,
        "template_joint_positions": regressor @ head.v_template,
        "vertex_identity_basis": _mixed(mixing, head.shapedirs.transpose(2, 0, 1)),
        "joint_identity_basis": np.einsum("jv,vci->ijc", regressor, head.shapedirs),
        "expression_basis": _mixed(mixing, expression),
        "skinning_weights": np.stack([root, neck + jaw, *eyes]) @ mixing.T,
        "pose_correctives_regressor": np.zeros((36, 3 * count)),
        "joint_regressor": np.concatenate([regressor, np.zeros((4, count - number))], 1),
        "vertex_groups": groups @ mixing.T,
    }
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        **{key: values.astype(np.float32) for key, values in single.items()},
        "identity_names": np.array([f"head_{k:03d}" for k in range(head.shapedirs.shape[2])]),
        "joint_names": np.array(JOINT_NAMES),
        "expression_names": np.array(names),
        "joint_parent_indices": np.array([0, 0, 1, 1], np.int32),
        "quads": np.zeros((0, 4), np.int32),
        "triangles": faces.astype(np.int32),
        "triangle_uvs": np.zeros((len(faces), 3, 2), np.float32),
        "mesh_component_names": np.array(["skin", *list(GROUPS)[:5]]),
        "mirror_indices": np.arange(count, dtype=np.int32),
        "vertex_group_names": np.array(list(GROUPS)),
    }


def full_size_arrays() -> dict[str, np.ndarray]:
    """GNM's numbers of vertices, identities and expressions; each expression moves its region and nothing else, as there."""
    arrays, random = gnm_arrays(VERTICES), np.random.default_rng(0)
    groups = dict(zip(GROUPS, arrays["vertex_groups"], strict=True))
    x, y, z = arrays["template_vertex_positions"].T
    lower = np.clip(-y / 0.02, 0.0, 1.0) * (z > -0.02) * (y > -0.14)
    around_eyes = np.exp(-(((y - 0.025) / 0.03) ** 2)) * (z > 0.0)
    iris = np.clip(groups["left_eye"] + groups["right_eye"], 0.0, 1.0) * (z > 0.02)
    masks = [around_eyes * (x > -0.01), around_eyes * (x < 0.01), lower, groups["tongue"], iris]
    sources, expression, names = arrays["expression_basis"], [], []
    for (region, count), mask in zip(REGIONS.items(), masks, strict=True):
        blend = random.normal(size=(count, len(sources))) / np.sqrt(len(sources))
        moved = np.einsum("ek,kvc->evc", blend, sources) + 1e-3 * random.normal(size=(count, 1, 3))
        expression.append(moved * np.where(mask > 1e-2, mask, 0.0)[:, None])
        names += [f"{region}_{k:03d}" for k in range(count)]
    blend = random.normal(size=(IDENTITIES, len(arrays["identity_names"]))) / np.sqrt(IDENTITIES)
    for key in ("vertex_identity_basis", "joint_identity_basis"):
        arrays[key] = np.einsum("ik,kvc->ivc", blend, arrays[key]).astype(np.float32)
    arrays["identity_names"] = np.array([f"head_{k:03d}" for k in range(IDENTITIES)])
    arrays["expression_basis"] = np.concatenate(expression).astype(np.float32)
    arrays["expression_names"] = np.array(names)
    return arrays


def without_jaw(flame: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """FLAME parameters of the built-in head for `gnm_arrays`: what the jaw turned, expressions do now."""
    moved = {key: value for key, value in flame.items() if key != "jaw_pose"}
    return moved | {"expr": np.concatenate([flame["expr"], flame["jaw_pose"] / np.float32(JAW_STEP)], 1)}


def capture_without_jaw(source: Path, folder: Path, head: Path) -> Path:
    """A capture of the built-in head as one of `gnm_arrays`, whose file `head` lies beside the data; the same pictures."""
    shutil.copytree(source, folder)
    shutil.copyfile(head, folder / head.name)
    for file in (folder / "flame_param").glob("*.npz"):
        with np.load(file) as values:
            parameters = without_jaw(dict(values))
        np.savez(file, **parameters)  # pyright: ignore[reportArgumentType]
    write_head_json(folder, FlameModel.load(head))
    return folder


def _cut(number: int, faces: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Every vertex (wanted,) as a mixture of the old ones, and the triangles: a new vertex amid one triangle after another."""
    mixing = np.eye(number, dtype=np.float32)
    while len(mixing) < wanted:
        cut = faces[: wanted - len(mixing)]
        new = np.arange(len(mixing), len(mixing) + len(cut))
        mixing = np.concatenate([mixing, mixing[cut].mean(1)])
        corners = [(0, 1), (1, 2), (2, 0)]
        parts = np.concatenate([np.stack([cut[:, a], cut[:, b], new], 1) for a, b in corners])
        faces = np.concatenate([faces[len(cut) :], parts])
    return mixing, faces


def _mixed(mixing: np.ndarray, basis: np.ndarray) -> np.ndarray:
    return np.einsum("wv,kvc->kwc", mixing, basis, optimize=True)


def _jaw_turns(head: HeadArrays, weights: np.ndarray) -> np.ndarray:
    """(3,V,3): what a small turn of the jaw about each axis adds, straight on."""
    assert isinstance(head.joints, np.ndarray)
    arm = head.v_template - head.joints.T[2] @ head.v_template
    return JAW_STEP * np.stack([weights[:, None] * np.cross(axis, arm) for axis in np.eye(3)])


if __name__ == "__main__":
    np.savez_compressed(Path(sys.argv[1]), **full_size_arrays())  # pyright: ignore[reportArgumentType]
