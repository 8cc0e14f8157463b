"""What a fast run begins with: Gaussians on the surface, spread by area, in the colours of the images."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from taichi_avatars import FlameModel
from taichi_avatars.avatar.avatar import Avatar, to_world
from taichi_avatars.avatar.gaussians import C0
from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.outputs.motion import place
from taichi_avatars.outputs.viewpoints import frontal_camera
from taichi_avatars.scene.views import View
from taichi_avatars.training.start import OPACITY, paint, spread


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


def at_rest(head: FlameModel) -> FlameSequence:
    return FlameSequence(
        timesteps=[0],
        shape=torch.zeros(head.n_shape),
        expr=torch.zeros(1, head.n_expr),
        **{name: torch.zeros(1, 3) for name in ("rotation", "neck_pose", "jaw_pose", "translation")},
        eyes_pose=torch.zeros(1, 6),
    )


def areas(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    a, b, c = vertices[faces].unbind(1)
    return 0.5 * torch.linalg.cross(b - a, c - a).norm(dim=1)


def test_they_lie_on_their_triangles_in_proportion_to_the_area(head):
    vertices = head.v_template
    gaussians = spread(vertices, head.faces, 25_000, 1, torch.Generator().manual_seed(0))
    assert gaussians.binding is not None and len(gaussians) == 25_000
    each = torch.bincount(gaussians.binding.long(), minlength=head.num_faces)
    assert int(each.min()) == 1
    wanted = areas(vertices, head.faces) / areas(vertices, head.faces).sum() * (25_000 - head.num_faces)
    assert float((each - 1 - wanted).abs().max()) < 1.001

    world, _ = to_world(gaussians, vertices, head)
    a, b, c = vertices[head.faces[gaussians.binding.long()]].unbind(1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    assert float(((world.means - a) * normal).sum(1).abs().max()) < 1e-6, "metres off the plane"
    inside = [torch.linalg.cross(q - p, world.means - p) for p, q in ((a, b), (b, c), (c, a))]
    assert all(float((side * normal).sum(1).min()) > -1e-9 for side in inside), "outside the triangle"
    assert torch.allclose(gaussians.opacities, torch.tensor(OPACITY))
    # all of them together cover about the surface: as many squares of 1 / SIZE standard deviations
    covered = (world.scales[:, 0] / 0.6).square().sum()
    assert torch.isclose(covered, areas(vertices, head.faces).sum(), rtol=1e-3)


def test_fewer_than_triangles_is_one_per_triangle(head):
    gaussians = spread(head.v_template, head.faces, 10, 0, torch.Generator())
    assert len(gaussians) == head.num_faces
    assert float(gaussians.means.norm(dim=1).max()) < 1.0


def test_the_same_seed_spreads_the_same(head):
    one, two = (spread(head.v_template, head.faces, 12_000, 0, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.means, two.means) and torch.equal(one.sh_base, two.sh_base)


def test_colours_are_those_of_the_pixels_and_only_where_seen(head, tmp_path: Path):
    """A picture that is red on the left and blue on the right half."""
    sequence = at_rest(head)
    gaussians = spread(head.v_template, head.faces, 12_000, 0, torch.Generator().manual_seed(0))
    camera = frontal_camera(place(Avatar(gaussians, head, sequence)), 60, 80)
    pixels = torch.zeros(80, 60, 3, dtype=torch.uint8)
    pixels[:, :30, 0], pixels[:, 30:, 2] = 255, 255
    Image.fromarray(pixels.numpy()).save(tmp_path / "a.png")
    view = View(camera, 0, 0, "0", "00000_00", tmp_path / "a.png", None)
    before = gaussians.sh_base.clone()
    colour = paint(Avatar(gaussians, head, sequence), [view], (0.0, 0.0, 0.0))[:, 0] * C0 + 0.5

    world, _ = to_world(gaussians, head.v_template, head)
    x = world.means @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    column = camera.fx * x[:, 0] / x[:, 2] + camera.cx
    changed = (colour - (before[:, 0] * C0 + 0.5)).abs().amax(1) > 0
    assert 0.2 < float(changed.float().mean()) < 0.7, "the back of the head is not seen"
    left, right = changed & (column < 26), changed & (column > 34)
    assert float((colour[left] - torch.tensor([1.0, 0.0, 0.0])).abs().max()) < 0.02
    assert float((colour[right] - torch.tensor([0.0, 0.0, 1.0])).abs().max()) < 0.02


def test_a_missing_picture_is_one_line(head, tmp_path: Path):
    sequence = at_rest(head)
    gaussians = spread(head.v_template, head.faces, 10, 0, torch.Generator())
    avatar = Avatar(gaussians, head, sequence)
    camera = frontal_camera(place(avatar), 20, 20)
    with pytest.raises(UserError, match=r"gone\.png"):
        paint(avatar, [View(camera, 0, 0, "0", "00000_00", tmp_path / "gone.png", None)], (0.0, 0.0, 0.0))
