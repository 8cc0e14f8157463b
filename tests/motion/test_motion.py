import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from avatar.small_avatar import small_avatar, small_motion
from scene.tiny_capture import TIMESTEPS, flame_parameters, write_tiny_capture

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import moved, place
from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import BUILTIN, FlameModel
from taichi_avatars.inspection.info import describe
from taichi_avatars.motion.arkit import LARGEST_TURN
from taichi_avatars.motion.motion import drive
from taichi_avatars.motion.sources import load_motion


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return small_avatar()


@pytest.fixture(scope="module")
def head(avatar: Avatar) -> FlameModel:
    assert avatar.head is not None
    return avatar.head


def arkit(path: Path, frames: list[dict[str, float]], poses: list[list[float]] | None = None, fps: float = 30.0) -> Path:
    """ARKit weights of frames given by name, written with every name that occurs."""
    names = sorted({name for frame in frames for name in frame})
    rows = [{"weights": [frame.get(name, 0.0) for name in names], "time": i / fps} for i, frame in enumerate(frames)]
    path.write_text(json.dumps({"names": names, "frames": rows, **({"head_pose": poses} if poses else {})}))
    return path


def test_fewer_expressions_are_padded_with_zeros(tmp_path: Path, head: FlameModel) -> None:
    motion = small_motion(n_expr=50)
    motion.save_npz(tmp_path / "emoca.npz")
    got = load_motion(tmp_path / "emoca.npz", head)
    assert got.name == "emoca" and got.fps == 25 and got.views == []
    torch.testing.assert_close(got.sequence.expr[:, :50], motion.expr)
    assert got.sequence.expr.shape == (3, head.n_expr) and not got.sequence.expr[:, 50:].any()
    assert got.remark is not None and head.expression_names is not None and "\n" not in got.remark
    assert all(words in got.remark for words in ("emoca.npz", "50", "52", *(head.expression_names[i] for i in (0, 49))))


def test_more_expressions_are_refused_with_both_numbers(tmp_path: Path, head: FlameModel) -> None:
    small_motion(n_expr=100).save_npz(tmp_path / "flame.npz")
    with pytest.raises(UserError, match=r"flame\.npz.*100.*52"):
        load_motion(tmp_path / "flame.npz", head)


def test_the_performers_shape_does_not_matter(tmp_path: Path, head: FlameModel) -> None:
    motion = small_motion(n_expr=10, n_shape=300)
    motion.static_offset = torch.ones(5143, 3)
    motion.save_npz(tmp_path / "other.npz")
    got = load_motion(tmp_path / "other.npz", head).sequence
    assert not got.shape.any() and got.shape.shape == (head.n_shape,) and got.static_offset is None


def test_a_folder_of_timesteps(tmp_path: Path, head: FlameModel) -> None:
    write_tiny_capture(tmp_path / "capture")
    shutil.copytree(tmp_path / "capture/flame_param", tmp_path / "track")
    got = load_motion(tmp_path / "track", head).sequence
    assert got.timesteps == [0, 1, 2]
    torch.testing.assert_close(got.jaw_pose[:, 0], torch.tensor([0.06, 0.08, 0.18]))


def test_a_capture_brings_its_images(tmp_path: Path, head: FlameModel) -> None:
    got = load_motion(write_tiny_capture(tmp_path / "friend"), head)
    assert got.name == "friend" and got.sequence.timesteps == list(TIMESTEPS)
    assert len(got.views) == 9


def test_another_heads_capture_is_refused(tmp_path: Path, head: FlameModel) -> None:
    folder = write_tiny_capture(tmp_path / "friend")
    (folder / "head.json").write_text('{"head": "flame", "file": "flame2023.pkl", "sha256": "0", "teeth": true}')
    with pytest.raises(UserError, match=r"flame.*builtin-1"):
        load_motion(folder, head)


@pytest.mark.parametrize("stated", ['{"head": "builtin-1"}', '{"head": "builtin"}'])
def test_the_own_heads_motion_is_taken(tmp_path: Path, head: FlameModel, stated: str) -> None:
    (tmp_path / "head.json").write_text(stated)
    small_motion(n_expr=head.n_expr).save_npz(tmp_path / "move.npz")
    assert load_motion(tmp_path / "move.npz", head).remark is None


