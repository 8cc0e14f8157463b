import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
import roma
import torch
from avatar.small_avatar import small_avatar, small_motion
from PIL import Image
from scene.tiny_capture import HEIGHT, WIDTH, camera_at, write_tiny_capture

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import Place, place
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.overlay import MeshStyle, shaded_head
from taichi_avatars.motion.motion import Motion, own_motion
from taichi_avatars.motion.sources import load_motion
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.video.camera_path import read_camera_path
from taichi_avatars.video.reenact import GAP, Staging, driver_images, film, reenact, stage
from taichi_avatars.video.viewpoints import captured_camera, frontal_camera, orbiting


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return small_avatar()


@pytest.fixture
def motion(avatar: Avatar) -> Motion:
    assert avatar.head is not None
    return Motion("some", small_motion(avatar.head.n_expr, frames=4, n_shape=avatar.head.n_shape), 25.0, [])


def projected(points: torch.Tensor, camera: Camera) -> torch.Tensor:
    """(N,3) world -> (N,2) pixels."""
    pose = camera.world_to_camera
    x, y, z = (points @ pose[:3, :3].T + pose[:3, 3]).unbind(1)
    return torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], 1)


@pytest.mark.parametrize("size", [(200, 300), (300, 200)])
def test_a_frontal_camera_sees_all_of_the_motion(avatar: Avatar, motion: Motion, size: tuple[int, int]) -> None:
    """Whatever way the world stands: here the head lies on its side and looks backwards."""
    motion.sequence.rotation = roma.rotmat_to_rotvec(
        roma.rotvec_to_rotmat(torch.tensor([0.3, 2.6, 1.4])) @ roma.rotvec_to_rotmat(motion.sequence.rotation)
    )
    actor, shot = stage(avatar, motion, size=size)
    assert (shot.camera.width, shot.camera.height) == size
    seen = torch.cat([projected(actor.mesh(timestep).vertices, shot.camera) for timestep in range(4)])
    assert seen.min() > 0 and (seen[:, 0] < size[0]).all() and (seen[:, 1] < size[1]).all()
    assert (seen.amax(0) - seen.amin(0) > torch.tensor(size) * 0.7).any()


def test_a_frontal_camera_looks_into_the_face_upright(avatar: Avatar) -> None:
    assert avatar.head is not None
    camera = frontal_camera(place(avatar), 200, 300)
    vertices = avatar.mesh().vertices
    pixel = {name: projected(vertices[avatar.head.regions[name]], camera).mean(0) for name in ("eye_left", "eye_right", "neck")}
    assert pixel["eye_left"][0] > pixel["eye_right"][0] + 10  # its left is on our right
    assert pixel["eye_left"][1] < pixel["neck"][1] - 10
    assert camera.center[2] > 0.3


HALF_A_LEVEL = 0.51  # of 255: frames are rounded to 8 bits


def test_an_orbit_swings_around_the_head() -> None:
    where = Place(torch.tensor([0.1, 0.2, 0.3]), torch.eye(3), torch.ones(3))
    start = Camera.look_at(torch.tensor([0.1, 0.2, 1.3]), where.center, 0.5, 100, 100)
    torch.testing.assert_close(orbiting(start, where, 0.0, 0.6).world_to_camera, start.world_to_camera, rtol=0, atol=1e-6)
    quarter = orbiting(start, where, 0.25, 0.6)
    torch.testing.assert_close(
        quarter.center, where.center + torch.tensor([math.sin(0.6), 0.0, math.cos(0.6)]), rtol=0, atol=1e-6
    )
    for phase in (0.1, 0.4, 0.8):
        camera = orbiting(start, where, phase, 0.6)
        assert (camera.center - where.center).norm().item() == pytest.approx(1.0, abs=1e-5)
        torch.testing.assert_close(projected(where.center[None], camera)[0], torch.tensor([50.0, 50.0]), rtol=0, atol=1e-3)


def test_a_capture_camera_by_name_or_number(tmp_path: Path, avatar: Avatar) -> None:
    assert avatar.head is not None
    views = load_motion(write_tiny_capture(tmp_path / "capture"), avatar.head).views
    for name in ("cam2", "2"):
        torch.testing.assert_close(captured_camera(views, name).center, camera_at(2).center, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="cam0, cam1, cam2"):
        captured_camera(views, "7")


