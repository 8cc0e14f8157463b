"""What each look draws, against the parts that it is made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from taichi_avatars.bench import example_avatar
from taichi_avatars.bench.scenes import in_front_of
from taichi_avatars.evaluation.overlay import MeshStyle, mesh_overlay
from taichi_avatars.files.png import as_uint8
from taichi_avatars.viewer.look import LAYERS, OVERLAYS, Look, Pose
from taichi_avatars.viewer.picture import draw, posed
from taichi_avatars.viewer.subject import subject_of

WHITE = Look(background=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def subject():
    return subject_of(example_avatar(4000), None, None)


@pytest.fixture(scope="module")
def camera(subject):
    return in_front_of(subject.avatar, 66, 96)


def drawn(subject, camera, look=WHITE, timestep=3):
    return draw(posed(subject.shown(look), subject.flame(look, timestep), look.scale), camera, look)


def test_splats_are_what_the_avatar_renders(subject, camera) -> None:
    picture = drawn(subject, camera)
    out = subject.avatar.render(camera, 3, background=WHITE.background)
    assert np.array_equal(picture.image, as_uint8(out.image))
    assert picture.visible == int((out.radii > 0).sum()) > 1000
    assert {"FLAME", "binding", "splats"} <= picture.stages.keys()


def test_alpha_depth_and_nothing(subject, camera) -> None:
    out = subject.avatar.render(camera, 3)
    alpha = drawn(subject, camera, replace(WHITE, layer="alpha")).image
    assert np.array_equal(alpha, as_uint8(out.alpha.expand(3, -1, -1)))
    empty = drawn(subject, camera, replace(WHITE, layer="nothing")).image
    assert (empty == 255).all()
    depth = drawn(subject, camera, replace(WHITE, layer="depth")).image
    solid = (out.alpha > 0.5).numpy()
    assert (depth[~solid] == 255).all() and 0.05 < solid.mean() < 0.95
    distance = (out.depth / out.alpha).numpy()
    nearest, farthest = (
        depth[np.unravel_index(np.where(solid, distance, 9).argmin(), solid.shape)],
        depth[np.unravel_index(np.where(solid, distance, 0).argmax(), solid.shape)],
    )
    assert nearest.sum() > farthest.sum() + 200  # light is near, dark is far


def test_meshes_lie_over_the_splats(subject, camera) -> None:
    mesh = subject.avatar.mesh(3)
    below = subject.avatar.render(camera, 3, background=WHITE.background).image.clamp(0, 1)
    for overlay, colors in (("mesh", "parts"), ("Gaussians per face", "gaussians")):
        picture = drawn(subject, camera, replace(WHITE, overlay=overlay, opacity=0.8)).image
        wanted = mesh_overlay(subject.avatar, camera, mesh, below, MeshStyle(colors, opacity=0.8))
        assert np.array_equal(picture, as_uint8(wanted))
    assert np.array_equal(drawn(subject, camera, replace(WHITE, overlay="mesh", opacity=0.0)).image, as_uint8(below))


def test_wireframe_shows_edges_and_leaves_faces_clear(subject, camera) -> None:
    near = replace(camera, fx=30 * camera.fx, fy=30 * camera.fy)  # a few triangles, large enough to have an inside
    look = replace(WHITE, layer="nothing", overlay="wireframe", opacity=1.0)
    image = drawn(subject, near, look).image
    lines = (image != 255).any(2)
    assert 0.05 < lines.mean() < 0.6


def test_sliders_move_what_they_say(subject, camera) -> None:
    look = replace(WHITE, pose=Pose(jaw=(0.3, 0.0, 0.0), expr=(0.0, 0.5)))
    before, after = subject.flame(WHITE, 3), subject.flame(look, 3)
    assert torch.allclose(after.jaw - before.jaw, torch.tensor([0.3, 0.0, 0.0]))
    assert torch.allclose((after.expr - before.expr)[:3], torch.tensor([0.0, 0.5, 0.0]))
    neutral = subject.flame(replace(look, neutral=True), 3)
    assert torch.allclose(neutral.jaw, torch.tensor([0.3, 0.0, 0.0])) and not neutral.neck.any()
    assert torch.equal(neutral.rotation, before.rotation)  # where the head is stays


def test_every_look_draws_an_unbound_scene_too(camera) -> None:
    avatar = example_avatar(500)
    gaussians = avatar.gaussians
    gaussians.binding = None
    subject = subject_of(type(avatar)(gaussians), None, camera)
    for layer in LAYERS:
        for overlay in OVERLAYS:
            shown = replace(WHITE, layer=layer, overlay=overlay)
            assert draw(posed(subject.avatar, None), subject.first_camera, shown).image.shape == (96, 66, 3)
