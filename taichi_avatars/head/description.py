"""Whether FLAME parameters are complete, agree with one another and fit a head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.files.npz import load_npz
from taichi_avatars.head.assets import read_head_json, resolve_head
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.pose import PARTS, REQUIRED, SIZES, Part
from taichi_avatars.head.sequence import FlameSequence

OFFSETS = ("static_offset", "dynamic_offset")

Arrays = dict[str, np.ndarray]


def known_head(described: Description, beside: Path, command: str) -> FlameModel | None:
    """The head that other commands would use for the contents of a folder; a note if `command` would need --head."""
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
    """Files of one timestep each, which must agree with one another and fit the head, if known."""
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
                described.problem(file, f"{_words(name)} is {size}, {expected} in {first[0].name}", "export all of them again")


def describe_parameters(path: Path, arrays: Arrays, head: FlameModel | None = None) -> Description:
    described = Description(str(path), "motion (FLAME parameters)")
    sizes = _parameters(described, path, arrays, head, parts_of(head, path, arrays), one_timestep=False)
    described.facts.update({_words(name): size for name, size in sizes.items()})
    for name in OFFSETS:
        described.facts[name.replace("_", " ")] = "yes" if name in arrays else "no"
    return described


def parts_of(head: FlameModel | None, file: Path, arrays: Arrays) -> Sequence[Part]:
    """The parts of a pose that a file must hold: those of the head, or, if it is only named, those present."""
    if head is not None:
        return head.parts
    stated = None
    with suppress(UserError):  # a broken head.json is reported separately
        stated = read_head_json(file) or read_head_json(file.parent.parent)  # of a capture, whose files lie one folder below
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
        described.problem(file, f"{name}: got shape {arrays[name].shape}, want {wanted}", "export it again")

    for name in (*(part.key for part in parts), "shape", "expr"):
        if name not in arrays:
            described.problem(file, f"has no {name}", "export it again")
    for name, array in arrays.items():
        if not array.size:
            continue
        if array.dtype.kind not in "fiu":
            if name in (*SIZES, "shape", "expr", *OFFSETS):
                described.problem(file, f"{name}: holds {array.dtype}, want numbers", "export it again")
            continue
        if not np.isfinite(array).all():
            described.problem(file, f"{name}: holds NaN or Inf", "track these frames again")
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
    if len(described.problems) == before:  # anything else that the commands would refuse
        described.check(lambda: FlameSequence.from_arrays(arrays, file, head, parts))
    return sizes
