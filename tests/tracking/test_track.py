"""From a small film of the built-in subject to a capture, and what is said about films that are none."""

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tracking.small_film import COUNT, HEIGHT, WIDTH, Bar, Film, quiet, small_film

from taichi_avatars.errors import UserError
from taichi_avatars.faces.following import FaceOverTime
from taichi_avatars.faces.regions import cut_out
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.sources import load_motion
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.tracking.choosing import most_different
from taichi_avatars.tracking.examine import examine, is_filmed
from taichi_avatars.tracking.hair import SPARE, HairSurvey
from taichi_avatars.tracking.matte import MARGINS, Matting, connected, head_region, mixture
from taichi_avatars.tracking.one_person import stranger
from taichi_avatars.tracking.silhouettes import Silhouette
from taichi_avatars.tracking.track import Settings, track
from taichi_avatars.tracking.views import frame_head


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, head) -> Film:
    return small_film(tmp_path_factory.mktemp("film") / "me.mp4", head)


@pytest.fixture(scope="module")
def tracked(filmed, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tracked") / "capture"
    track([filmed[0]], out, Settings(focal=filmed[2].fx, test=0.2), quiet)
    return out


def test_the_capture_is_one_that_training_reads(tracked, head):
    capture = load_capture(tracked, head=head)
    assert len(capture.train) + len(capture.test) == COUNT and 2 <= len(capture.test) <= 4
    assert [view.timestep for view in capture.test] == sorted(view.timestep for view in capture.test)
    assert max(v.timestep for v in capture.train) < min(v.timestep for v in capture.test)
    assert len(load_motion(tracked / "motion.npz", head).sequence) == COUNT
    report = json.loads((tracked / "tracking.json").read_text())
    assert len(report["frames"]) == COUNT and report["videos"][0]["focal"]["from"] == "given"
    assert report["videos"][0]["residual"] < 3.0
    assert (tracked / "tracking.mp4").stat().st_size > 1000
    assert sorted(p.name for p in tracked.parent.iterdir()) == ["capture"]  # nothing else is left


def test_the_mesh_lies_over_the_face(tracked, filmed, head):
    _, moments, camera = filmed
    capture = load_capture(tracked, head=head)
    motion, face = FlameSequence.load_npz(tracked / "motion.npz", head), head.regions["face"]
    for view in capture.train:
        vertices = motion.mesh(head, motion.row(view.timestep)).vertices[face]
        truth = moments[4 * view.timestep // COUNT][1][face]
        off = project(vertices, view.camera) - project(truth, camera)
        assert float(off.norm(dim=1).mean()) < 4.0  # pixels, of a face 110 high


def project(points: torch.Tensor, camera: Camera) -> torch.Tensor:
    seen = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    return seen[:, :2] / seen[:, 2:] * torch.tensor([camera.fx, camera.fy]) + torch.tensor([camera.cx, camera.cy])


def test_the_pictures_are_cut_out(tracked, filmed):
    _, moments, _ = filmed
    for k in (0, 5, 9):
        rgba = np.asarray(Image.open(tracked / "images" / f"{k:05d}_00.png"))
        assert rgba.shape == (HEIGHT, WIDTH, 4)
        truth = moments[4 * k // COUNT][2].numpy()
        assert np.abs(rgba[..., 3] / 255 - truth)[: HEIGHT // 2].mean() < 0.04


def test_an_interrupted_run_goes_on(filmed, tmp_path):
    out = tmp_path / "capture"
    seen = []

    @contextmanager
    def stopping(what: str, total: int, unit: str):
        class Stop(Bar):
            def update(self, done: int, total: int | None = None, **figures: str) -> None:
                seen.append(done)
                if done == 6:
                    raise KeyboardInterrupt

        yield Stop() if what.startswith("look") else Bar()

    settings = Settings(focal=filmed[2].fx)
    with pytest.raises(KeyboardInterrupt, match="6 pictures are kept; --resume goes on"):
        track([filmed[0]], out, settings, stopping)
    assert not out.exists()
    with pytest.raises(UserError, match="other options"):
        track([filmed[0]], out, Settings(), quiet, resume=True)
    seen.clear()
    track([filmed[0]], out, settings, lambda *a: stopping(*a), resume=True)
    assert seen == list(range(7, COUNT + 1)) and (out / "transforms_train.json").is_file()


@pytest.mark.parametrize("stage", ["fit", "cut out"])
def test_what_is_interrupted_later_is_not_looked_at_again(stage, filmed, tmp_path):
    out, begun = tmp_path / "capture", []

    @contextmanager
    def stopping(what: str, total: int, unit: str):
        class Stop(Bar):
            def update(self, done: int, total: int | None = None, **figures: str) -> None:
                raise KeyboardInterrupt

        begun.append(what)
        yield Stop() if what.startswith(stage) else Bar()

    settings = Settings(focal=filmed[2].fx)
    with pytest.raises(KeyboardInterrupt):
        track([filmed[0]], out, settings, stopping)
    assert [p.name for p in tmp_path.iterdir()] == [".capture-tracking"]
    begun.clear()
    stage = "nothing"
    track([filmed[0]], out, settings, stopping, resume=True)
    assert begun[0] == "fit" and sorted(p.name for p in tmp_path.iterdir()) == ["capture"]


def test_what_is_no_capture_of_track_is_not_replaced(filmed, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="--force"):
        track([filmed[0]], tmp_path / "mine", Settings(), quiet)
    with pytest.raises(UserError, match="nothing was begun"):
        track([filmed[0]], tmp_path / "new", Settings(), quiet, resume=True)


def test_a_face_that_is_not_there_cannot_be_chosen(filmed, tmp_path):
    with pytest.raises(UserError, match="shows 1 faces, there is no face 2"):
        track([filmed[0]], tmp_path / "out", Settings(face=2), quiet)


def test_info_says_what_a_film_lacks(filmed):
    assert is_filmed(filmed[0]) and not is_filmed(filmed[0].parent / "a.npz")
    described = examine(filmed[0], Bar())
    assert described["kind"] == "video" and not described["whole"]
    assert any("lasts 2 seconds" in problem for problem in described["problems"])
    assert described["shows"]["share"] == 1.0 and described["shows"]["yaw"][0] < -5 < 5 < described["shows"]["yaw"][1]


def test_the_frames_that_differ_most_are_chosen():
    features = np.concatenate([np.zeros((20, 2)), np.array([[5.0, 0], [0, 5.0], [-5.0, 0]])])
    assert set(most_different(features, 4)) >= {20, 21, 22}
    assert most_different(features, 50).tolist() == list(range(23))


def test_a_small_head_in_a_large_picture_is_cut_to_its_space():
    framing = frame_head((3840, 2160), (1280, 720), 1000.0, np.array([[600.0, 200.0], [760.0, 420.0]]), 720)
    assert framing.height == 720 or framing.width == 720
    scale = framing.read_width / 1280
    assert framing.focal_x == pytest.approx(1000 * scale)
    camera = framing.camera(torch.zeros(3))
    # A point in the video's middle is in the middle of the scaled picture, seen from the part's corner.
    assert camera.cx + framing.left == pytest.approx(0.5 * framing.read_width)
    assert framing.left < 600 * scale and framing.left + framing.width > 760 * scale
    whole = frame_head((400, 540), (400, 540), 500.0, np.array([[100.0, 100.0], [200.0, 300.0]]), 720)
    assert (whole.left, whole.top, whole.width, whole.height) == (0, 0, 400, 540)


def test_colours_of_the_front_are_without_the_back():
    alpha = np.tile(((np.arange(240, dtype=np.float32) - 117) / 6).clip(0, 1), (240, 1))  # an edge of 6 pixels
    front, back = np.array([0.9, 0.4, 0.2], np.float32), np.array([0.1, 0.3, 0.9], np.float32)
    picture = alpha[..., None] * front + (1 - alpha[..., None]) * back
    found, colours = mixture((255 * picture).astype(np.uint8), alpha)
    assert np.abs(colours / 255 - front)[alpha > 0.1].max() < 0.16
    np.testing.assert_allclose(found, alpha, atol=0.05)


def test_a_pixel_on_the_edge_is_shared_as_its_colour_says():
    share = np.tile((np.arange(240, dtype=np.float32) - 117.3).clip(0, 1), (240, 1))
    front, back = np.array([200.0, 160.0, 140.0]), np.array([40.0, 30.0, 20.0])
    picture = (share[..., None] * front + (1 - share[..., None]) * back).astype(np.uint8)
    found, _ = mixture(picture, (share > 0.5).astype(np.float32))
    np.testing.assert_allclose(found, share, atol=0.15)
    alike = (share[..., None] * (back + 5) + (1 - share[..., None]) * back).astype(np.uint8)
    found, _ = mixture(alike, share)
    np.testing.assert_allclose(found, share, atol=0.02)  # which says nothing


def test_what_nothing_leads_to_is_left_out():
    alpha = np.zeros((10, 20), np.float32)
    alpha[2:8, 2:8], alpha[4:6, 12:16] = 1.0, 0.9
    surely = np.zeros((10, 20), bool)
    surely[4, 4] = True
    kept = connected(alpha, surely)
    assert kept[2:8, 2:8].min() == 1.0 and not kept[:, 10:].any()


def test_the_band_is_wide_at_the_hair_and_tight_at_the_neck(head, filmed):
    _, moments, camera = filmed
    matting = Matting(head)
    outline = matting.outline(moments[0][1], camera)
    assert outline is not None
    rows, columns = outline.inside.shape
    grid = head_region(moments[0][1], camera).scaled(outline.camera.width / camera.width)
    zones = matting.zones(outline, grid, np.ones((256, 256), np.float32))
    covered = np.nonzero(outline.inside.any(1))[0]
    middle, three = columns // 2, round(0.03 / zones.cell)
    assert not zones.behind[max(0, covered[0] - three) : covered[0], middle].any()
    assert zones.behind[min(rows, covered[-1] + three) :, middle].all()
    assert zones.front.any() and not (zones.front & zones.behind).any()
    below = zones.neck & outline.inside
    assert below.any() and not (zones.front & below).any()  # a collar may cover all of it


@pytest.mark.parametrize(("zoom", "size"), [(6.0, (64, 48)), (1.0, (60, 80)), (0.2, (640, 480))])
def test_a_head_that_fills_the_picture_or_is_small_in_it_has_a_matte(head, filmed, zoom, size):
    _, moments, camera = filmed
    vertices, camera = moments[0][1], camera.resized(*size)
    camera = replace(camera, fx=zoom * camera.fx, fy=zoom * camera.fy)
    picture = np.full((camera.height, camera.width, 3), 90, np.uint8)
    rgba = Matting(head).cut_out(picture, vertices, camera, head_region(vertices, camera), np.ones((256, 256), np.float32))
    covered = rgba[..., 3] > 200
    assert covered.all() if zoom > 1 else covered.any() and not covered[0].any()


def test_a_head_beside_the_picture_has_no_matte(head, filmed):
    _, moments, camera = filmed
    vertices = moments[0][1] + torch.tensor([3.0, 0.0, 0.0])
    picture, region = np.zeros((HEIGHT, WIDTH, 3), np.uint8), head_region(vertices, camera)
    assert not Matting(head).cut_out(picture, vertices, camera, region, np.ones((256, 256), np.float32)).any()


def test_what_stands_off_the_head_in_one_picture_is_no_hair(head, filmed):
    _, moments, camera = filmed
    surveys = HairSurvey(Matting(head)), HairSurvey(Matting(head))
    for number in range(8):
        _, vertices, covered = moments[number % 2]
        for survey, blob in zip(surveys, (False, number == 3), strict=True):
            shown = np.repeat((255 * covered.numpy()).astype(np.uint8)[..., None], 3, 2)
            if blob:
                shown[20:120, WIDTH // 2 :] = 255  # a poster behind the temple
            region = head_region(vertices, camera)
            values = (255 * cut_out(shown, region, 256)[0, 0].numpy()).astype(np.uint8)
            survey.look(Silhouette(region, values), vertices, camera)
    clean, crossed = (survey.margins() for survey in surveys)
    scalp = Matting(head).margin == MARGINS["scalp"]
    assert float(clean[scalp].min()) >= SPARE - 1e-6 and float(clean[scalp].max()) < 0.035
    assert torch.equal(clean[~scalp], Matting(head).margin[~scalp])
    torch.testing.assert_close(crossed, clean, atol=0.001, rtol=0)


def test_another_face_is_told_by_its_bones():
    random = np.random.default_rng(0)
    shape = random.normal(size=(478, 3)).astype(np.float32)
    other = shape * np.float32([1.15, 1.0, 1.0])
    points = np.stack([shape] * 12 + [other] * 10) + random.normal(scale=0.01, size=(22, 478, 3)).astype(np.float32)
    presence, look = np.ones(22, np.float32), np.ones(22, np.float32)
    seen = FaceOverTime(points, presence, look, look, look)
    assert stranger(seen, np.repeat([0, 1], [12, 10]), 0.8) == 12
    assert stranger(seen, np.zeros(22, int), 0.8) is None  # one scene is one person's
    assert stranger(FaceOverTime(points[:12], *[look[:12]] * 4), np.repeat([0, 1], 6), 0.8) is None