def test_a_foreign_motion_comes_to_the_avatars_cameras(tmp_path: Path, avatar: Avatar, motion: Motion) -> None:
    assert avatar.head is not None
    views = load_motion(write_tiny_capture(tmp_path / "capture"), avatar.head).views
    motion.sequence.translation = motion.sequence.translation + 10.0
    actor, shot = stage(avatar, motion, camera_id="1", own_views=views)
    assert (shot.camera.width, shot.camera.height) == (WIDTH, HEIGHT)
    assert (place(actor).center - place(avatar).center).norm() < 1e-3
    with pytest.raises(UserError, match="camera 1"):
        stage(avatar, motion, camera_id="1")


def test_frames_are_the_renderings(avatar: Avatar, motion: Motion) -> None:
    actor, shot = stage(avatar, motion, size=(64, 96), background=(1.0, 1.0, 1.0))
    frames = list(film(actor, shot, fps=25))
    assert [frame.shape for frame in frames] == [(96, 64, 3)] * 4
    assert (frames[0][0, 0] == 255).all() and not np.array_equal(frames[0], frames[1])
    image = actor.render(shot.camera, timestep=2, background=(1.0, 1.0, 1.0)).image.clamp(0, 1)
    np.testing.assert_allclose(frames[2], image.permute(1, 2, 0).numpy() * 255, atol=HALF_A_LEVEL)


