"""Every loader that reads files that others wrote, with a file that it takes."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scene.tiny_capture import flame_parameters

from taichi_avatars.avatar import model_folder
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation import lpips_weights
from taichi_avatars.export import web
from taichi_avatars.export.compressed import PACKED, RANGES
from taichi_avatars.export.splat import RECORD
from taichi_avatars.files.description import Description
from taichi_avatars.files.pickles import load_npy, load_pickle
from taichi_avatars.head.assets import read_head_json
from taichi_avatars.head.flame_files import read_head
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.inspection import exports
from taichi_avatars.motion import arkit_json, live_link
from taichi_avatars.scene import colmap
from taichi_avatars.scene.images import check_image
from taichi_avatars.scene.transforms import CameraReader, read_transforms
from taichi_avatars.training import checkpoint
from taichi_avatars.video.camera_path import read_camera_path


class Loader(NamedTuple):
    """name: of the file.  read: the loader.  valid: bytes that it takes."""

    name: str
    read: Callable[[Path], object]
    valid: bytes


def packed(write: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def frame(**other: object) -> dict[str, object]:
    pose = [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 1.0], [0, 0, 0, 1.0]]
    values = {"file_path": "a.png", "timestep_index": 0, "transform_matrix": pose, "fl_x": 50.0, "w": 24, "h": 32}
    return {**values, **other}


def transforms(**other: object) -> bytes:
    return json.dumps({"frames": [frame(**other)]}).encode()


def _transforms(path: Path) -> object:
    cameras = CameraReader()
    Image.new("RGB", (24, 32)).save(path.parent / "a.png")
    return [cameras.camera(f, f.file("file_path") or path) for f in read_transforms(path, path.parent)]


def ply(count: object = 2, values: np.ndarray | None = None, names: list[str] | None = None) -> bytes:
    names = names or ["x", "y", "z", *(f"f_dc_{k}" for k in range(3)), "opacity", *(f"scale_{k}" for k in range(3))]
    names = [*names, *(f"rot_{k}" for k in range(4))]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}", *(f"property float {n}" for n in names)]
    table = np.ones((2, len(names)), "<f4") if values is None else values
    return "\n".join([*header, "end_header\n"]).encode() + table.tobytes()


def colmap_cameras(count: int = 1, kind: int = 1, size: tuple[int, int] = (24, 32)) -> bytes:
    return struct.pack("<QiiQQ4d", count, 1, kind, *size, 50.0, 50.0, 12.0, 16.0)


def _colmap(path: Path) -> object:
    return list(colmap._guarded(path, colmap._cameras_bin, colmap._cameras_txt))


def _colmap_images(path: Path) -> object:
    return list(colmap._guarded(path, colmap._images_bin, colmap._images_txt))


def _colmap_points(path: Path) -> object:
    return list(colmap._guarded(path, colmap._points_bin, colmap._points_txt))


def state() -> dict[str, object]:
    return {"version": checkpoint.VERSION, "iteration": 3, "gaussians": {"means": torch.arange(30.0).view(10, 3)}}


def _described(describe: Callable[[Path], Description]) -> Callable[[Path], object]:
    """What `info` finds wrong, raised instead of listed."""

    def read(path: Path) -> object:
        found = describe(path)
        for problem in found.problems:
            assert "\n" not in problem
        if found.problems:
            raise UserError(found.problems[0])
        return found

    return read


def _bundle(path: Path) -> object:
    """Read as it is: a bundle is a folder, whose other files are not at fault."""
    (path.parent / web.CONTENT).write_bytes(b"12345")
    for file in web._player():
        (path.parent / file.name).touch()
    return web.read_index(path.parent)


def _weights(path: Path) -> object:
    return lpips_weights.read_weights("alex", path)


def some_weights() -> dict[str, torch.Tensor]:
    """Zeros in the shapes of LPIPS's AlexNet, of one number in memory and in the file."""
    values = {}
    for number, shape in lpips_weights.LAYERS["alex"]:
        values[f"net.slice1.{number}.weight"] = torch.zeros(1).expand(shape)
        values[f"net.slice1.{number}.bias"] = torch.zeros(1).expand(shape[:1])
    for stage, size in enumerate(lpips_weights.CHANNELS["alex"]):
        values[f"lin{stage}.model.1.weight"] = torch.zeros(1).expand(1, size, 1, 1)
    return values


