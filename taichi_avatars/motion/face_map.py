"""The effect of the 52 ARKit weights on a head: each adds to its expression components, its jaw and its eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.fitting import fitted_components
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.flame_files import load_npz
from taichi_avatars.head.pose import PARTS, HeadPose, Part
from taichi_avatars.head.stand_in import JAW_STEP, expression_units

# In the order of Apple's apps.
ARKIT_NAMES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft", "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight",
    "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft",
    "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip

GAZE_SIDEWAYS, GAZE_VERTICAL = 0.5, 0.35  # radians of the eyeball at weight 1
JAW_JOINT = 0.1  # radians of the jaw joint at jawOpen 1, if the component of that name does the rest of the opening
JAW_ALONE, JAW_SIDEWAYS = 0.4, 0.1  # radians, if the joint does all of it

_CARRIED: WeakKeyDictionary[FlameModel, FaceMap] = WeakKeyDictionary()  # computed once per head: it takes seconds


def columns(n_expr: int, parts: Sequence[Part] = PARTS) -> dict[str, slice]:
    """Positions of the parts of a pose in a row of E + 18 numbers: `expr`, then those of `head.pose.PARTS`, or some of them."""
    places, at = {"expr": slice(0, n_expr)}, n_expr
    for part in parts:
        places[part.name] = slice(at, at + part.size)
        at += part.size
    return places


@dataclass(frozen=True, eq=False)
class FaceMap:
    """A linear map from named weights to a row.

    Attributes:
        names: the names of W weights.
        matrix: (W, E + 18) float32, the contribution of a weight of 1 to a row. Axis-angles in radians.
        bounded: whether expression components are weights from 0 to 1, as named ones are.
        remark: one line on what such weights do on this head, if it is not what they do on the built-in one.
    """

    names: tuple[str, ...]
    matrix: np.ndarray
    bounded: bool
    remark: str | None = None


def face_map(head: FlameModel, blendshapes: Path | str | None = None) -> FaceMap:
    """The map of a head.

    Weights go to the expression components of the same name. Gaze turns the eyeballs as well, jawOpen the jaw joint a little.
    On a GNM head, whose expressions have other names, they move it as they do the built-in head, as nearly as its components
    allow. On a FLAME head they move jaw and eyes, and expressions only if a file defines how.

    Args:
        blendshapes: an npz with `names` (N,) and either `expr` (N,E), expression components of each, or `offsets` (N,V,3),
            metres on the head's neutral face, which are fitted by least squares; None: as said above.

    Raises:
        UserError: if the file is broken, does not fit the head, or the head needs none.
    """
    reason = None
    if head.kind == "gnm" and blendshapes is None and not set(head.expression_names or []) & set(ARKIT_NAMES):
        try:
            return _carried(head)
        except UserError as error:
            reason = f"{error}; until then"
    named = head.expression_names or []
    common = set(named) & set(ARKIT_NAMES)
    names = (*ARKIT_NAMES, *(name for name in named if name not in ARKIT_NAMES)) if common else ARKIT_NAMES
    place = columns(head.n_expr)
    matrix = np.zeros((len(names), place["translation"].stop), np.float32)
    index = {name: row for row, name in enumerate(names)}
    _add_gaze(matrix, index, place["eyes"].start)
    if common:
        if blendshapes is not None:
            raise UserError(f"{blendshapes}: this head's expressions have ARKit's names and need no map; omit it")
        for column, name in enumerate(named):
            matrix[index[name], column] = 1.0
        matrix[index["jawOpen"], place["jaw"].start] = JAW_JOINT
        return FaceMap(names, matrix, bounded=True)
    for name, axis, angle in (("jawOpen", 0, JAW_ALONE), ("mouthClose", 0, -JAW_ALONE), ("jawLeft", 1, JAW_SIDEWAYS)):
        matrix[index[name], place["jaw"].start + axis] = angle
    matrix[index["jawRight"], place["jaw"].start + 1] = -JAW_SIDEWAYS
    if blendshapes is None:
        movable = [name for name in ("jaw", "eyes", "neck") if name in {part.name for part in head.parts}]
        remark = (
            f"{reason or 'this head has no expressions of those names:'} face-tracking weights move its {', '.join(movable)} "
            "and head only; --blendshapes FILE.npz maps them to its expression components"
        )
        return FaceMap(names, matrix, bounded=False, remark=remark)
    _add_expressions(matrix, index, head, place, Path(blendshapes))
    return FaceMap(names, matrix, bounded=False)


def _carried(head: FlameModel) -> FaceMap:
    """The built-in head's map on another head: expressions and jaw by correspondence, joints by their roles."""
    if head in _CARRIED:
        return _CARRIED[head]
    own = FlameModel.builtin()
    mapped, units = face_map(own), expression_units(head).numpy()
    there, here = columns(own.n_expr), columns(head.n_expr)
    matrix = np.zeros((len(mapped.names), here["translation"].stop), np.float32)
    for name, place in here.items():
        if name not in ("expr", "jaw"):
            matrix[:, place] = mapped.matrix[:, there[name]]
    moved = np.concatenate([mapped.matrix[:, there["expr"]], mapped.matrix[:, there["jaw"]] / JAW_STEP], 1) @ units
    matrix[:, here["expr"]] = moved[:, : head.n_expr]
    if "jaw" in head.roles:
        matrix[:, here["jaw"]] = JAW_STEP * moved[:, head.n_expr :]
    remark = "ARKit weights move this head as they move the built-in one, as nearly as its own expressions allow"
    return _CARRIED.setdefault(head, FaceMap(mapped.names, matrix, bounded=False, remark=remark))


