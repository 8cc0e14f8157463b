"""What a fast run begins with: Gaussians on the surface, spread by area, in the colours of the images."""

import math
from copy import copy
from pathlib import Path

import pytest
import torch
from PIL import Image

from taichi_avatars import FlameModel
from taichi_avatars.avatar.avatar import Avatar, to_world
from taichi_avatars.avatar.gaussians import C0
from taichi_avatars.avatar.place import place
from taichi_avatars.config import STATIC, TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.views import View
from taichi_avatars.training.features import densities, worths
from taichi_avatars.training.start import OPACITY, SIZE, carve, on_surface, paint
from taichi_avatars.video.viewpoints import frontal_camera


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
    gaussians = on_surface(vertices, head.faces, 25_000, 1, torch.Generator().manual_seed(0))
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
    covered = (world.scales[:, 0] / SIZE).square().sum()
    assert torch.isclose(covered, areas(vertices, head.faces).sum(), rtol=1e-3)


def test_fewer_than_triangles_is_one_per_triangle(head):
    gaussians = on_surface(head.v_template, head.faces, 10, 0, torch.Generator())
    assert len(gaussians) == head.num_faces
    assert float(gaussians.means.norm(dim=1).max()) < 1.0


def test_the_same_seed_spreads_the_same(head):
    one, two = (on_surface(head.v_template, head.faces, 12_000, 0, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one.means, two.means) and torch.equal(one.sh_base, two.sh_base)


def test_colours_are_those_of_the_pixels_and_only_where_seen(head, tmp_path: Path):
    """A picture that is red on the left and blue on the right half."""
    sequence = at_rest(head)
    gaussians = on_surface(head.v_template, head.faces, 12_000, 0, torch.Generator().manual_seed(0))
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
    gaussians = on_surface(head.v_template, head.faces, 10, 0, torch.Generator())
    avatar = Avatar(gaussians, head, sequence)
    camera = frontal_camera(place(avatar), 20, 20)
    with pytest.raises(UserError, match=r"gone\.png"):
        paint(avatar, [View(camera, 0, 0, "0", "00000_00", tmp_path / "gone.png", None)], (0.0, 0.0, 0.0))


def ball_views(folder: Path, alpha: bool = True) -> list[View]:
    """Pictures of a red ball of radius 0.5 in the middle, from 12 sides; outside it they are transparent, or black."""
    views, size = [], 64
    for k in range(12):
        eye = 4.0 * torch.tensor([math.sin(0.52 * k), 0.6 * (-1) ** k, math.cos(0.52 * k)])
        camera = Camera.look_at(eye, torch.zeros(3), 0.7, size, size)
        y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
        ray = torch.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, torch.ones_like(x)], 2)
        center = camera.world_to_camera[:3, 3]
        along = (ray @ center) / ray.norm(dim=2)
        inside = center.square().sum() - along.square() < 0.25
        pixels = torch.zeros(size, size, 4, dtype=torch.uint8)
        pixels[..., 0], pixels[..., 3] = 255 * inside, 255 * inside
        Image.fromarray((pixels if alpha else pixels[..., :3].contiguous()).numpy()).save(folder / f"{k}.png")
        views.append(View(camera, None, k, str(k), str(k), folder / f"{k}.png", None))
    return views


def test_a_scene_is_carved_from_the_opacity_of_its_pictures(tmp_path: Path):
    gaussians = carve(ball_views(tmp_path), 2_000, 0, (0.0, 0.0, 0.0), torch.Generator().manual_seed(0))
    assert gaussians is not None and 500 < len(gaussians) <= 2_000
    radius = gaussians.means.norm(dim=1)
    assert float(radius.quantile(0.95)) < 0.62, "a pixel wide of the ball, and a little where 12 sides do not see"
    assert float(radius.quantile(0.05)) > 0.35, "what is inside is not seen"
    colour = gaussians.sh_base[:, 0] * C0 + 0.5
    assert float(colour[:, 1:].abs().max()) < 0.01 and float(colour[:, 0].median()) > 0.5, "red, black mixed in at the edges"
    assert torch.allclose(gaussians.opacities, torch.tensor(OPACITY))


def test_nothing_is_carved_from_pictures_without_opacity(tmp_path: Path):
    views = ball_views(tmp_path, alpha=False)
    assert carve(views, 2_000, 0, (0.0, 0.0, 0.0), torch.Generator().manual_seed(0)) is None


@pytest.mark.parametrize("opacity", [0, 255])
def test_nothing_is_carved_from_a_scene_elsewhere_or_without_background(opacity: int, tmp_path: Path):
    views = ball_views(tmp_path)
    for view in views:
        Image.fromarray(torch.full((64, 64, 4), opacity, dtype=torch.uint8).numpy()).save(view.image)
    assert carve(views, 2_000, 0, (0.0, 0.0, 0.0), torch.Generator().manual_seed(0)) is None


def test_rates_of_a_static_scene_are_its_own_unless_somebody_asked():
    assert TrainConfig().for_static_scene().position_lr_init == STATIC["position_lr_init"]
    asked = TrainConfig(position_lr_init=0.5).for_static_scene()
    assert (asked.position_lr_init, asked.position_lr_final) == (0.5, STATIC["position_lr_final"])
    paper = TrainConfig(schedule="paper")
    assert paper.for_static_scene() == paper


def test_mouth_and_eyes_start_with_more(head):
    denser = densities(head)
    plain, dense = (
        on_surface(head.v_template, head.faces, 40_000, 0, torch.Generator().manual_seed(0), given) for given in (None, denser)
    )
    assert len(dense) == len(plain)
    inside = torch.zeros(head.num_vertices, dtype=torch.bool)
    inside[head.regions["lips"]] = True
    lips = inside[head.faces.long()].all(1)
    # every triangle has one of its own, whatever its region
    before, after = (torch.bincount(g.binding, minlength=head.num_faces)[lips].sum() - lips.sum() for g in (plain, dense))
    area = areas(head.v_template, head.faces)
    kept = area.sum() / (area * denser).sum()  # by the rest of the head, as their number stays the same
    assert after / before == pytest.approx(6.0 * float(kept), rel=0.1)


def test_a_head_without_names_is_as_dense_everywhere(head):
    bare = copy(head)
    bare.regions = {}
    assert (densities(bare) == 1.0).all() and (worths(bare) == 1.0).all()
