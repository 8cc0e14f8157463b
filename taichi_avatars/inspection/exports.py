"""Describes and checks exported files: .splat, compressed PLY, zips of PLYs, meshes, npz, web bundles."""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.export.compressed import CHUNK, PACKED, RANGES
from taichi_avatars.export.splat import RECORD
from taichi_avatars.export.web import read_index
from taichi_avatars.files.description import Description
from taichi_avatars.files.json import parse_json
from taichi_avatars.files.pickles import plain
from taichi_avatars.files.ply import parse_ply, read_ply
from taichi_avatars.head.description import Arrays
from taichi_avatars.inspection.files import REST_COUNTS, elements

AGAIN = "export again"
MOST_UNPACKED = 100  # times the length of a zip: Gaussians compress to no less than half, a zip bomb to a thousandth


def describe_splat(path: Path) -> Description:
    described = Description(str(path), "Gaussians (.splat, for web viewers)")
    size = path.stat().st_size
    if size % RECORD.itemsize or not size:
        described.problem(path, f"{size} bytes, want a multiple of {RECORD.itemsize}", f"the file was cut off: {AGAIN}")
        return described
    records = np.fromfile(path, RECORD)
    described.facts["gaussians"] = len(records)
    numbers = np.concatenate([records["mean"], records["scale"]], 1)
    wrong = int((~np.isfinite(numbers)).any(1).sum())
    if wrong:
        described.problem(path, f"NaN or Inf in {wrong} of {len(records)} Gaussians", AGAIN)
    if wrong := int((records["scale"] < 0).any(1).sum()):
        described.problem(path, f"{wrong} of {len(records)} Gaussians have a negative size", AGAIN)
    flat = int((records["scale"] == 0).any(1).sum())
    if flat == len(records):
        described.problem(path, f"none of its {flat} Gaussians has a size", AGAIN)
    elif flat:
        described.notes.append(f"{flat} of {len(records)} Gaussians have no size: they are not seen")
    return described


def is_compressed(path: Path) -> bool:
    """Whether a PLY is compressed, by its header."""
    with path.open("rb") as file:
        return PACKED[0].encode() in file.read(4096)


