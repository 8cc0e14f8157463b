"""What single files are, and whether they are whole: FLAME parameters and models, avatars, ARKit weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from plyfile import PlyData

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.avatar.iterations import FLAME_NAME
from taichi_avatars.errors import UserError
from taichi_avatars.files.json import read_json
from taichi_avatars.files.npz import load_npz
from taichi_avatars.files.ply import read_ply
from taichi_avatars.head.assets import read_head_json, resolve_head
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import PARTS, REQUIRED, SIZES, Part
from taichi_avatars.head.sequence import FlameSequence

OFFSETS = ("static_offset", "dynamic_offset")
REST_COUNTS = {3 * (degree + 1) ** 2 - 3: degree for degree in range(4)}
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

Arrays = dict[str, np.ndarray]


@dataclass
class Description:
    """What was found under a path.

    Attributes:
        kind: what it is, in words.
        facts: name -> value, in the order in which a reader wants them.
        notes: what is worth knowing and needs nothing done.
        problems: one line each: file, what is wrong, what to do. Whole means there are none.
    """

    path: str
    kind: str
    facts: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, problem: UserError) -> None:
        self.problems.append(str(problem))

    def check(self, check: Callable[[], object]) -> None:
        """Calls `check` and takes note where it finds a problem."""
        try:
            check()
        except UserError as problem:
            self.add(problem)


def elements(ply: PlyData, name: str, origin: str) -> np.ndarray:
    """The table of a PLY's elements of one name. Raises UserError where there are none."""
    if name not in ply:
        raise UserError(f"{origin}: holds no elements named {name}; copy it again")
    return ply[name].data


def known_head(described: Description, beside: Path, command: str) -> FlameModel | None:
    """The head that other commands would take for what lies in a folder; a note where they would ask `command` for it."""
    try:
        stated = read_head_json(beside)
    except UserError as problem:
        described.add(problem)
        return None
    if stated is not None:
        described.facts["head"] = stated
    try:
        return resolve_head(None, beside)
    except UserError as problem:
        described.notes.append(f"{command} will need --head: {problem}")
        return None


def describe_timesteps(described: Description, files: Iterable[Path], head: FlameModel | None = None) -> None:
    """Files of one timestep each, which must agree with one another and fit the head, where it is known."""
    first: tuple[Path, dict[str, int]] | None = None
    for file in files:
        try:
            arrays = load_npz(file)
            parts = parts_of(head, file, arrays)
            sizes = _parameters(described, file, arrays, head if first is None else None, parts, one_timestep=True)
        except UserError as problem:
            described.add(problem)
            continue
        if first is None:
            first = file, sizes
            described.facts.update({_words(name): size for name, size in sizes.items() if name != "timesteps"})
        for name, size in sizes.items():
            expected = first[1].get(name, size)
            if size != expected:
                described.add(UserError(f"{file}: {_words(name)} is {size}, {expected} in {first[0].name}; export all anew"))


def describe_motion(path: Path, arrays: Arrays, head: FlameModel | None = None) -> Description:
    described = Description(str(path), "motion (FLAME parameters)")
    sizes = _parameters(described, path, arrays, head, parts_of(head, path, arrays), one_timestep=False)
    described.facts.update({_words(name): size for name, size in sizes.items()})
    for name in OFFSETS:
        described.facts[name.replace("_", " ")] = "yes" if name in arrays else "no"
    return described


def parts_of(head: FlameModel | None, file: Path, arrays: Arrays) -> Sequence[Part]:
    """The parts of a pose that a file must hold: those of the head; of one that is only named, those that are there."""
    if head is not None:
        return head.parts
    stated = None
    with suppress(UserError):  # a broken head.json is a problem of its own
        stated = read_head_json(file)
    if stated is None or stated["head"] != "gnm":
        return PARTS
    return [part for part in PARTS if part.key in arrays or part.key in REQUIRED]


def _words(name: str) -> str:
    return {"shape": "shape coefficients", "expr": "expression coefficients", "vertices": "vertices of offsets"}.get(name, name)


