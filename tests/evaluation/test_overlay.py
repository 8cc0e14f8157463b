"""The mesh over a picture: where it lies, what its colours mean, and that equal steps of the scale look equal."""

from pathlib import Path

import numpy as np
import pytest
import torch
from avatar.small_avatar import small_avatar
from PIL import Image
from scene.tiny_capture import write_tiny_capture

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import place
from taichi_avatars.evaluation.colormap import LMS_FROM_LAB, RGB_FROM_LMS, scale_colors
from taichi_avatars.evaluation.overlay import (
    NONE_COLOR,
    SMALLEST_LEGEND,
    MeshStyle,
    count_colors,
    gaussians_per_face,
    mesh_overlay,
    shaded_head,
    with_legend,
)
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.video.rendering import render_views
from taichi_avatars.video.viewpoints import frontal_camera


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return small_avatar()


def test_equal_steps_look_equal() -> None:
    """In OKLab, from the sRGB values alone: the same distance between neighbours, always lighter."""
    srgb = scale_colors(torch.linspace(0.0, 1.0, 33)).double()
    assert srgb.min() >= 0.0 and srgb.max() <= 1.0
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lms = linear @ torch.linalg.inv(RGB_FROM_LMS).T
    lab = lms.sign() * lms.abs() ** (1 / 3) @ torch.linalg.inv(LMS_FROM_LAB).T
    steps = (lab[1:] - lab[:-1]).norm(dim=1)
    assert float(steps.max() / steps.min()) < 1.1  # a chord is shorter where the path meets the edge of the screen's colours
    assert (lab[1:, 0] > lab[:-1, 0]).all() and lab[-1, 0] - lab[0, 0] > 0.55
    white = torch.ones(3, dtype=torch.float64) @ torch.linalg.inv(RGB_FROM_LMS).T
    torch.testing.assert_close(white, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)  # the matrices belong together


def test_values_outside_have_the_colours_of_the_ends() -> None:
    ends = scale_colors(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(scale_colors(torch.tensor([-3.0, 7.0])), ends)


def test_a_triangle_without_gaussians_is_neutral() -> None:
    colors = count_colors(torch.tensor([0, 1, 10, 100]))
    torch.testing.assert_close(colors[0], torch.tensor(NONE_COLOR))
    torch.testing.assert_close(colors[1:], scale_colors(torch.tensor([0.0, 0.5, 1.0])))
    assert (colors[1:].max(1).values - colors[1:].min(1).values > 0.2).all()  # none of the others is grey
    for counts in ([0, 0], [1, 1], []):
        assert torch.isfinite(count_colors(torch.tensor(counts, dtype=torch.int64))).all()


def test_gaussians_are_counted(avatar: Avatar) -> None:
    counts = gaussians_per_face(avatar)
    assert avatar.head is not None and len(counts) == avatar.head.num_faces
    assert counts.sum() == len(avatar.gaussians) and (counts == 0).any()


def test_flat_shading_has_one_light_per_triangle(avatar: Avatar) -> None:
    """Neighbouring pixels are equal far more often than under interpolated normals."""
    camera = frontal_camera(place(avatar), 200, 300)

    def equal(style: MeshStyle) -> float:
        rgb, alpha = shaded_head(avatar, camera, 2, style=style)
        inside = (alpha[:, 1:] == 1) & (alpha[:, :-1] == 1)
        return float(((rgb[:, :, 1:] - rgb[:, :, :-1]).abs().amax(0) < 2e-3)[inside].float().mean())

    assert equal(MeshStyle(smooth=False)) > equal(MeshStyle()) + 0.15


def test_counted_colours_and_their_legend(avatar: Avatar) -> None:
    camera = frontal_camera(place(avatar), 160, 240)
    picture = mesh_overlay(avatar, camera, 2, torch.ones(3, 240, 160), MeshStyle(colors="gaussians", opacity=1.0))
    assert isinstance(picture, np.ndarray) and picture.shape == (240, 160, 3)
    legend = picture[-40:].reshape(-1, 3).astype(int)
    for color in scale_colors(torch.tensor([0.0, 0.5, 1.0])):
        assert np.abs(legend - (255 * color).numpy()).sum(1).min() < 8
    assert np.abs(legend - 255 * np.array(NONE_COLOR)).sum(1).min() < 3


def test_a_legend_fits_any_size_or_is_left_out() -> None:
    small = np.full((SMALLEST_LEGEND - 1, 300, 3), 255, np.uint8)
    np.testing.assert_array_equal(with_legend(small, 9), small)
    for largest in (0, 1, 7, 298, 12345):
        for size in ((SMALLEST_LEGEND, SMALLEST_LEGEND), (802, 550)):
            page = with_legend(np.full((*size, 3), 255, np.uint8), largest)
            assert page.shape == (*size, 3) and (page[: size[0] // 2] == 255).all() and (page[-2] < 100).all()


def test_over_the_truth(tmp_path: Path, avatar: Avatar) -> None:
    """Where the mesh is not, the captured image stands; with no mesh asked for, none is written."""
    views = load_capture(write_tiny_capture(tmp_path / "capture")).test[:1]
    for style, below in ((MeshStyle(over="truth"), "gt"), (MeshStyle(), "renders"), (MeshStyle(opacity=0.0), "renders")):
        folder = tmp_path / f"{below}{style.weight}"
        render_views(avatar, views, folder, mesh=style)
        pictures = {}
        for kind in ("renders_mesh", below):
            with Image.open(folder / f"{kind}/00000.png") as image:
                pictures[kind] = np.array(image)
        bare = shaded_head(avatar, views[0].camera, views[0].timestep)[1].numpy() == 0
        same = (pictures["renders_mesh"] == pictures[below]).all(-1)
        assert bare.any() and same[bare].all() and same.all() == (style.weight == 0.0)
    render_views(avatar, views, tmp_path / "none")
    assert sorted(path.name for path in (tmp_path / "none").iterdir()) == ["gt", "gt.mp4", "renders", "renders.mp4"]
