"""Describes and checks avatars and head models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from plyfile import PlyData

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.avatar.iterations import FLAME_NAME
from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.files.npz import load_npz
from taichi_avatars.files.pickles import plain
from taichi_avatars.files.ply import read_ply
from taichi_avatars.head.description import describe_parameters, known_head
from taichi_avatars.head.flame import FlameModel

REST_COUNTS = {3 * (degree + 1) ** 2 - 3: degree for degree in range(4)}
NORMALS = ("nx", "ny", "nz")  # present but empty in every file of this kind
RAW = (
    "x",
    "y",
    "z",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)


def elements(ply: PlyData, name: str, origin: str) -> np.ndarray:
    """The table of a PLY's elements of one name. Raises UserError if there are none."""
    if name not in ply:
        raise UserError(f"{origin}: holds no elements named {name}; copy it again")
    return ply[name].data


def describe_avatar(path: Path) -> Description:
    described = Description(str(path), "Gaussians (PLY)")
    try:
        rows = elements(read_ply(path), "vertex", str(path))
    except UserError as problem:
        described.add(problem)
        return described
    names = rows.dtype.names or ()
    bound = "binding_0" in names
    described.kind = "avatar (Gaussians bound to triangles)" if bound else "Gaussians without binding (static scene)"
    described.facts["gaussians"] = len(rows)
    rest = sum(name.startswith("f_rest_") for name in names)
    if rest in REST_COUNTS:
        described.facts["SH degree"] = REST_COUNTS[rest]
    else:
        described.problem(path, f"has {rest} f_rest properties, want 0, 9, 24 or 45", "not an avatar of this kind")
    missing = [name for name in RAW if name not in names]
    if missing:
        described.problem(path, f"has no {', '.join(missing)}", "give the PLY of a 3D Gaussian avatar")
    used = [name for name in names if name in RAW or name.startswith("f_rest_") or name == "binding_0"]
    for name in used:
        if rows[name].dtype.kind not in "fiu":
            described.problem(path, f"{name} holds {rows[name].dtype}, want numbers", "save it again")
            continue
        broken = ~np.isfinite(rows[name])
        if broken.any():
            described.problem(
                path,
                f"{name}: NaN or Inf in {int(broken.sum())} of {len(rows)} Gaussians, first in Gaussian {int(broken.argmax())}",
                "delete those in a splat editor, copy the file again, or train again",
            )
    others = sorted({str(rows[name].dtype) for name in used} - {"float32"})
    if others:
        described.notes.append(f"holds {', '.join(others)}: read as float32")
    if used and len(names) > len(used):
        ignored = [name for name in names if name not in used and name not in NORMALS]
        if ignored:
            described.notes.append(f"{len(ignored)} other properties are not read: {', '.join(map(plain, ignored[:5]))}")
    if bound and len(rows):
        triangles = rows["binding_0"]
        if (triangles < 0).any() or (triangles != np.floor(triangles)).any():
            described.problem(path, "binding_0: not all are a triangle's number", "save it again")
        else:
            described.facts["triangles used"] = f"{len(np.unique(triangles))}, up to number {int(triangles.max())}"
    head = known_head(described, path.parent, "every command") if bound else None
    _flame_parameters(described, path.parent, head, bound)
    if not described.problems:  # anything else that the commands would refuse
        described.check(lambda: Avatar.load(path, head) if head or not bound else Gaussians.load_ply(path))
    return described


def _flame_parameters(described: Description, folder: Path, head: FlameModel | None, bound: bool) -> None:
    parameters = folder / FLAME_NAME
    if parameters.is_file():
        try:
            motion = describe_parameters(parameters, load_npz(parameters), head)
        except UserError as problem:
            described.add(problem)
            return
        described.facts.update(motion.facts)
        described.problems += motion.problems
    elif bound:
        described.problem(parameters, "is missing", "copy it from where the PLY came from")


def describe_flame_model(path: Path) -> Description:
    described = Description(str(path), "FLAME head model")
    try:
        head = FlameModel.load(path)
    except UserError as problem:
        described.add(problem)
        return described
    if head.kind == "gnm":
        described.kind = "GNM head model"
        described.facts["joints"] = list(head.roles)
    described.facts.update(
        vertices=head.num_vertices,
        triangles=head.num_faces,
        teeth="yes" if head.has_teeth else "no",
        regions=sorted(head.regions) or "none",
    )
    described.facts["shape coefficients"], described.facts["expression coefficients"] = head.n_shape, head.n_expr
    if head.n_expr == 0:
        described.notes.append("no expression components: faces made with it cannot change expression")
    return described
