"""Files that are broken, absurd or malicious, by loader and by what is wrong with them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
import torch

from malformed.loaders import (
    CSV,
    FLAME,
    KEY,
    LOADERS,
    colmap_cameras,
    compressed,
    glb,
    packed,
    ply,
    some_weights,
    state,
    transforms,
    zipped_plys,
)
from taichi_avatars.export import web

NESTED = b"[" * 200_000
CANARY = "CANARY"  # stands for the path of a file that whatever is executed would write
NAN, INF = float("nan"), float("inf")
TEXTS = ("cfg_args", "toml", "arkit csv", "obj")  # whose shorter forms may be whole
MAY_BE_SHORT = (*TEXTS, "pickle")
HEADERS = ("png", "jpeg")


class Runs:
    """Pickled, it asks for a call."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def corpus() -> Iterator[tuple[str, str, bytes]]:
    """Loader, what is wrong, and the bytes."""
    for name, loader in LOADERS.items():
        for what, data in _anything(loader.valid):
            if (name, what) in (("toml", "empty"), ("splat", "backwards")):
                continue  # no options are fine, and any three records of sane numbers
            yield name, what, data
        if name not in TEXTS:
            for share in (0.1, 0.3, 0.5, 0.7, 0.9):
                yield name, f"cut off at {share:.0%}", loader.valid[: int(share * len(loader.valid))]
    for name in ("transforms", "camera path", "arkit json", "head.json"):
        yield name, "deep nesting", NESTED
        yield name, "deep nesting of objects", b'{"a":' * 100_000
        yield name, "huge integer", b'{"frames": 1' + b"0" * 10_000 + b"}"
        yield name, "not UTF-8", b'{"frames": "\xff\xfe"}'
        yield name, "the wrong type", b"3"
    yield from (("transforms", *one) for one in _transforms())
    yield from (("flame npz", *one) for one in _npz())
    yield from (("npy", *one) for one in _npy())
    yield from (("pickle", *one) for one in _pickles())
    yield from (("npy", f"object array: {what}", _object_npy(data)) for what, data in _pickles())
    yield from (("ply", *one) for one in _plys())
    yield from (("cfg_args", *one) for one in _cfg_args())
    yield from (("checkpoint", *one) for one in _checkpoints())
    for value in (NAN, INF, "a", None, [1], -1, 500):
        yield "camera path", f"fov_y {value}", json.dumps({"keys": [{**KEY, "fov_y": value}]}).encode()
        yield "camera path", f"position {value}", json.dumps({"keys": [{**KEY, "position": value}]}).encode()
    for value in ("nan", "inf", "x", "1e999"):
        yield "arkit csv", f"a weight {value}", CSV.replace("0.25", value).encode()
    yield "arkit csv", "a short row", CSV.replace(",0.25,0.1", ",0.25").encode()
    yield from _exports()
    yield "colmap cameras", "absurd count", colmap_cameras(2**62)
    yield "colmap cameras", "unknown model", colmap_cameras(kind=77)
    yield "png", "bomb", _png(60_000, 60_000)
    yield "png", "more than Pillow takes", _png(2_000_000, 2_000_000)
    yield "png", "no pixels", _png(0, 5)
    yield "toml", "deep nesting", b"a = " + NESTED
    yield "toml", "unknown option", b"made_up = 1"
    yield "toml", "infinite number", b"feature_lr = inf"


def _anything(valid: bytes) -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "zeros", bytes(4096)
    yield "0xff", b"\xff" * 4096
    yield "noise", np.random.default_rng(1).bytes(4096)
    yield "web page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "git lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 12345\n"
    yield "backwards", valid[::-1]


