"""Where mouth and eyes are in a picture."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from evaluation.test_scores import Recorder
from scene.tiny_capture import write_tiny_capture

from taichi_avatars.evaluation.crops import boxes, regions
from taichi_avatars.evaluation.scores import evaluate, psnr
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.scene.images import load_image


def looking_at(head, azimuth: float, distance: float = 1.0) -> Camera:
    middle = 0.5 * (head.v_template.amin(0) + head.v_template.amax(0))
    eye = middle + distance * torch.tensor([math.sin(azimuth), 0.0, math.cos(azimuth)])
    return Camera.look_at(eye, middle, 0.3, 275, 401)


def test_from_the_front_the_mouth_is_below_the_eyes(head):
    camera = looking_at(head, 0.0)
    found = boxes(head, head.v_template, camera)
    assert set(found) == {"mouth", "eyes"}
    (_, mouth_rows, mouth_columns), (_, eye_rows, eye_columns) = found["mouth"], found["eyes"]
    assert eye_rows.stop < mouth_rows.start
    assert eye_columns.start < mouth_columns.start < mouth_columns.stop < eye_columns.stop
    lips = head.v_template[regions(head)["mouth"]] @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    columns = camera.fx * lips[:, 0] / lips[:, 2] + camera.cx
    assert mouth_columns.start < columns.min() and columns.max() < mouth_columns.stop, "with a margin"
    area = sum((rows.stop - rows.start) * (columns.stop - columns.start) for _, rows, columns in found.values())
    assert area < 0.1 * camera.width * camera.height


def test_there_are_none_from_behind_from_far_away_and_without_names(head):
    assert not boxes(head, head.v_template, looking_at(head, math.pi))
    assert not boxes(head, head.v_template, looking_at(head, 0.0, distance=30.0))
    assert not boxes(head, head.v_template, looking_at(head, 0.0, distance=-1.0))

    nameless = SimpleNamespace(regions={})
    assert not boxes(nameless, head.v_template, looking_at(head, 0.0))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_they_end_with_the_picture(head, shift):
    camera = looking_at(head, 0.0)
    for _, rows, columns in boxes(head, head.v_template, replace(camera, cx=camera.cx + shift)).values():
        assert 0 <= rows.start < rows.stop <= camera.height and 0 <= columns.start < columns.stop <= camera.width


def test_they_are_measured_apart(tmp_path: Path) -> None:
    views = load_capture(write_tiny_capture(tmp_path)).train
    box = (slice(None), slice(2, 9), slice(3, 12))
    scores = evaluate(Recorder(views, (0.0, 0.0, 0.0), 0.1), views, crops=lambda view: {"mouth": box}).views
    view = views[0]
    truth = load_image(view)
    assert scores[view.name]["PSNR_mouth"] == pytest.approx(psnr((truth + 0.1).clamp(0, 1)[box], truth[box]), abs=1e-4)
