"""The capture of the built-in subject: that it is a whole, readable folder which shows what its parameters say."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.ops.mesh import shade_mesh
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.synthetic import capture as capture_module
from taichi_avatars.synthetic.capture import (
    TRACKING_ERROR,
    camera_rig,
    frontal,
    splits_of,
    with_tracking_error,
    write_capture,
)
from taichi_avatars.synthetic.folder import write_transforms
from taichi_avatars.synthetic.motion import performance

SMALL = {"width": 66, "height": 96, "timesteps": 2, "test_timesteps": 1, "cameras": 3, "supersample": 1}


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    seen: list[tuple[int, int]] = []
    out = tmp_path_factory.mktemp("synthetic") / "capture"
    assert write_capture(out, **SMALL, progress=lambda done, total: seen.append((done, total))) == out
    assert seen == [(k + 1, 9) for k in range(9)]
    return out


def test_splits_and_files(folder, head):
    capture = load_capture(folder, head=head)
    assert capture.kind == "head"
    assert sorted({v.camera_index for v in capture.val}) == [frontal(3)]
    assert sorted({v.camera_index for v in capture.train}) == [0, 2]
    assert sorted({v.timestep for v in capture.train}) == sorted({v.timestep for v in capture.val}) == [0, 1]
    assert sorted({(v.timestep, v.camera_index) for v in capture.test}) == [(2, 0), (2, 1), (2, 2)]
    for view in [*capture.train, *capture.val, *capture.test]:
        assert Image.open(view.image).size == (66, 96)
        for masks in ("fg_masks", "hair_masks"):
            assert Image.open(folder / masks / view.image.name).size == (66, 96)
    assert json.loads((folder / "head.json").read_text()) == head.identity
    canonical = np.load(folder / "canonical_flame_param.npz")
    np.testing.assert_allclose(canonical["jaw_pose"], [[0.3, 0, 0]])
    assert not canonical["expr"].any() and canonical["static_offset"].shape == (1, head.num_vertices, 3)


def test_cameras_and_parameters_explain_the_masks(folder, head):
    """The true mesh, drawn with the camera that a reader gets from the files, lies inside the mask and fills its face."""
    capture = load_capture(folder, head=head)
    truth = FlameSequence.load_npz(folder / "truth" / "flame_param.npz", head)
    for view in [*capture.train, *capture.test]:
        with torch.no_grad():
            vertices = truth.mesh(head, truth.row(view.timestep)).vertices
        _, alpha = shade_mesh(vertices, head.faces, view.camera, supersample=1)
        mask = torch.from_numpy(np.asarray(Image.open(folder / "fg_masks" / view.image.name)) / 255.0)
        hair = torch.from_numpy(np.asarray(Image.open(folder / "hair_masks" / view.image.name)) / 255.0)
        assert (mask[alpha > 0] == 1).all()
        assert ((alpha == 0) & (mask > 0) & (hair == 0)).sum() <= 12  # lashes
        assert 0.05 < float((hair * (alpha == 0)).sum() / mask.sum()) < 0.25
    assert any(abs(v.camera.cy - 48) > 0.1 for v in capture.train)


def test_truth_is_a_capture_of_the_same_pictures(folder, head):
    tracked, true = load_capture(folder, head=head), load_capture(folder / "truth", head=head)
    for split in ("train", "val", "test"):
        ours, theirs = getattr(true, split), getattr(tracked, split)
        assert [v.image.resolve() for v in ours] == [v.image.resolve() for v in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.camera.world_to_camera, b.camera.world_to_camera) and a.timestep == b.timestep
    motion = FlameSequence.load_npz(folder / "truth" / "flame_param.npz", head)
    assert torch.equal(true.flame.expr, motion.expr) and torch.equal(true.flame.rotation, motion.rotation)
    assert torch.equal(true.flame.static_offset, tracked.flame.static_offset) and motion.static_offset is None


def test_tracked_parameters_are_near_the_truth(folder, head):
    capture = load_capture(folder, head=head)
    truth = FlameSequence.load_npz(folder / "truth" / "flame_param.npz", head)
    assert torch.equal(capture.flame.shape, truth.shape)
    for name, size in TRACKING_ERROR.items():
        off = (getattr(capture.flame, name) - getattr(truth, name)).norm(dim=1)
        assert (off > 0).all() and (off < 4 * size).all()


def test_tracking_errors_are_smooth_and_of_the_stated_size(head):
    motion = performance(head, 60, 2.5)
    tracked = with_tracking_error(motion, 0)
    for name, size in TRACKING_ERROR.items():
        error = (getattr(tracked, name) - getattr(motion, name)).double()
        assert 0.6 * size < float(error.norm(dim=1).square().mean().sqrt()) < 1.5 * size
        assert float((error[1:] - error[:-1]).norm(dim=1).mean()) < 0.9 * size


def test_static_offset_wraps_the_hair_and_nothing_else(folder, head):
    offset = load_capture(folder, head=head).flame.static_offset.norm(dim=1)
    assert 0.002 < float(offset[head.regions["scalp"]].mean()) < 0.012
    for region in ("lips", "eyelids", "eye_left"):
        assert float(offset[head.regions[region]].max()) < 1e-4


def test_images_have_the_background_and_a_lit_face(folder):
    image = np.asarray(Image.open(folder / "images" / "00000_01.png")) / 255.0
    mask = np.asarray(Image.open(folder / "fg_masks" / "00000_01.png")) / 255.0
    assert (image[mask == 0] == 1).all()
    face = image[45:60, 28:38]
    assert 0.3 < face.mean() < 0.9 and face[..., 0].mean() > face[..., 2].mean() + 0.05


def test_same_seed_same_bits_and_rgba(folder, tmp_path):
    again = write_capture(tmp_path / "rgba", **SMALL, rgba=True, tracking_error=False)
    rgb = np.asarray(Image.open(folder / "images" / "00002_02.png")).astype(float)
    rgba = np.asarray(Image.open(again / "images" / "00002_02.png")).astype(float)
    alpha = rgba[..., 3:] / 255
    assert np.abs(rgba[..., :3] * alpha + 255 * (1 - alpha) - rgb).max() <= 1.01
    truth, tracked = np.load(again / "truth" / "flame_param.npz"), np.load(again / "flame_param" / "00001.npz")
    np.testing.assert_array_equal(truth["expr"][1], tracked["expr"][0])
    masks = [(path / "fg_masks" / "00001_00.png").read_bytes() for path in (folder, again)]
    assert masks[0] == masks[1]


def test_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def stopped(folder, *_):
        (folder / "images").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(capture_module, "fill", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_capture(tmp_path / "capture", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_keeps_what_is_not_its_own(tmp_path, monkeypatch):
    def marked(folder, *_):
        (folder / "truth").mkdir()
        (folder / capture_module.MARK).write_text("new")

    monkeypatch.setattr(capture_module, "fill", marked)
    out = tmp_path / "capture"
    out.mkdir()
    (out / "transforms_train.json").write_text("{}")
    with pytest.raises(UserError, match="not a capture made by this program"):
        write_capture(out)
    assert (out / "transforms_train.json").read_text() == "{}"
    write_capture(out, force=True)
    assert not (out / "transforms_train.json").exists()
    (out / capture_module.MARK).write_text("old")
    write_capture(out)  # its own is replaced
    assert (out / capture_module.MARK).read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["capture"]


def test_refuses_what_makes_no_capture(tmp_path):
    with pytest.raises(UserError, match="cameras must be at least 1"):
        write_capture(tmp_path / "capture", cameras=0)


def test_one_camera_has_no_validation_split(tmp_path):
    write_transforms(tmp_path, splits_of(camera_rig(1, 10, 10, torch.zeros(3)), [0, 1], 2))
    frames = {
        split: json.loads((tmp_path / f"transforms_{split}.json").read_text())["frames"] for split in ("train", "val", "test")
    }
    assert [len(frames[split]) for split in ("train", "val", "test")] == [2, 0, 0]


def test_camera_rig_looks_at_the_head_from_the_front():
    target = torch.tensor([0.0, 0.02, -0.04])
    rig = camera_rig(16, 275, 401, target)
    assert frontal(16) == 8
    for placed in rig:
        view = placed.camera.world_to_camera[:3, :3] @ target + placed.camera.world_to_camera[:3, 3]
        assert torch.allclose(view[:2], torch.zeros(2), atol=1e-6) and 0.95 < float(view[2]) < 1.05
        x, _, z = (placed.camera.center - target).tolist()
        azimuth = math.degrees(math.atan2(x, z))
        assert abs(azimuth) < 53 and (placed.index != 8 or abs(azimuth) < 5)