def test_another_heads_npz_is_refused(tmp_path: Path, head: FlameModel) -> None:
    (tmp_path / "head.json").write_text('{"head": "flame", "file": "flame2023.pkl", "sha256": "0", "teeth": true}')
    small_motion(n_expr=head.n_expr).save_npz(tmp_path / "move.npz")
    with pytest.raises(UserError, match=r"move\.npz: .*flame flame2023\.pkl.*builtin-1"):
        load_motion(tmp_path / "move.npz", head)


def test_flame_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    small_motion(n_expr=5).save_npz(tmp_path / "move.npz")
    flame = FlameModel.load(BUILTIN)
    stated = {**flame.identity, "file": "renamed.npz"}
    (tmp_path / "head.json").write_text(json.dumps(stated))
    load_motion(tmp_path / "move.npz", flame)
    (tmp_path / "head.json").write_text(json.dumps({**stated, "sha256": "1234"}))
    with pytest.raises(UserError, match="sha256 1234") as caught:
        load_motion(tmp_path / "move.npz", flame)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "content"), [("a.json", "{"), ("a.json", "[]"), ("a.mp4", ""), ("a.npz", "x")])
def test_other_files_are_refused_in_one_line(tmp_path: Path, head: FlameModel, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        load_motion(tmp_path / name, head)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path, head: FlameModel) -> None:
    for path in (tmp_path / "nothing.npz", tmp_path):
        with pytest.raises(UserError, match="motion is"):
            load_motion(path, head)


def test_arkit_weights_go_to_the_components_of_their_names(tmp_path: Path, head: FlameModel) -> None:
    frames = [{"mouthSmileLeft": 0.7, "browInnerUp": 1.4, "notAUnit": 1.0}, {"mouthSmileLeft": 0.1}]
    got = load_motion(arkit(tmp_path / "face.json", frames, fps=60.0), head)
    assert got.fps == 60 and head.expression_names is not None
    first = {name: value for name, value in zip(head.expression_names, got.sequence.expr[0].tolist(), strict=True) if value}
    assert first == pytest.approx({"mouthSmileLeft": 0.7, "browInnerUp": 1.0})