def _transforms() -> Iterator[tuple[str, bytes]]:
    for key in ("fl_x", "fl_y", "w", "h"):
        for value in (0, -1, NAN, INF, "a", [1]):
            yield f"{key} {value}", transforms(**{key: value})
    yield "absurd size", transforms(w=10**12, h=10**12)
    for value in (NAN, INF, "a", None, 10**400):
        pose = [[value, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        yield f"pose {str(value)[:9]}", transforms(transform_matrix=pose)
    yield "mirrored pose", transforms(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist())
    yield "zero pose", transforms(transform_matrix=np.zeros((4, 4)).tolist())
    for name in ("../../../../../../etc/passwd", "/etc/passwd", "a\0b", "", "x" * 10_000, 5, "missing.png", "/dev/zero"):
        yield f"path {str(name)[:30]!r}", transforms(file_path=name)


def _npz() -> Iterator[tuple[str, bytes]]:
    for key in FLAME:
        yield f"{key} NaN", packed(lambda f, k=key: np.savez(f, **{**FLAME, k: FLAME[k] * NAN}))
        yield f"{key} missing", packed(lambda f, k=key: np.savez(f, **{n: v for n, v in FLAME.items() if n != k}))
        yield f"{key} text", packed(lambda f, k=key: np.savez(f, **{**FLAME, k: np.array(["a"])}))
        yield f"{key} of five axes", packed(lambda f, k=key: np.savez(f, **{**FLAME, k: np.zeros((1, 2, 1, 2, 1))}))
        yield (
            f"{key} pickled",
            packed(lambda f, k=key: np.savez(f, **{**FLAME, k: np.array([Runs(os.system, "touch CANARY")])})),
        )
    yield "declares a petabyte", _zipped(expr=_npy_claiming((1 << 47,)))
    yield "declares negative sizes", _zipped(expr=_npy_claiming((-1, 5)))
    yield "zip bomb", _zipped(expr=_npy_claiming((1 << 27,)) + bytes(1 << 20))
    yield "a path as a name", _zipped(**{"../../CANARY": b"x"})


def _npy() -> Iterator[tuple[str, bytes]]:
    yield "declares a petabyte", _npy_claiming((1 << 47,))
    yield "declares negative sizes", _npy_claiming((-5,))
    for text in (
        "{'descr': __import__('os').system('touch CANARY')}",
        "{" * 500,
        "{'descr': 'V0', 'shape': (1,)}",
        "\x00" * 40,
    ):
        yield f"header {text[:20]!r}", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def _pickles() -> Iterator[tuple[str, bytes]]:
    for protocol in (0, 2, 4):
        yield f"os.system, protocol {protocol}", pickle.dumps(Runs(os.system, "touch CANARY"), protocol)
        yield f"open, protocol {protocol}", pickle.dumps(Runs(open, "CANARY", "w"), protocol)
        yield f"eval, protocol {protocol}", pickle.dumps(Runs(eval, "open('CANARY', 'w')"), protocol)
        yield f"exec, protocol {protocol}", pickle.dumps(Runs(exec, "open('CANARY', 'w')"), protocol)
    yield "old-style call", b"cos\nsystem\n(S'touch CANARY'\ntR."
    yield "subprocess", b"csubprocess\nPopen\n(S'touch CANARY'\nI01\ntR."
    yield "getattr", b"c__builtin__\ngetattr\n(c__builtin__\n__import__\nS'os'\ntR."
    yield "numpy's runner", b'cnumpy.testing._private.utils\nrunstring\n(S\'open("CANARY","w")\'\n}tR.'


def _object_npy(pickled: bytes) -> bytes:
    text = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + pickled


def _plys() -> Iterator[tuple[str, bytes]]:
    for count in (3, 10**9, 10**18, 10**40, -1, "many"):
        yield f"{count} vertices", ply(count)
    for value in (NAN, INF, -INF):
        yield f"{value}", ply(values=np.full((2, 14), value, "<f4"))
    yield "no opacity", ply(names=["x", "y", "z", *(f"f_dc_{k}" for k in range(3)), *(f"scale_{k}" for k in range(3)), "other"])
    yield "an endless header", b"ply\nformat ascii 1.0\n" + b"comment x\n" * 100_000
    yield (
        "a list that is too long",
        (b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list uint float x\nend_header\n\xff\xff\xff\xff"),
    )


def _cfg_args() -> Iterator[tuple[str, bytes]]:
    for text in (
        *("__import__('os').system('touch CANARY')", "Namespace(a=__import__('os').system('touch CANARY'))"),
        *("Namespace(a=open('CANARY','w'))", "Namespace(**{})(a=1)", "Namespace(1)", "Other(a=1)", "Namespace(a=b)"),
        *(
            "Namespace(a=" + "(" * 5_000,
            "Namespace(a=" + "-" * 50_000 + "1)",
            "Namespace(a=[x for x in ()])",
            "Namespace(a=1",
            "1",
        ),
        *("Namespace(a=f'{1}')", "Namespace(a=lambda: 1)", "Namespace(a={[]: 1})", "\0"),
    ):
        yield text[:40], text.encode()


def _checkpoints() -> Iterator[tuple[str, bytes]]:
    valid = LOADERS["checkpoint"].valid
    at = valid.index(np.arange(30.0, dtype=np.float32).tobytes())
    yield "one bit of a tensor", valid[: at + 50] + bytes([valid[at + 50] ^ 1]) + valid[at + 51 :]
    yield "a call", packed(lambda f: torch.save({**state(), "a": Runs(os.system, "touch CANARY")}, f))
    yield "a call in the old format", pickle.dumps(Runs(os.system, "touch CANARY"))
    yield "no dictionary", packed(lambda f: torch.save([1, 2], f))
    yield "another version", packed(lambda f: torch.save({**state(), "version": 99}, f))
    yield "zip bomb", _zipped(data=bytes(50 << 20))
    yield "a zip without a state", _zipped(hello=b"x")


def _exports() -> Iterator[tuple[str, str, bytes]]:
    for count in (2, 10**9, 10**40, -1, "many"):
        yield "compressed ply", f"{count} vertices", compressed(count)
    yield "compressed ply", "too many chunks", compressed(chunks=0)
    yield "compressed ply", "NaN", compressed(low=NAN)
    yield "splat", "NaN", np.full(32, 255, np.uint8).tobytes()
    yield "zip of plys", "bomb", zipped_plys(a=bytes(50 << 20))
    yield "zip of plys", "no ply", zipped_plys(a=b"hello")
    yield "zip of plys", "absurd count", zipped_plys(a=ply(10**9))
    yield "zip of plys", "a name of two lines", zipped_plys(**{"a\nb": b"ply"})
    yield "zip of plys", "endless header", zipped_plys(a=np.random.default_rng(0).bytes(9999) + b"\n" * 2000)
    for index in ([], {}, {"meshes": 3}, {"meshes": [{"primitives": []}]}, 1):
        yield "glb", f"index {index}", glb(index)
    for count in (-1, "a", INF, NAN, [1], None):
        mesh = {"primitives": [{"attributes": {"POSITION": 0}, "indices": 0}]}
        yield "glb", f"count {count}", glb({"meshes": [mesh], "accessors": [{"count": count}]})
    yield "glb", "deep nesting", struct.pack("<4sIIII", b"glTF", 2, 20 + len(NESTED), len(NESTED), 0) + NESTED
    yield "obj", "a face beyond", b"v 0 0 0\nf 1 2 3\n"
    yield "obj", "a face of words", b"v 0 0 0\nf a b c\n"
    yield "obj", "an endless index", b"v 0 0 0\nf " + b"9" * 100_000 + b"\n"
    yield "web bundle", "deep nesting", NESTED
    yield "web bundle", "the wrong type", b"3"
    yield "web bundle", "other bytes", json.dumps({"format": web.FORMAT, "bytes": 6}).encode()
    for what, pickled in _pickles():
        yield "lpips weights", what, pickled
    yield "lpips weights", "a call", packed(lambda f: torch.save({**some_weights(), "a": Runs(os.system, "touch CANARY")}, f))
    yield "lpips weights", "no names", packed(lambda f: torch.save([1], f))
    yield "lpips weights", "of another network", packed(lambda f: torch.save({"lin0.model.1.weight": torch.zeros(3)}, f))
    yield "lpips weights", "zip bomb", _zipped(data=bytes(50 << 20))


def _npy_claiming(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def _zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def _png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
