"""Files as other systems write them: byte order marks, line ends, comments in any language, and what is no file at all."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData, PlyElement

from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.files.json import read_json
from taichi_avatars.files.npz import load_npz
from taichi_avatars.files.pickles import load_npy, load_pickle
from taichi_avatars.files.ply import parse_ply, read_ply
from taichi_avatars.files.text import read_lines
from taichi_avatars.scene.images import image_size

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + 32 * b"4f" + b"\nsize 12345\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_of_any_system(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(end.join(["Größe 1 ", "", "  zwei"]).encode(encoding))
    assert read_lines(path) == ["Größe 1", "", "zwei"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_json_and_toml_with_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes('{\r\n"größe": 1}'.encode(encoding))
    assert read_json(tmp_path / "a.json") == {"größe": 1}
    (tmp_path / "a.toml").write_bytes("# Größe\r\nsh_degree = 1\r\n".encode(encoding))
    assert TrainConfig.from_toml(tmp_path / "a.toml").sh_degree == 1


def _ply(change=lambda content: content, text: bool = False) -> bytes:
    table = np.array([(1.0, 2.0), (3.0, 4.0)], dtype=[("x", "<f4"), ("y", "<f4")])
    file = BytesIO()
    PlyData([PlyElement.describe(table, "vertex")], text=text, byte_order="<", comments=["made by hand"]).write(file)
    return change(file.getvalue())


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content.replace(b"made by hand", "von Hand, für Köpfe".encode()), id="comment in UTF-8"),
        pytest.param(lambda content: content.replace(b"made by hand", b"f\xfcr K\xf6pfe"), id="comment in Latin-1"),
        pytest.param(lambda content: content.replace(b"ply\n", b"ply\n\n", 1), id="blank line"),
        pytest.param(lambda content: b"\xef\xbb\xbf" + content, id="byte order mark"),
    ],
)
def test_ply_headers_of_others(tmp_path: Path, text: bool, change) -> None:
    content = _ply(change, text)
    (tmp_path / "a.ply").write_bytes(content)
    for ply in (read_ply(tmp_path / "a.ply"), parse_ply(BytesIO(content), len(content), "memory")):
        np.testing.assert_array_equal(ply["vertex"].data["y"], [2.0, 4.0])


def test_ply_with_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_bytes(_ply(lambda content: content.replace(b"\n", b"\r\n"), text=True))
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply")["vertex"].data["x"], [1.0, 3.0])


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.ply", read_ply),
        ("a.json", read_json),
        ("a.npz", load_npz),
        ("a.npy", load_npy),
        ("a.pkl", load_pickle),
        ("a.png", image_size),
    ],
)
def test_what_lies_in_a_files_place(tmp_path: Path, name: str, read) -> None:
    path = tmp_path / name
    path.write_bytes(POINTER)
    with pytest.raises(UserError, match=r"is a Git LFS pointer.*12345 bytes.*git lfs pull") as error:
        read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    path.write_bytes(b"<!DOCTYPE html>\n<html><title>Sign in</title></html>")
    with pytest.raises(UserError, match="is a web page"):
        read(path)
