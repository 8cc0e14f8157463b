"""JSON files of ours."""

import json
from pathlib import Path

import pytest

from taichi_avatars.errors import UserError
from taichi_avatars.files.json import read_json, write_json


@pytest.mark.parametrize(("indent", "lines"), [(1, 4), (None, 1)])
def test_what_is_written_reads_back(tmp_path: Path, indent: int | None, lines: int) -> None:
    file = tmp_path / "new" / "a.json"
    write_json(file, {"a": 1.5, "b": "ä"}, indent=indent)
    assert read_json(file) == {"a": 1.5, "b": "ä"}
    assert file.read_text("utf-8").count("\n") == lines


def test_what_json_cannot_hold_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text("utf-8")) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.json: cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})
