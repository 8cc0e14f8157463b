import json
from pathlib import Path

import numpy as np
from avatar.small_avatar import small_avatar

from taichi_avatars.export.web import INDEX, write_web
from taichi_avatars.video.label import labelled


def test_a_mark_is_in_the_lower_left_corner() -> None:
    picture = np.full((400, 300, 3), 200, np.uint8)
    marked = labelled(picture, "made by a computer")
    changed = (marked != picture).any(2)
    rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
    assert rows[0] > 340 and rows[-1] < 400 and columns[0] < 30 and columns[-1] < 200
    assert (marked == 255).any() and (picture == 200).all()
    assert labelled(picture, None) is picture and labelled(picture, "") is picture


def test_a_page_carries_a_mark_if_it_is_given(tmp_path: Path) -> None:
    for name, label in (("with", "made by a computer"), ("without", None)):
        write_web(small_avatar(), tmp_path / name, label=label)
        assert json.loads((tmp_path / name / INDEX).read_text())["label"] == label
    page = (tmp_path / "with/index.html").read_text()
    assert '<p id="label"></p>' in page
