"""The head's mesh at a pose, as OBJ or GLB. Vertices keep their indices: vertex i is vertex i of the head model."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.head.flame import FlameModel

GREY = (0.58, 0.66, 0.78, 1.0)
FLOAT, UINT = 5126, 5125  # glTF's type codes
ARRAY, ELEMENTS = 34962, 34963


def write_obj(vertices: Tensor, head: FlameModel, path: Path | str) -> None:
    """Writes `v`, `vt` (if the head has texture coordinates), smooth `vn`, and `f`; metres, nine digits: exact.

    Args:
        vertices: (V,3) world space, metres.
    """
    faces = head.faces.numpy() + 1
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices.tolist()]
    if head.uv is not None:
        corners, of_corner = np.unique(head.uv.reshape(-1, 2).numpy(), axis=0, return_inverse=True)
        lines += [f"vt {u:.9g} {v:.9g}" for u, v in corners.tolist()]
        texture = of_corner.reshape(-1, 3) + 1
    else:
        texture = None
    lines += [f"vn {x:.6g} {y:.6g} {z:.6g}" for x, y, z in vertex_normals(vertices, head.faces).tolist()]
    for number, corner in enumerate(faces.tolist()):
        middle = [""] * 3 if texture is None else texture[number].tolist()
        lines.append("f " + " ".join(f"{v}/{t}/{v}" for v, t in zip(corner, middle, strict=True)))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, ""]), "ascii")


def write_glb(vertices: Tensor, head: FlameModel, path: Path | str) -> None:
    """Writes one binary glTF 2.0 mesh: metres, y up, smooth normals, texture coordinates if the head has them.

    Vertices on a seam of the texture are repeated after the head's V vertices.

    Args:
        vertices: (V,3) world space, metres.
    """
    normals = vertex_normals(vertices, head.faces).numpy()
    points, faces = vertices.detach().numpy(), head.faces.numpy()
    attributes = {"POSITION": points, "NORMAL": normals}
    if head.uv is not None:
        source, uv, faces = _split_seams(faces, head.uv.numpy(), len(points))
        attributes = {name: values[source] for name, values in attributes.items()}
        attributes["TEXCOORD_0"] = np.stack([uv[:, 0], 1.0 - uv[:, 1]], 1)  # glTF measures v from the top
    with atomic_path(path) as temporary:
        temporary.write_bytes(_glb(attributes, faces))


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(V,3) unit normals: of the triangles around a vertex, weighted by area; z if there are none."""
    corners = vertices.detach().double()[faces]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = torch.zeros(len(vertices), 3, dtype=torch.float64)
    for corner in range(3):
        summed.index_add_(0, faces[:, corner], normals)
    length = summed.norm(dim=1, keepdim=True)
    return torch.where(
        length > 0, summed / length.clamp_min(1e-300), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float32).double()
    ).float()


def _split_seams(faces: np.ndarray, uv: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex per pair of vertex and texture coordinate: the original vertex of each, its (u,v), and the new faces.

    The first of each vertex's pairs keeps the vertex's index.
    """
    corner_vertex, corner_uv = faces.reshape(-1), uv.reshape(-1, 2)
    pairs, first, of_corner = np.unique(
        np.concatenate([corner_vertex[:, None], corner_uv], 1), axis=0, return_index=True, return_inverse=True
    )
    vertex = pairs[:, 0].astype(np.int64)
    own = np.ones(len(pairs), bool)
    own[1:] = vertex[1:] != vertex[:-1]
    number = np.where(own, vertex, count - 1 + np.cumsum(~own))
    total = count + int((~own).sum())
    source, texture = np.concatenate([np.arange(count), vertex[~own]]), np.zeros((total, 2), np.float32)
    texture[number] = corner_uv[first]
    return source, texture, number[of_corner.reshape(-1)].reshape(-1, 3)


def _glb(attributes: dict[str, np.ndarray], faces: np.ndarray) -> bytes:
    """A binary glTF with one mesh: the JSON that describes it, then its arrays."""
    arrays = {**{name: values.astype("<f4") for name, values in attributes.items()}, "indices": faces.astype("<u4").reshape(-1)}
    views, accessors, blob = [], [], b""
    for name, values in arrays.items():
        data = values.tobytes()
        target = ELEMENTS if name == "indices" else ARRAY
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(data), "target": target})
        kind = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
        component = UINT if name == "indices" else FLOAT
        accessors.append({"bufferView": len(views) - 1, "componentType": component, "count": len(values), "type": kind})
        if name == "POSITION":
            accessors[-1].update(min=values.min(0).tolist(), max=values.max(0).tolist())
        blob += data  # all are multiples of 4 bytes, as glTF requires
    primitive = {"attributes": {name: i for i, name in enumerate(attributes)}, "indices": len(arrays) - 1, "material": 0}
    material = {
        "name": "head",
        "doubleSided": True,
        "pbrMetallicRoughness": {"baseColorFactor": list(GREY), "metallicFactor": 0.0, "roughnessFactor": 0.8},
    }
    content = {
        "asset": {"version": "2.0", "generator": "taichi-avatars"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"name": "head", "primitives": [primitive]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(content).encode("ascii")
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
