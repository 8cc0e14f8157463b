"""The selfie of the built-in subject: that the video shows what the truth beside it says."""

import math

import av
import numpy as np
import pytest
import torch
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.ops.mesh import shade_mesh
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.synthetic.garment import make_garment
from taichi_avatars.synthetic.identity import identity
from taichi_avatars.synthetic.renderer import resting_mesh
from taichi_avatars.synthetic.selfie import HELD_OUT, selfie_performance
from taichi_avatars.video.selfie import write_selfie

SIZE, SECONDS, FPS = (60, 80), 5.0, 2


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out, seen = tmp_path_factory.mktemp("selfie") / "me", []
    write_selfie(
        out,
        width=SIZE[0],
        height=SIZE[1],
        seconds=SECONDS,
        fps=FPS,
        supersample=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(k + 1, 10) for k in range(10)]
    return out


@pytest.fixture(scope="module")
def frames(folder):
    with av.open(str(folder / "video.mp4")) as video:
        assert video.streams.video[0].average_rate == FPS and video.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24").astype(np.float64) / 255 for frame in video.decode(video=0)]


def read(folder, kind, view):
    return np.asarray(Image.open(folder / "truth" / kind / view.image.name)).astype(np.float64) / 255


def test_truth_is_a_capture_of_every_frame(folder, head, frames):
    capture = load_capture(folder / "truth", head=head)
    assert [v.timestep for v in capture.train] == list(range(9)) and [v.timestep for v in capture.test] == [9]
    assert len(frames) == 10 and frames[0].shape == (80, 60, 3) and capture.val == []
    assert len({tuple(v.camera.world_to_camera.flatten().tolist()) for v in capture.train}) == 9
    assert len({v.camera.fx for v in capture.train}) == 1


def test_the_video_shows_the_true_head_and_a_room(folder, head, frames):
    capture = load_capture(folder / "truth", head=head)
    for view in [*capture.train, *capture.test]:
        image, person = read(folder, "images", view), read(folder, "person_masks", view)
        inside, outside = image[..., 3] == 1, person == 0
        shirt = (person == 1) & (image[..., 3] == 0)
        frame = frames[view.timestep]
        assert inside.mean() > 0.1 and outside.mean() > 0.2 and shirt.mean() > 0.05
        assert np.abs(frame - image[..., :3])[inside].mean() < 0.03  # noise and chroma of half the resolution
        assert frame[outside].std() > 0.05  # not an empty wall
        assert (image[..., 3] <= person + 1 / 255).all()


def test_parameters_and_cameras_explain_the_mattes(folder, head):
    capture = load_capture(folder / "truth", head=head)
    flame = capture.flame
    flame.static_offset = None  # the skin under the hair
    for view in [*capture.train, *capture.test]:
        vertices = flame.mesh(head, flame.row(view.timestep)).vertices
        _, silhouette = shade_mesh(vertices, head.faces, view.camera, supersample=2)
        matte, person = read(folder, "fg_masks", view), read(folder, "person_masks", view)
        assert (person[silhouette.numpy() == 1] == 1).all()
        face = vertices[head.regions["face"]] @ view.camera.world_to_camera[:3, :3].T + view.camera.world_to_camera[:3, 3]
        x = (view.camera.fx * face[:, 0] / face[:, 2] + view.camera.cx).long()
        y = (view.camera.fy * face[:, 1] / face[:, 2] + view.camera.cy).long()
        on_screen = (x >= 0) & (x < SIZE[0]) & (y >= 0) & (y < SIZE[1])
        assert on_screen.float().mean() > 0.95
        assert matte[y[on_screen], x[on_screen]].mean() > 0.95


def test_refuses_what_makes_no_film_and_replaces_nothing_else(tmp_path):
    kwargs = {"width": 60, "height": 80, "seconds": 5.0, "fps": 2, "supersample": 2}
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UserError, match="not a capture made by this program"):
        write_selfie(tmp_path, **kwargs)
    with pytest.raises(UserError, match="fps must be at least 1"):
        write_selfie(tmp_path / "new", fps=0)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_performance_turns_and_speaks(head):
    time = np.arange(300) / 10
    for seed in range(3):
        motion = selfie_performance(head, time, 30.0, seed, torch.zeros(head.n_shape))
        turn = motion.rotation + motion.neck_pose
        end = round((1 - HELD_OUT) * 300)
        yaw, pitch = turn[:, 1].rad2deg(), turn[:, 0].rad2deg()
        assert 38 < float(yaw.max()) < 58 and -58 < float(yaw.min()) < -38
        assert 14 < float(pitch.max()) < 35 and -35 < float(pitch.min()) < -14
        assert float(yaw[end:].abs().max()) < 35
        units = {name: motion.expr[:, k] for k, name in enumerate(head.expression_names)}
        for name in ("jawOpen", "mouthSmileLeft", "eyeBlinkLeft", "mouthPucker", "browInnerUp"):
            assert float(units[name][:end].max()) > 0.55, name
        assert float(units["jawOpen"][end:].std()) > 0.03  # it speaks in the held-out part too
        assert float(motion.expr.min()) >= 0 and float(motion.expr.max()) <= 1
        finer = selfie_performance(head, np.arange(900) / 30, 30.0, seed, torch.zeros(head.n_shape))
        torch.testing.assert_close(finer.expr[::3], motion.expr, atol=1e-5, rtol=0)


def test_the_shirt_encloses_every_neck_and_turns_with_the_root(head):
    for seed in range(4):
        mesh = resting_mesh(head, identity(head, seed))
        garment = make_garment(head, mesh.vertices, mesh.joints[0])
        neck = mesh.vertices[head.regions["neck"]]
        lowest = neck[neck[:, 1] < neck[:, 1].min() + 0.01]
        around = torch.cdist(lowest, garment.vertices).amin(1)
        assert float(around.max()) < 0.02
        rotation, translation = torch.tensor([0.1, -0.3, 0.05]), torch.tensor([0.01, 0.02, -0.01])
        zeros = [torch.zeros(size) for size in (3, 3, 6)]
        moved = head(identity(head, seed).shape, torch.zeros(head.n_expr), rotation, *zeros, translation)
        between = torch.cdist(moved.vertices[:5], garment.moved(rotation, translation)[:50])
        torch.testing.assert_close(between, torch.cdist(mesh.vertices[:5], garment.vertices[:50]), atol=1e-5, rtol=0)
        assert math.isclose(float(garment.vertices[:, 0].amax()), -float(garment.vertices[:, 0].amin()), rel_tol=0.05)
