"""Detection, landmarks, following and segmentation on pictures of the built-in subject, whose mesh says where everything is."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from taichi_avatars.faces.detector import find_faces, tiles_of
from taichi_avatars.faces.following import FaceFollower, people
from taichi_avatars.faces.landmarks import (
    LEFT_EYE_CORNER,
    LEFT_IRIS,
    RIGHT_EYE_CORNER,
    RIGHT_IRIS,
    find_expressions,
    find_landmarks,
)
from taichi_avatars.faces.look import look_of
from taichi_avatars.faces.networks import load_networks
from taichi_avatars.faces.regions import Region, cut_out
from taichi_avatars.faces.segmentation import segment
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.synthetic.renderer import make_subject, photograph, pose

SIZE = 320
MOMENTS = ((0.0, 0.0), (0.3, 0.5), (-0.35, 0.0), (0.15, 0.9), (-0.1, 0.3), (0.4, 0.0))  # yaw in radians, jawOpen


@pytest.fixture(scope="module")
def shots(head):
    """Six pictures of the subject: (H,W,3) uint8, alpha (H,W), and where its pupils are, (2,2) right then left."""
    subject = make_subject(head, 0, 0.35 / SIZE, strand_count=3000)
    camera = Camera.look_at(torch.tensor([0.0, 0.03, 1.0]), torch.tensor([0.0, 0.0, 0.0]), 0.36, SIZE, SIZE)
    out = []
    for yaw, jaw in MOMENTS:
        expr = torch.zeros(head.n_expr)
        expr[head.expression_names.index("jawOpen")] = jaw
        vertices = head(subject.who.shape, expr, torch.tensor([0.0, yaw, 0.0])).vertices
        shot = photograph(subject, pose(subject, vertices), camera, 2)
        rgb = shot.over((0.45, 0.55, 0.5)).permute(1, 2, 0).clamp(0, 1).mul(255).byte().numpy()
        pupils = torch.stack([vertices[head.regions[f"pupil_{side}"]].mean(0) for side in ("right", "left")])
        seen = pupils @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        pixels = seen[:, :2] / seen[:, 2:] * camera.fx + torch.tensor([camera.cx, camera.cy])
        out.append((rgb, shot.alpha.numpy(), pixels.numpy()))
    return out


def room(face: np.ndarray | None, at: tuple[int, int], poster: np.ndarray | None = None, shift: int = 0) -> np.ndarray:
    """A 1280x720 picture of a plain wall with a face and a poster on it, seen by a camera that shakes."""
    wall = np.full((760, 1320, 3), (150, 140, 120), np.uint8)
    for picture, (x, y) in ((poster, (100, 120)), (face, at)):
        if picture is not None:
            wall[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return np.ascontiguousarray(wall[shift : 720 + shift, 2 * shift : 1280 + 2 * shift])


def smaller(picture: np.ndarray, factor: int) -> np.ndarray:
    height, width = (size // factor for size in picture.shape[:2])
    return picture.reshape(height, factor, width, factor, 3).mean((1, 3)).astype(np.uint8)


def test_cut_out_is_exact_on_a_ramp():
    y, x = np.mgrid[:100, :140]
    picture = np.stack([x, y, x * 0], 2).astype(np.uint8)
    region = Region(70.0, 50.0, 60.0, 0.4)
    part = cut_out(picture, region, 30)[0].numpy() * 255
    place = region.to_picture(np.array([(10 + 0.5) / 30, (20 + 0.5) / 30]))
    np.testing.assert_allclose(part[:2, 20, 10], place - 0.5, atol=0.6)  # shrinking by 2 lays the ramp on other centres
    unshrunk = cut_out(picture, Region(70.0, 50.0, 20.0, 0.4), 20)[0].numpy() * 255
    place = Region(70.0, 50.0, 20.0, 0.4).to_picture(np.array([0.275, 0.625]))
    np.testing.assert_allclose(unshrunk[:2, 12, 5], place - 0.5, atol=2e-3)


def test_a_region_outside_the_picture_is_black():
    picture = np.full((50, 50, 3), 255, np.uint8)
    assert not cut_out(picture, Region(200.0, 20.0, 30.0), 16).any()
    assert cut_out(picture, Region(0.0, 25.0, 40.0), 16)[0, 0, 8].tolist() == [0.0] * 8 + [1.0] * 8


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280), (400, 400)])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_tiles_cover_the_picture_and_overlap_by_half(width, height, level):
    tiles = tiles_of(width, height, level)
    if (width, level) == (400, 1):
        assert tiles == []  # the same as the whole picture
        return
    for centres, length in (({t.x for t in tiles}, width), ({t.y for t in tiles}, height)):
        along, side = sorted(centres), tiles[0].size
        assert along[0] == pytest.approx(0.5 * side) and along[-1] == pytest.approx(length - 0.5 * side)
        assert max(np.diff(along), default=0) <= 0.5 * side + 1e-6


def test_a_face_is_found_with_its_pupils(shots):
    for rgb, _, pupils in shots:
        (found,) = find_faces(rgb)
        landmarks = find_landmarks(rgb, found.region())
        landmarks = find_landmarks(rgb, landmarks.surrounding())
        assert landmarks.presence > 0.95
        eyes = np.linalg.norm(pupils[0] - pupils[1])
        error = np.linalg.norm(landmarks.points[[RIGHT_IRIS, LEFT_IRIS], :2] - pupils, axis=1)
        assert error.max() < 0.08 * eyes
        right, left = landmarks.points[RIGHT_EYE_CORNER], landmarks.points[LEFT_EYE_CORNER]
        assert right[0] < pupils[0, 0] < pupils[1, 0] < left[0]  # the person's right eye is to the left in the picture


def test_turned_pictures_give_turned_landmarks(shots):
    rgb = shots[0][0]
    upright = find_landmarks(rgb, find_faces(rgb)[0].region()).points
    turned = np.ascontiguousarray(np.rot90(rgb))  # counter-clockwise: (x, y) goes to (y, width - x)
    region = find_landmarks(turned, Region(0.5 * SIZE, 0.5 * SIZE, 0.75 * SIZE, -0.5 * math.pi)).surrounding()
    points = find_landmarks(turned, region).points
    back = np.stack([SIZE - points[:, 1], points[:, 0]], 1)
    assert np.linalg.norm(back - upright[:, :2], axis=1).mean() < 2.0
    assert region.angle == pytest.approx(-0.5 * math.pi, abs=0.1)


def test_no_face_where_there_is_none():
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    assert find_faces(room(None, (0, 0)), finest=1) == []
    follower = FaceFollower()
    for picture in (noise, noise):
        follower.step(picture)
    assert people(follower.tracks) == []


def test_an_open_jaw_is_seen(shots):
    names = load_networks().blendshapes.names
    points = []
    for rgb, _, _ in shots[:2] + shots[3:4]:
        points.append(find_landmarks(rgb, find_faces(rgb)[0].region()).points)
    closed, half, wide = find_expressions(np.stack(points))[:, names.index("jawOpen")]
    assert closed < 0.15 < half < wide


def test_blur_and_exposure_are_seen(shots):
    rgb = shots[0][0]
    region = find_faces(rgb)[0].region()
    sharp, dark = look_of(rgb, region), look_of(rgb // 16, region)
    blurred = look_of(np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(4))), region)
    assert blurred.sharpness < 0.4 * sharp.sharpness
    assert sharp.clipped < 0.02 and 0.3 < sharp.brightness < 0.8
    assert dark.brightness < 0.06 and dark.clipped > 0.5


def test_the_silhouette_is_found(shots):
    rgb, alpha, pupils = shots[1]
    found = segment(rgb, Region(0.5 * SIZE, 0.5 * SIZE, float(SIZE)))
    truth = torch.nn.functional.interpolate(torch.from_numpy(alpha)[None, None], (256, 256), mode="area")[0, 0].numpy()
    above = int(pupils[0, 1] * 256 / SIZE)  # below, a head without shoulders is nothing that the network knows
    assert np.abs(found - truth)[:above].mean() < 0.03
    assert truth[:above].mean() > 0.1


def test_the_living_face_is_followed_and_not_the_poster(shots):
    follower = FaceFollower()
    poster = shots[2][0]
    for k in range(12):
        follower.step(room(shots[k % 6][0], (800, 250), poster, shift=k % 4))
    persons = people(follower.tracks)
    assert [p.alive for p in persons] == [True, False]
    assert persons[0].frames == 12 and follower.cuts == []
    seen = persons[0].over(follower.count)
    points, presence = seen.points, seen.presence
    assert points.shape == (12, 478, 3) and presence.min() > 0.9
    assert (points[:, :, 0] > 700).all()


def test_a_small_face_in_a_large_picture_is_found(shots):
    follower = FaceFollower()
    for k in range(3):
        follower.step(room(smaller(shots[k][0], 4), (900, 300)))
    (person,) = people(follower.tracks)
    assert person.frames == 3 and 25 < person.size < 60


def test_at_a_cut_the_face_is_found_in_the_same_picture(shots):
    follower = FaceFollower()
    elsewhere = room(shots[1][0], (900, 300))
    elsewhere[:, :500] //= 4
    empty = room(None, (0, 0))
    empty[:300] //= 4
    for picture in (room(shots[0][0], (60, 60)), room(shots[0][0], (60, 60)), empty, elsewhere, elsewhere):
        follower.step(picture)
    assert follower.cuts == [2, 3]
    presence = people(follower.tracks)[0].over(follower.count).presence
    assert (presence > 0.5).tolist() == [True, True, False, True, True]


def test_a_face_that_jumps_is_found_again(shots):
    follower = FaceFollower()
    for at in ((200, 100), (200, 100), (330, 130), (330, 130)):
        follower.step(room(shots[0][0], at))
    (person,) = people(follower.tracks)
    assert person.frames == 4
    middle = person.over(4).points[:, :, :2].mean(1)
    np.testing.assert_allclose(middle[3] - middle[0], (130, 30), atol=3)


def test_a_face_that_moves_fast_is_looked_at_in_the_middle_of_its_region(shots):
    follower, still = FaceFollower(), FaceFollower()
    for k in range(4):
        follower.step(room(shots[0][0], (200 + 36 * (k % 2), 100 + 24 * (k % 2))))
        still.step(room(shots[0][0], (200, 100)))
    moved, resting = (people(f.tracks)[0].over(4) for f in (follower, still))
    assert moved.presence.min() > 0.99
    off = moved.points[1::2, :, :2] - resting.points[1::2, :, :2] - (36, 24)
    assert np.linalg.norm(off, axis=2).mean() < 0.7
