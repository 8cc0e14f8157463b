from dataclasses import replace
from pathlib import Path

import pytest
import torch
from export.subjects import camera_of, colourful_avatar

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.export.world import in_world, y_down

# Rounding of scales can carry an alpha across 1/255, where it starts to be drawn: a pixel changes by that, times colour.
STEP = 3 / 255


def assert_same_picture(a: torch.Tensor, b: torch.Tensor) -> None:
    difference = (a - b).abs()
    assert float(difference.max()) < STEP
    assert float((difference > 1e-5).float().mean()) < 0.002
    assert float(a.std()) > 0.05  # there is something to see


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return colourful_avatar()


@pytest.mark.parametrize("timestep", [None, 4, 10])
def test_the_posed_file_renders_as_the_avatar_does(avatar: Avatar, timestep: int | None, tmp_path: Path) -> None:
    camera = camera_of(avatar)
    in_world(avatar, avatar.mesh(timestep)).save_ply(tmp_path / "posed.ply")
    scene = Avatar.load(tmp_path / "posed.ply")
    assert scene.head is None and scene.gaussians.degree == 3
    assert_same_picture(scene.render(camera).image, avatar.render(camera, timestep=timestep).image)


def test_the_posed_file_reads_back_bit_by_bit(avatar: Avatar, tmp_path: Path) -> None:
    posed = in_world(avatar, avatar.mesh(7))
    posed.save_ply(tmp_path / "posed.ply")
    read = Gaussians.load_ply(tmp_path / "posed.ply")
    assert read.binding is None
    for name, values in posed.parameters().items():
        assert torch.equal(getattr(read, name), values), name


def test_a_lower_degree_is_the_avatar_rendered_with_it(avatar: Avatar) -> None:
    camera = camera_of(avatar)
    scene = Avatar(in_world(avatar, avatar.mesh(4), degree=1))
    assert scene.gaussians.degree == 1
    assert_same_picture(scene.render(camera).image, avatar.render(camera, timestep=4, sh_degree=1).image)
    assert in_world(avatar, avatar.mesh(4), degree=9).degree == 3


def test_half_a_turn_of_world_and_camera_changes_nothing(avatar: Avatar) -> None:
    camera = camera_of(avatar)
    posed = in_world(avatar, avatar.mesh(4))
    turned = replace(camera, world_to_camera=camera.world_to_camera @ torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0])))
    assert_same_picture(Avatar(y_down(posed)).render(turned).image, Avatar(posed).render(camera).image)


def test_half_a_turn_twice_is_none(avatar: Avatar) -> None:
    posed = in_world(avatar, avatar.mesh(4))
    twice = y_down(y_down(posed))
    assert torch.equal(twice.means, posed.means) and torch.equal(twice.sh_rest, posed.sh_rest)
    assert torch.equal(twice.quats, -posed.quats)  # the same rotation
    assert not torch.equal(y_down(posed).means, posed.means)
