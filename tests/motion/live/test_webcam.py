"""A video of the built-in subject in a webcam's place: the face is found, its turns and expressions are what they were."""

from __future__ import annotations

import queue
from pathlib import Path

import numpy as np
import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.faces.head_turn import HeadTurn
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion.face_map import ARKIT_NAMES
from taichi_avatars.motion.live.face import Face
from taichi_avatars.motion.live.sources import open_source
from taichi_avatars.motion.live.webcam import FaceReader
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.renderer import make_subject, photograph, pose
from taichi_avatars.video.mp4 import write_mp4

SIZE = 256
MOMENTS = ((0.0, 0.0), (0.3, 0.9), (-0.3, 0.0))  # yaw in radians, jawOpen
PATIENCE = 60.0


@pytest.fixture(scope="module")
def pictures(head: FlameModel) -> list[np.ndarray]:
    subject = make_subject(head, 0, 0.35 / SIZE, strand_count=2000)
    camera = Camera.look_at(torch.tensor([0.0, 0.0, 1.1]), torch.tensor([0.0, 0.0, 0.0]), 0.42, SIZE, SIZE)
    assert head.expression_names is not None
    out = []
    for yaw, jaw in MOMENTS:
        expr = torch.zeros(head.n_expr)
        expr[head.expression_names.index("jawOpen")] = jaw
        vertices = head(subject.who.shape, expr, torch.tensor([0.0, yaw, 0.0])).vertices
        image = photograph(subject, pose(subject, vertices), camera, 2).over((0.45, 0.55, 0.5))
        out.append(image.permute(1, 2, 0).clamp(0, 1).mul(255).byte().numpy())
    return out


def test_a_face_is_read_as_it_is(pictures: list[np.ndarray]) -> None:
    reader = FaceReader()
    faces = [reader.read(picture, float(k)) for k, picture in enumerate(pictures)]
    assert all(face.found for face in faces)
    assert set(faces[0].weights) <= set(ARKIT_NAMES) and len(faces[0].weights) == 51
    assert faces[1].weights["jawOpen"] > faces[0].weights["jawOpen"] + 0.2
    for face, (yaw, _) in zip(faces, MOMENTS, strict=True):
        assert face.head[1] == pytest.approx(yaw, abs=0.12) and abs(face.head[0]) < 0.15 and abs(face.head[2]) < 0.1
    assert not reader.read(np.zeros_like(pictures[0]), 3.0).found
    assert reader.read(pictures[0], 4.0).found  # and found again


def test_turns_do_not_depend_on_place_and_size() -> None:
    points = 100.0 * torch.randn(478, 3, generator=torch.Generator().manual_seed(1)).numpy()
    turn = HeadTurn()
    first = turn(points)
    assert turn(1.7 * points + np.array([30.0, -20.0, 5.0])) == pytest.approx(first, abs=1e-6)
    assert np.linalg.det(first) == pytest.approx(1.0)


def test_a_video_is_played_in_real_time(pictures: list[np.ndarray], tmp_path: Path) -> None:
    write_mp4(tmp_path / "face.mp4", (picture for picture in pictures for _ in range(8)), 10)
    source = open_source(str(tmp_path / "face.mp4"), ARKIT_NAMES)
    taken: queue.Queue[Face] = queue.Queue()
    source.start(lambda face, arrival, new: taken.put(face))
    faces = [taken.get(timeout=PATIENCE)]
    while not (source.ended and taken.empty()):
        try:
            faces.append(taken.get(timeout=0.1))
        except queue.Empty:
            continue
    source.close()
    assert source.failure is None
    times = [face.time for face in faces if face.time is not None]
    assert times == sorted(times) and times[-1] > 1.0  # some may be passed over, but not the end
    assert faces[-1].head[1] < -0.15 or len(faces) == 1


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"no\.mp4: cannot be read as a video"):
        open_source(str(tmp_path / "no.mp4"), ARKIT_NAMES)
    with pytest.raises(UserError, match="webcam 77: cannot be opened"):
        open_source("webcam:77", ARKIT_NAMES)