def test_gaze_turns_the_eyeballs(tmp_path: Path, head: FlameModel) -> None:
    """Both eyes to the person's left (+x), then down: seen by where the pupils' side of the eyeballs goes."""
    left = {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}
    down = {"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0}
    motion = load_motion(arkit(tmp_path / "gaze.json", [{**left, **dict.fromkeys(down, 0.0)}, down]), head)
    eyes = motion.sequence.eyes_pose.view(2, 2, 3)
    ahead = torch.tensor([0.0, 0.0, 1.0])
    looks = roma.rotvec_to_rotmat(eyes) @ ahead
    assert (looks[0, :, 0] > 0.4).all() and looks[0, :, 1].abs().max() < 1e-6
    assert (looks[1, :, 1] < -0.3).all() and looks[1, :, 0].abs().max() < 1e-6


def test_head_turns_are_shared_and_limited(tmp_path: Path, head: FlameModel) -> None:
    poses = [[0.0, 0.1, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    sequence = load_motion(arkit(tmp_path / "turn.json", [{"jawOpen": 0.1}] * 3, poses), head).sequence
    total = sequence.rotation + sequence.neck_pose
    assert total[0, 1].item() == pytest.approx(0.1, abs=0.002)
    assert 0.5 < total[1, 1].item() < LARGEST_TURN
    assert not total[2].any()


def test_arkit_needs_names(tmp_path: Path, head: FlameModel, monkeypatch: pytest.MonkeyPatch) -> None:
    path = arkit(tmp_path / "face.json", [{"jawOpen": 1.0}])
    monkeypatch.setattr(head, "expression_names", None)
    with pytest.raises(UserError, match="built-in head"):
        load_motion(path, head)


def test_wrong_weights_are_located(tmp_path: Path, head: FlameModel) -> None:
    path = tmp_path / "face.json"
    path.write_text('{"names": ["jawOpen"], "frames": [{"weights": [0.1]}, {"weights": [0.1, 0.2]}]}')
    with pytest.raises(UserError, match="frame 1"):
        load_motion(path, head)


def test_the_captured_performance(shared: Path, head: FlameModel) -> None:
    motion = load_motion(shared / "data/arkit_motion.json", head)
    assert len(motion.sequence) == 973 and motion.fps == pytest.approx(30, abs=0.1)
    assert motion.sequence.expr.max() > 0.9


def test_a_driven_avatar_stays_itself(tmp_path: Path, avatar: Avatar, head: FlameModel) -> None:
    assert avatar.sequence is not None
    avatar.sequence.shape = 0.5 * torch.ones(head.n_shape)
    small_motion(n_expr=20, frames=5).save_npz(tmp_path / "motion.npz")
    motion = load_motion(tmp_path / "motion.npz", head)
    actor = drive(avatar, motion)
    assert actor.sequence is not None and actor.sequence.timesteps == [0, 1, 2, 3, 4]
    assert actor.sequence.shape is avatar.sequence.shape
    pose = {"expr": motion.sequence.expr[4], "rotation": motion.sequence.rotation[4], "neck": motion.sequence.neck_pose[4]}
    pose |= {"jaw": motion.sequence.jaw_pose[4], "eyes": motion.sequence.eyes_pose[4]}
    same = avatar.mesh(flame={**pose, "translation": motion.sequence.translation[4]})
    torch.testing.assert_close(actor.mesh(4).vertices, same.vertices, rtol=0, atol=1e-6)


def test_an_actor_moves_to_where_the_cameras_are(tmp_path: Path, avatar: Avatar, head: FlameModel) -> None:
    motion = small_motion(n_expr=20)
    motion.translation = motion.translation + torch.tensor([5.0, -2.0, 1.0])
    motion.save_npz(tmp_path / "far.npz")
    actor = drive(avatar, load_motion(tmp_path / "far.npz", head))
    assert (place(actor).center - place(avatar).center).norm() > 3
    torch.testing.assert_close(place(moved(actor, to=avatar)).center, place(avatar).center, rtol=0, atol=1e-4)


def test_a_capture_without_its_pictures(tmp_path: Path, head: FlameModel) -> None:
    """Motions are passed on without the pictures of who performed them."""
    folder = write_tiny_capture(tmp_path / "c")
    whole = load_motion(folder, head)
    shutil.rmtree(folder / "images")
    bare = load_motion(folder, head)
    assert bare.views == [] and bare.sequence.timesteps == whole.sequence.timesteps == list(TIMESTEPS)
    assert torch.equal(bare.sequence.expr, whole.sequence.expr)
    assert bare.remark is not None and "without the capture's images" in bare.remark and "\n" not in bare.remark
    assert load_motion(folder, head, splits=["test"]).sequence.timesteps == [TIMESTEPS[-1]]


def test_a_capture_of_nothing_but_flame_parameters(tmp_path: Path, head: FlameModel) -> None:
    folder = write_tiny_capture(tmp_path / "c")
    for file in folder.glob("transforms_*.json"):
        file.unlink()
    (folder / "canonical_flame_param.npz").unlink()
    assert len(load_motion(folder, head).sequence) == len(TIMESTEPS)


def test_what_is_wrong_with_a_motion_is_not_excused_by_missing_pictures(tmp_path: Path, head: FlameModel) -> None:
    folder = write_tiny_capture(tmp_path / "c")
    shutil.rmtree(folder / "images")
    (folder / "flame_param/00004.npz").unlink()
    with pytest.raises(UserError, match=r"flame_param_path: the file .*00004\.npz is missing"):
        load_motion(folder, head)


def test_a_folder_of_timesteps_is_in_the_order_of_its_numbers(tmp_path: Path, head: FlameModel) -> None:
    """10 follows 9, and what a Mac leaves beside files on foreign disks is no timestep."""
    for number in range(12):
        np.savez(tmp_path / f"frame{number}.npz", **flame_parameters(number))  # pyright: ignore[reportArgumentType]
        (tmp_path / f"._frame{number}.npz").write_bytes(b"\0\5\x16\7")
    motion = load_motion(tmp_path, head)
    torch.testing.assert_close(motion.sequence.expr[:, 0], 0.1 * torch.arange(12.0))
    assert describe(tmp_path)["facts"]["timesteps"] == 12