def _add_gaze(matrix: np.ndarray, index: dict[str, int], eyes: int) -> None:
    """Axis-angles of the eyes, left then right: about x downwards, about y to the person's left."""
    for side, start, outwards in (("Left", eyes, 1.0), ("Right", eyes + 3, -1.0)):
        matrix[index[f"eyeLookDown{side}"], start] = GAZE_VERTICAL
        matrix[index[f"eyeLookUp{side}"], start] = -GAZE_VERTICAL
        matrix[index[f"eyeLookOut{side}"], start + 1] = GAZE_SIDEWAYS * outwards
        matrix[index[f"eyeLookIn{side}"], start + 1] = -GAZE_SIDEWAYS * outwards


def _add_expressions(matrix: np.ndarray, index: dict[str, int], head: FlameModel, place: dict[str, slice], path: Path) -> None:
    arrays = load_npz(path)
    if "names" not in arrays or not ({"expr", "offsets"} & arrays.keys()):
        raise UserError(f"{path}: holds {', '.join(sorted(arrays)) or 'nothing'}; want names and either expr or offsets")
    held = [str(name) for name in arrays["names"].reshape(-1)]
    known = [name for name in held if name in index]
    if not known:
        raise UserError(f"{path}: none of its names is one of ARKit's, such as {ARKIT_NAMES[0]}")
    rows = np.array([index[name] for name in known])
    key = "expr" if "expr" in arrays else "offsets"
    shape = (len(held), head.n_expr) if key == "expr" else (len(held), head.num_vertices, 3)
    values = arrays[key]
    if values.shape != shape or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise UserError(f"{path}: {key} has shape {values.shape} {values.dtype}, want finite numbers {shape} for this head")
    values = values[[held.index(name) for name in known]].astype(np.float64)
    if key == "offsets":
        values = _fit(values, matrix[rows], head, place)
    matrix[rows, : head.n_expr] = values


def _fit(offsets: np.ndarray, rows: np.ndarray, head: FlameModel, place: dict[str, slice]) -> np.ndarray:
    """(N,E) expression components that together with the joints best approximate the offsets (N,V,3)."""
    neutral = head.pose(head.shaped()).vertices.double().numpy()
    joints = {part.name: torch.from_numpy(rows[:, place[part.name]]) for part in head.parts if part.name in ("jaw", "eyes")}
    moved = head.pose(head.shaped(), HeadPose(**joints)).vertices.double().numpy()
    rest = (offsets - (moved - neutral)).reshape(len(offsets), -1)
    return fitted_components(head.exprdirs().flatten(1).double().numpy(), rest)