def test_the_driver_stands_on_the_left(tmp_path: Path, avatar: Avatar) -> None:
    """At its own time, scaled to the picture's height; the frontal camera where none was asked for."""
    assert avatar.head is not None
    performed = load_motion(write_tiny_capture(tmp_path / "friend"), avatar.head)
    actor, shot = stage(avatar, performed, size=(48, 64))
    driver = driver_images(performed, None, actor)
    assert {view.camera_id for view in driver.values()} == {"cam1"} and list(driver) == [3, 4, 9]
    frames = list(film(actor, shot, 25, ("driver", "avatar"), {3: driver[3], 9: driver[9]}))
    assert frames[0].shape == (64, 2 * WIDTH + GAP + 48, 3)
    with Image.open(tmp_path / "friend/images/00009_01.png") as image:
        truth = np.asarray(image.resize((48, 64), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(frames[2][:, :48], truth)
    assert not frames[1][:, :48].any()  # no image at this time
    alone = list(film(actor, shot, 25))
    np.testing.assert_array_equal(frames[0][:, -48:], alone[0])


def test_panels_stand_side_by_side(avatar: Avatar, motion: Motion) -> None:
    actor, shot = stage(avatar, motion, size=(64, 96))
    panels = ("mesh", "avatar", "overlay", "novel")
    frame = list(film(actor, shot, 25, panels))[1]
    assert frame.shape == (96, 4 * 64 + 3 * GAP, 3)
    mesh, plain, overlay, novel = (frame[:, k * (64 + GAP) :][:, :64].astype(int) for k in range(4))
    rgb, alpha = shaded_head(actor, shot.camera, 1)
    np.testing.assert_allclose(mesh, rgb.permute(1, 2, 0).numpy() * 255, atol=HALF_A_LEVEL)
    np.testing.assert_array_equal(plain, list(film(actor, shot, 25))[1])
    inside = alpha.numpy() == 1
    weight = MeshStyle().weight
    mixed = (1 - weight) * plain + weight * mesh  # of two rounded pictures, and rounded itself
    np.testing.assert_allclose(overlay[inside], mixed[inside], atol=3 * HALF_A_LEVEL)
    np.testing.assert_array_equal(overlay[alpha.numpy() == 0], plain[alpha.numpy() == 0])
    aside = actor.render(shot.aside(1 / 25), timestep=1).image.clamp(0, 1).permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(novel, aside, atol=HALF_A_LEVEL)
    with pytest.raises(UserError, match="no images"):
        next(film(actor, shot, 25, ("driver", "avatar")))


def test_the_other_view_swings_the_other_way(avatar: Avatar, motion: Motion) -> None:
    _, shot = stage(avatar, motion, size=(64, 96), orbit=0.5)
    one, other = (shot.place.rotation.T @ (camera.center - shot.place.center) for camera in (shot.at(2.0), shot.aside(2.0)))
    torch.testing.assert_close(other, one * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-4, rtol=0)
    assert one[0] > 0.2


def test_a_path_leads_the_camera(tmp_path: Path, avatar: Avatar, motion: Motion) -> None:
    key = {"time": 0.0, "position": [0.0, 0.0, 1.2], "look_at": [0.0, 0.0, 0.0], "fov_y": 25}
    keys = [key, {**key, "time": 1.0, "position": [0.5, 0.0, 1.0]}]
    (tmp_path / "path.json").write_text(json.dumps({"frame": "head", "keys": keys}))
    route = read_camera_path(tmp_path / "path.json")
    actor, shot = stage(avatar, motion, size=(64, 96), path=route)
    where = place(actor)
    expected = where.center + where.rotation @ torch.tensor([0.5, 0.0, 1.0])
    torch.testing.assert_close(shot.at(1.0).center, expected, atol=1e-5, rtol=0)
    assert (shot.at(0.5).width, shot.at(0.5).height) == (64, 96)
    assert len(list(film(actor, shot, 25))) == 4


def test_self_reenactment_is_the_avatars_own_motion(tmp_path: Path, avatar: Avatar) -> None:
    """As it is in the avatar's file, which training may have tuned, and only at the timesteps asked for."""
    capture = load_capture(write_tiny_capture(tmp_path / "capture"))
    own = own_motion(avatar, capture.train, "self")
    assert own.sequence.timesteps == [3, 4] and {view.timestep for view in own.views} == {3, 4}
    actor, shot = stage(avatar, own, camera_id="2")
    view = next(view for view in capture.train if view.camera_index == 2 and view.timestep == 4)
    assert torch.equal(shot.camera.world_to_camera, view.camera.world_to_camera)
    assert torch.equal(actor.mesh(4).vertices, avatar.mesh(4).vertices)
    with pytest.raises(UserError, match="no such views"):
        own_motion(avatar, [], "self")


def test_a_capture_may_be_driven_by_one_split(tmp_path: Path, avatar: Avatar) -> None:
    assert avatar.head is not None
    folder = write_tiny_capture(tmp_path / "friend")
    assert load_motion(folder, avatar.head, splits=["test"]).sequence.timesteps == [9]
    assert load_motion(folder, avatar.head, splits=["train", "val"]).sequence.timesteps == [3, 4]
    (folder / "transforms_test.json").unlink()
    with pytest.raises(UserError, match="no views in test"):
        load_motion(folder, avatar.head, splits=["test"])
    with pytest.raises(UserError, match="no splits"):
        load_motion(folder / "flame_param", avatar.head, splits=["test"])


def test_a_trackers_output_drives(tmp_path: Path, avatar: Avatar) -> None:
    """Its further arrays (textures, lights, names of frames) are of no concern."""
    assert avatar.head is not None
    own = small_motion(n_expr=20, frames=3)
    own.save_npz(tmp_path / "a.npz")
    arrays = dict(np.load(tmp_path / "a.npz"))
    arrays |= {
        "timestep_id": np.array(["00003", "00005", "00009"]),
        "n_processed_frames": np.array(3),
        "lights": np.ones((9, 3)),
    }
    arrays["shape"] = np.zeros(300, np.float32)
    np.savez(tmp_path / "tracked_flame_params_30.npz", **arrays)
    motion = load_motion(tmp_path / "tracked_flame_params_30.npz", avatar.head)
    assert len(motion.sequence) == 3
    torch.testing.assert_close(motion.sequence.expr[:, :20], own.expr)


def test_a_video_has_every_frame_of_the_motion(tmp_path: Path, avatar: Avatar, motion: Motion) -> None:
    actor, shot = stage(avatar, motion, size=(64, 96), orbit=0.5)
    seen: list[int] = []
    assert reenact(actor, shot, tmp_path / "a.mp4", fps=29.97, on_frame=seen.append) == 4
    assert seen == [1, 2, 3, 4]
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert sum(1 for _ in container.decode(stream)) == 4
        assert (stream.width, stream.height) == (64, 96)
        assert stream.average_rate is not None and float(stream.average_rate) == pytest.approx(29.97, abs=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_an_orbiting_camera_is_a_function_of_time(avatar: Avatar, motion: Motion) -> None:
    _, shot = stage(avatar, motion, size=(64, 96), orbit=0.5)
    assert isinstance(shot, Staging)
    torch.testing.assert_close(shot.at(8.0).world_to_camera, shot.at(0.0).world_to_camera, rtol=0, atol=1e-5)
    assert (shot.at(2.0).center - shot.at(0.0).center).norm() > 0.2