def _parameters(
    described: Description,
    file: Path,
    arrays: Arrays,
    head: FlameModel | None,
    parts: Sequence[Part],
    *,
    one_timestep: bool,
) -> dict[str, int]:
    """Checks FLAME parameters, also against a head, and returns the sizes that they imply."""
    sizes: dict[str, int] = {}
    before = len(described.problems)

    def wrong(name: str, wanted: str) -> None:
        described.add(UserError(f"{file}: {name}: got shape {arrays[name].shape}, want {wanted}; export it again"))

    for name in (*(part.key for part in parts), "shape", "expr"):
        if name not in arrays:
            described.add(UserError(f"{file}: has no {name}; export it again"))
    for name, array in arrays.items():
        if not array.size:
            continue
        if array.dtype.kind not in "fiu":
            if name in (*SIZES, "shape", "expr", *OFFSETS):
                described.add(UserError(f"{file}: {name}: holds {array.dtype}, want numbers; export it again"))
            continue
        if not np.isfinite(array).all():
            described.add(UserError(f"{file}: {name}: holds NaN or Inf; track these frames again"))
        if name == "shape":
            if array.ndim not in (1, 2) or (array.ndim == 2 and one_timestep and len(array) != 1):
                wrong(name, "(n_shape,)")
                continue
            sizes["shape"] = array.shape[-1]
        elif name in OFFSETS:
            if array.ndim not in (2, 3) or array.shape[-1] != 3:
                wrong(name, "(V, 3)")
                continue
            sizes["vertices"] = array.shape[-2]
        elif name in SIZES or name == "expr":
            width = SIZES.get(name)
            if array.ndim not in (1, 2) or (width is not None and array.shape[-1] != width):
                wrong(name, f"({'1' if one_timestep else 'T'}, {width or 'n_expr'})")
                continue
            if name == "expr":
                sizes["expr"] = array.shape[-1]
            count = 1 if array.ndim == 1 else len(array)
            if count != sizes.setdefault("timesteps", 1 if one_timestep else count):
                wrong(name, f"{sizes['timesteps']} timestep{'s' if sizes['timesteps'] > 1 else ''}")
    if len(described.problems) == before:  # whatever else the commands would refuse
        described.check(lambda: FlameSequence.from_arrays(arrays, file, head, parts))
    return sizes


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
        described.add(UserError(f"{path}: has {rest} f_rest properties, want 0, 9, 24 or 45; not an avatar of this kind"))
    missing = [name for name in RAW if name not in names]
    if missing:
        described.add(UserError(f"{path}: has no {', '.join(missing)}; give the PLY of a 3D Gaussian avatar"))
    for name in names:
        if rows[name].dtype.kind != "f" or rows[name].dtype.itemsize != 4:
            described.add(UserError(f"{path}: {name} is {rows[name].dtype}, want float32; save it again"))
        elif not np.isfinite(rows[name]).all():
            count = int((~np.isfinite(rows[name])).sum())
            described.add(UserError(f"{path}: {name}: NaN or Inf in {count} of {len(rows)} Gaussians; train again"))
    if bound and len(rows):
        triangles = rows["binding_0"]
        if (triangles < 0).any() or (triangles != np.floor(triangles)).any():
            described.add(UserError(f"{path}: binding_0: not all are a triangle's number; save it again"))
        else:
            described.facts["triangles used"] = f"{len(np.unique(triangles))}, up to number {int(triangles.max())}"
    head = known_head(described, path.parent, "every command") if bound else None
    _flame_parameters(described, path.parent, head, bound)
    if not described.problems:  # whatever else the commands would refuse
        described.check(lambda: Avatar.load(path, head) if head or not bound else Gaussians.load_ply(path))
    return described


def _flame_parameters(described: Description, folder: Path, head: FlameModel | None, bound: bool) -> None:
    parameters = folder / FLAME_NAME
    if parameters.is_file():
        try:
            motion = describe_motion(parameters, load_npz(parameters), head)
        except UserError as problem:
            described.add(problem)
            return
        described.facts.update(motion.facts)
        described.problems += motion.problems
    elif bound:
        described.add(UserError(f"{parameters}: is missing; copy it from where the PLY came from"))


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


def describe_arkit(path: Path) -> Description:
    described = Description(str(path), "motion (ARKit weights)")
    content = read_json(path)
    if not isinstance(content, dict) or not {"names", "frames"} <= content.keys():
        raise UserError(
            f'{path}: not a motion: want an object with "names" and "frames"; give ARKit weights or a capture folder'
        )
    names, frames = content["names"], content["frames"]
    if not isinstance(names, list) or not isinstance(frames, list):
        described.add(UserError(f'{path}: "names" and "frames" must be lists; export it again'))
        return described
    described.facts.update(timesteps=len(frames), weights=len(names))
    if not frames:
        described.add(UserError(f"{path}: has no frames; record it again"))
    for number, frame in enumerate(frames):
        weights = frame.get("weights") if isinstance(frame, dict) else None
        if not isinstance(weights, list) or len(weights) != len(names):
            found = f"{len(weights)} weights" if isinstance(weights, list) else "no weights"
            described.add(UserError(f"{path}: frame {number}: got {found}, want {len(names)}; export it again"))
        elif not all(isinstance(weight, int | float) and math.isfinite(weight) for weight in weights):
            described.add(UserError(f"{path}: frame {number}: a weight is not a finite number; export it again"))
    poses = content.get("head_pose")
    if isinstance(poses, list) and len(poses) != len(frames):
        described.add(UserError(f"{path}: head_pose has {len(poses)} entries for {len(frames)} frames; export it again"))
    return described
