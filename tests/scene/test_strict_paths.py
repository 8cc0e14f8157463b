"""With strict_paths, a capture reaches nothing outside its folder."""

from pathlib import Path

import pytest
from PIL import Image
from scene.tiny_capture import read_split, write_split, write_tiny_capture

from taichi_avatars.errors import UserError
from taichi_avatars.scene.capture import load_capture


@pytest.fixture(params=["..", "absolute", "link"])
def reaching(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A capture, one of whose images lies outside."""
    folder, outside = write_tiny_capture(tmp_path / "capture"), tmp_path / "outside.png"
    Image.new("RGB", (24, 32)).save(outside)
    content = read_split(folder, "train")
    if request.param == "link":
        image = folder / content["frames"][0]["file_path"]
        image.unlink()
        image.symlink_to(outside)
    else:
        content["frames"][0]["file_path"] = "../outside.png" if request.param == ".." else str(outside)
        write_split(folder, "train", content)
    return folder


def test_a_file_outside_is_refused_only_when_asked_to(reaching: Path) -> None:
    assert load_capture(reaching).train
    with pytest.raises(UserError, match=r"frame 0 .*leads out of .*--strict-paths") as caught:
        load_capture(reaching, strict_paths=True)
    assert "\n" not in str(caught.value)


def test_a_capture_of_its_own_files_is_taken(tmp_path: Path) -> None:
    assert load_capture(write_tiny_capture(tmp_path), strict_paths=True).train