def describe_compressed(path: Path) -> Description:
    described = Description(str(path), "Gaussians (compressed PLY, for viewers)")
    try:
        data = read_ply(path)
        chunks, rows = elements(data, "chunk", str(path)), elements(data, "vertex", str(path))
    except UserError as problem:
        described.add(UserError(f"{problem}, or {AGAIN}"))
        return described
    described.facts.update(gaussians=len(rows), chunks=len(chunks))
    for table, wanted, what in ((rows, PACKED, "vertex"), (chunks, RANGES[:12], "chunk")):
        missing = [name for name in wanted if name not in (table.dtype.names or ())]
        if missing:
            described.problem(path, f"{what} has no {', '.join(missing)}", AGAIN)
    if len(chunks) != -(-len(rows) // CHUNK):
        described.problem(path, f"{len(chunks)} chunks of {CHUNK} cannot hold {len(rows)} Gaussians", AGAIN)
    rest = len(data["sh"].data.dtype.names or ()) if "sh" in data else 0
    if rest in REST_COUNTS:
        described.facts["SH degree"] = REST_COUNTS[rest]
    else:
        described.problem(path, f"has {rest} f_rest properties, want 0, 9, 24 or 45", AGAIN)
    if any(not np.isfinite(chunks[name]).all() for name in chunks.dtype.names or ()):
        described.problem(path, "NaN or Inf in the ranges of its chunks", AGAIN)
    return described


def describe_sequence(path: Path) -> Description:
    described = Description(str(path), "performance (zip of PLYs)")
    try:
        with zipfile.ZipFile(path) as bundle:
            held = sum(entry.file_size for entry in bundle.infolist())
            if held > MOST_UNPACKED * path.stat().st_size:
                raise ValueError(f"it claims to unpack to {held} bytes")
            names = sorted(name for name in bundle.namelist() if name.endswith(".ply"))
            broken = bundle.testzip()
            first = BytesIO(bundle.read(names[0])) if names and not broken else None
        table = elements(parse_ply(first, held, f"{path}: {plain(names[0])}"), "vertex", str(path)) if first else None
    except UserError as problem:
        described.add(problem)
        return described
    except Exception as error:  # a forged archive can fail in any way
        described.problem(path, f"cannot be read as a zip of PLYs ({plain(error)})", AGAIN)
        return described
    described.facts["frames"] = len(names)
    if broken:
        described.problem(path, f"{plain(broken)} is damaged", AGAIN)
    if not names:
        described.problem(
            path, "holds no .ply", "give a zip that `export --format zip` wrote, unpack any other and give the folder"
        )
    if table is not None:
        described.facts["gaussians"] = len(table)
    return described


def describe_glb(path: Path) -> Description:
    described = Description(str(path), "mesh (binary glTF)")
    content = path.read_bytes()
    try:
        magic, version, size, length = struct.unpack_from("<4sIII", content)
        if magic != b"glTF" or version != 2 or size != len(content):
            raise ValueError(f"it says {magic!r}, version {version}, {size} bytes of {len(content)}")
        index: Any = parse_json(content[20 : 20 + length], str(path))
        primitive = index["meshes"][0]["primitives"][0]
        accessors = index["accessors"]
        described.facts["vertices"] = int(accessors[primitive["attributes"]["POSITION"]]["count"])
        described.facts["triangles"] = int(accessors[primitive["indices"]]["count"]) // 3
        if min(described.facts["vertices"], described.facts["triangles"]) < 0:
            raise ValueError("a negative count")
    except UserError as problem:
        described.add(problem)
    except (OverflowError, struct.error, ValueError, KeyError, IndexError, TypeError) as error:
        described.problem(path, f"cannot be read as a binary glTF mesh ({error})", AGAIN)
    return described


def describe_obj(path: Path) -> Description:
    described = Description(str(path), "mesh (OBJ)")
    counts = {"v": 0, "vt": 0, "f": 0}
    highest = 0
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                words = line.split()
                if words and words[0] in counts:
                    counts[words[0]] += 1
                    if words[0] == "f":
                        highest = max(highest, *(int(word.split("/")[0]) for word in words[1:]))
    except (ValueError, TypeError) as error:
        described.problem(path, f"cannot be read as an OBJ ({error})", AGAIN)
        return described
    described.facts.update({"vertices": counts["v"], "triangles": counts["f"], "texture coordinates": counts["vt"]})
    if not counts["v"]:
        described.problem(path, "holds no vertices", f"is it a mesh? {AGAIN}")
    if highest > counts["v"]:
        described.problem(path, f"a face names vertex {highest} of {counts['v']}", f"the file was cut off: {AGAIN}")
    return described


def is_export(arrays: Arrays) -> bool:
    """Whether an npz is what `export --format npz` writes."""
    return {"means", "quats", "scales", "opacities", "sh"} <= arrays.keys()


def describe_arrays(path: Path, arrays: Arrays) -> Description:
    bound = "binding" in arrays
    described = Description(str(path), "avatar at a pose (arrays)" if bound else "Gaussians in the world (arrays)")
    described.facts["gaussians"] = len(arrays["means"])
    described.facts["arrays"] = [f"{name} {values.shape}" for name, values in arrays.items()]
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            described.problem(path, f"{name} holds NaN or Inf", AGAIN)
    for name in ("quats", "scales", "opacities", "sh"):
        if len(arrays[name]) != len(arrays["means"]):
            described.problem(path, f"{name} has {len(arrays[name])} rows, means {len(arrays['means'])}", AGAIN)
    return described


def describe_bundle(path: Path) -> Description:
    described = Description(str(path), "web bundle: a folder for any static web server")
    try:
        index = read_index(path)
    except UserError as problem:
        described.add(problem)
        return described
    described.facts["SH degree"] = index.get("degree")
    described.facts.update({name: index.get(name) for name in ("gaussians", "frames", "fps", "title")})
    described.facts["megabytes"] = round(sum(file.stat().st_size for file in path.iterdir()) / 1e6, 1)
    return described