def zipped_plys(**members: bytes) -> bytes:
    def write(file: io.BytesIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, data in members.items():
                bundle.writestr(f"{name}.ply", data)

    return packed(write)


def glb(index: object | None = None) -> bytes:
    accessors = [{"count": 3}, {"count": 3}]
    mesh = {"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}
    text = json.dumps({"meshes": [mesh], "accessors": accessors} if index is None else index).encode()
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


def compressed(count: object = 1, chunks: object = 1, low: float = 0.0) -> bytes:
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element chunk {chunks}",
        *(f"property float {n}" for n in RANGES[:12]),
    ]
    header += [f"element vertex {count}", *(f"property uint {n}" for n in PACKED), "end_header\n"]
    return "\n".join(header).encode() + struct.pack("<12f4I", *[low] * 12, 1, 2, 3, 4)


KEY = {"time": 0, "position": [0, 0, 1], "look_at": [0, 0, 0], "fov_y": 20}
NAMES = ["jawOpen", "eyeBlinkLeft"]
CSV = "Timecode,BlendShapeCount,JawOpen,EyeBlinkLeft\n10:00:00:01.1,52,0.5,0.1\n10:00:00:02.1,52,0.25,0.1\n"
NOISE = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
FLAME = flame_parameters(3)

LOADERS = {
    "transforms": Loader("transforms_train.json", _transforms, transforms()),
    "flame npz": Loader("flame.npz", FlameSequence.load_npz, packed(lambda f: np.savez(f, **FLAME))),
    "head npz": Loader("head.npz", read_head, packed(lambda f: np.savez_compressed(f, v_template=np.zeros((4, 3))))),
    "npy": Loader("a.npy", load_npy, packed(lambda f: np.save(f, np.arange(9.0)))),
    "pickle": Loader("a.pkl", load_pickle, pickle.dumps({"a": np.arange(9.0), "b": [1, "c"]})),
    "ply": Loader("point_cloud.ply", Gaussians.load_ply, ply()),
    "png": Loader("a.png", check_image, packed(lambda f: Image.fromarray(NOISE).save(f, "PNG"))),
    "jpeg": Loader("a.jpg", check_image, packed(lambda f: Image.fromarray(NOISE).save(f, "JPEG"))),
    "colmap cameras": Loader("cameras.bin", _colmap, colmap_cameras()),
    "colmap images": Loader(
        "images.bin", _colmap_images, struct.pack("<Qi7di", 1, 1, 1, 0, 0, 0, 0, 0, 1, 1) + b"a.png\0" + struct.pack("<Q", 0)
    ),
    "colmap points": Loader("points3D.bin", _colmap_points, struct.pack("<QQ3d3BdQ", 1, 1, 0, 0, 0, 1, 2, 3, 0.5, 0)),
    "cfg_args": Loader("cfg_args", model_folder._namespace, b"Namespace(sh_degree=3, source_path='/data', eval=True)"),
    "toml": Loader("config.toml", TrainConfig.from_toml, TrainConfig().to_toml().encode()),
    "checkpoint": Loader("checkpoint.pt", checkpoint._read, packed(lambda f: torch.save(state(), f))),
    "camera path": Loader("path.json", read_camera_path, json.dumps({"keys": [KEY]}).encode()),
    "arkit json": Loader(
        "take.json", arkit_json.read_take, json.dumps({"names": NAMES, "frames": [{"weights": [0.5, 0.1]}]}).encode()
    ),
    "arkit csv": Loader("take.csv", live_link.read_take, CSV.encode()),
    "splat": Loader("a.splat", _described(exports.describe_splat), np.ones(3, RECORD).tobytes()),
    "compressed ply": Loader("a.compressed.ply", _described(exports.describe_compressed), compressed()),
    "zip of plys": Loader("a.zip", _described(exports.describe_sequence), zipped_plys(frame_0000=ply())),
    "glb": Loader("a.glb", _described(exports.describe_glb), glb()),
    "obj": Loader("a.obj", _described(exports.describe_obj), b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nf 1/1 2/1 3/1\n"),
    "web bundle": Loader(web.INDEX, _bundle, json.dumps({"format": web.FORMAT, "bytes": 5, "frames": 1}).encode()),
    "lpips weights": Loader("alex.pth", _weights, packed(lambda f: torch.save(some_weights(), f))),
    "head.json": Loader("head.json", read_head_json, b'{"head": "builtin-1"}'),
}  # fmt: skip
