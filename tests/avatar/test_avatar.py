"""Avatars on disk, and poses of one's own."""

import pytest
import torch

from taichi_avatars import Avatar, Camera, FlameModel
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


def sequence(head: FlameModel, count: int = 3) -> FlameSequence:
    g = torch.Generator().manual_seed(0)
    sizes = {"expr": head.n_expr, "rotation": 3, "neck_pose": 3, "jaw_pose": 3, "eyes_pose": 6, "translation": 3}
    parts = {name: torch.randn(count, size, generator=g) * 0.05 for name, size in sizes.items()}
    return FlameSequence(timesteps=[2, 5, 9][:count], shape=torch.zeros(head.n_shape), **parts)


@pytest.fixture
def avatar(head) -> Avatar:
    g = torch.Generator().manual_seed(0)
    gaussians = Gaussians.on_triangles(head.num_faces, 1, g)
    gaussians.logit_opacities += 2.0
    gaussians.sh_base += torch.randn(gaussians.sh_base.shape, generator=g)
    return Avatar(gaussians, head, sequence(head))


@pytest.fixture
def camera() -> Camera:
    return Camera.look_at(torch.tensor([0.0, 0.02, 1.0]), torch.tensor([0.0, 0.02, 0.0]), 0.3, 40, 52)


def test_saved_and_loaded_it_renders_the_same(tmp_path, avatar, camera):
    avatar.save(tmp_path / "point_cloud" / "iteration_7")
    for path in (
        tmp_path,
        tmp_path / "point_cloud" / "iteration_7",
        tmp_path / "point_cloud" / "iteration_7" / "point_cloud.ply",
    ):
        again = Avatar.load(path)
        assert torch.equal(again.render(camera, 5).image, avatar.render(camera, 5).image)


def test_inference_mode_renders_the_same(tmp_path, avatar, camera):
    avatar.save(tmp_path)
    with torch.inference_mode():
        image = Avatar.load(tmp_path).render(camera, 5).image
    assert torch.equal(image, avatar.render(camera, 5).image)


def test_the_newest_iteration_is_taken_by_number(tmp_path, avatar):
    from taichi_avatars.avatar.iterations import find_ply

    for iteration in (900, 30_000, 7000):
        avatar.save(tmp_path / "point_cloud" / f"iteration_{iteration}")
    assert find_ply(tmp_path).parent.name == "iteration_30000"


def test_a_pose_of_ones_own_moves_the_picture(avatar, camera):
    neutral = avatar.render(camera, flame={}).image
    assert torch.equal(avatar.render(camera, flame={"expr": torch.zeros(4)}).image, neutral)
    opened = avatar.render(camera, flame={"jaw": [0.3, 0.0, 0.0]}).image
    assert (opened - neutral).abs().max() > 0.1


def test_a_timestep_is_the_datasets_number(avatar, camera):
    row = avatar.sequence.row(9)
    pose = {
        "expr": avatar.sequence.expr[row],
        "rotation": avatar.sequence.rotation[row],
        "neck": avatar.sequence.neck_pose[row],
    }
    pose |= {"jaw": avatar.sequence.jaw_pose[row], "eyes": avatar.sequence.eyes_pose[row]}
    pose |= {"translation": avatar.sequence.translation[row]}
    assert torch.equal(avatar.render(camera, 9).image, avatar.render(camera, flame=pose).image)
    with pytest.raises(UserError, match="timestep 3"):
        avatar.render(camera, 3)


@pytest.mark.parametrize(
    ("flame", "words"),
    [({"jow": [0, 0, 0]}, "jow"), ({"jaw": [0, 0]}, "jaw has 2"), ({"expr": torch.zeros(999)}, "expr has 999")],
)
def test_wrong_poses_are_named(avatar, camera, flame, words):
    with pytest.raises(UserError, match=words):
        avatar.render(camera, flame=flame)


def test_a_head_with_too_few_triangles_is_refused(head, avatar):
    gaussians = avatar.gaussians
    gaussians.binding = gaussians.binding + 5
    with pytest.raises(UserError, match=str(head.num_faces)):
        Avatar(gaussians, head, avatar.sequence)


def test_an_empty_folder_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="no avatar here"):
        Avatar.load(tmp_path)
