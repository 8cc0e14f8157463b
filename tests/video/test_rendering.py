from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar.small_avatar import COUNT, small_avatar
from PIL import Image
from scene.tiny_capture import HEIGHT, WIDTH, picture, write_tiny_capture

from taichi_avatars import bench
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.model_folder import load_model, load_source
from taichi_avatars.avatar.place import place
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.comparison import CAPTION, FULL_ERROR, GAP, HEADING, MARGIN, Row, error_colors, write_comparison
from taichi_avatars.evaluation.overlay import MeshStyle, mesh_overlay, shaded_head
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.video.rendering import render_views
from taichi_avatars.video.viewpoints import frontal_camera


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    return load_capture(write_tiny_capture(tmp_path / "capture"))


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    """With the timesteps of the tiny capture among its own."""
    return small_avatar()


def test_folders_of_other_tools(tmp_path: Path, avatar: Avatar, capture: Capture) -> None:
    folder = tmp_path / "model/test/ours_7"
    seen: list[int] = []
    videos = render_views(avatar, capture.test[::-1], folder, (0.0, 0.0, 0.0), mesh=MeshStyle(), on_view=seen.append)
    assert [video.name for video in videos] == ["renders.mp4", "gt.mp4", "renders_mesh.mp4"] and seen == [1, 2, 3]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    frames = {f"{kind}/0000{index}.png" for kind in ("renders", "gt", "renders_mesh") for index in range(3)}
    assert names == frames | {"renders", "gt", "renders_mesh", "renders.mp4", "gt.mp4", "renders_mesh.mp4"}
    for index in range(3):  # camera by camera, whatever the order of the views
        with Image.open(folder / f"gt/0000{index}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), picture(9, index))
        with Image.open(folder / f"renders/0000{index}.png") as image:
            view = next(view for view in capture.test if view.camera_index == index)
            rendered = avatar.render(view.camera, timestep=9).image.clamp(0, 1).permute(1, 2, 0).numpy() * 255
            np.testing.assert_allclose(np.asarray(image), rendered, atol=0.51)  # rounded to 8 bits: half a level
    with av.open(str(folder / "gt.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate, stream.pix_fmt) == (WIDTH, HEIGHT, 25, "yuv420p")
        assert sum(1 for _ in container.decode(stream)) == 3


def test_a_failure_leaves_what_was_there(tmp_path: Path, avatar: Avatar, capture: Capture) -> None:
    folder = tmp_path / "model/test/ours_7"
    render_views(avatar, capture.test[:1], folder)
    before = sorted(path.name for path in folder.rglob("*"))
    capture.test[1].image.write_bytes(b"no image")
    with pytest.raises(UserError, match=capture.test[1].image.name):
        render_views(avatar, capture.test, folder)
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_no_views_are_said(tmp_path: Path, avatar: Avatar) -> None:
    with pytest.raises(UserError, match="no views"):
        render_views(avatar, [], tmp_path / "val")


def test_the_overlay_lies_where_the_mesh_is(avatar: Avatar) -> None:
    camera = frontal_camera(place(avatar), 64, 96)
    image = torch.rand(3, 96, 64)
    over = mesh_overlay(avatar, camera, 2, image)
    rgb, alpha = shaded_head(avatar, camera, 2)
    assert torch.equal(over[:, alpha == 0], image[:, alpha == 0]) and (alpha == 0).any()
    inside = alpha == 1
    torch.testing.assert_close(over[:, inside], 0.4 * image[:, inside] + 0.6 * rgb[:, inside])
    assert inside.float().mean() > 0.2


def test_a_comparison_shows_the_views(tmp_path: Path, avatar: Avatar, capture: Capture) -> None:
    rows = [Row(capture.val[0], "novel view"), Row(capture.test[1], "self-\nreenactment")]
    path = write_comparison(tmp_path / "comparison.png", avatar, rows, (0.0, 0.0, 0.0))
    with Image.open(path) as image:
        pixels = np.asarray(image)
    x, y = MARGIN + CAPTION, MARGIN + HEADING
    np.testing.assert_array_equal(pixels[y : y + HEIGHT, x : x + WIDTH], picture(3, 0))
    y += HEIGHT + GAP
    np.testing.assert_array_equal(pixels[y : y + HEIGHT, x : x + WIDTH], picture(9, 1))
    with pytest.raises(UserError, match="held-out"):
        write_comparison(tmp_path / "none.png", avatar, [], (0.0, 0.0, 0.0))


def test_larger_errors_are_brighter() -> None:
    colors = error_colors(torch.linspace(0.0, 2 * FULL_ERROR, 40)[None]).astype(int).sum(-1)[0]
    assert (np.diff(colors[:20]) > 0).all() and (colors[20:] == colors[20]).all()


def test_a_model_folder_is_read_back(tmp_path: Path, avatar: Avatar, capture: Capture) -> None:
    model = tmp_path / "model"
    for iteration in (5, 30):
        avatar.save(model / f"point_cloud/iteration_{iteration}")
    loaded = load_model(model)
    assert (loaded.iteration, loaded.method, loaded.source, len(loaded.avatar.gaussians)) == (30, "ours_30", None, COUNT)
    assert load_model(model, iteration=5).iteration == 5
    assert load_model(model / "point_cloud/iteration_5/point_cloud.ply").folder == model
    with pytest.raises(UserError, match="5, 30"):
        load_model(model, iteration=6)
    with pytest.raises(UserError, match="-s"):
        load_source(loaded)
    assert load_source(loaded, capture.path).flame is not None


def test_arguments_that_other_tools_leave(tmp_path: Path, avatar: Avatar, capture: Capture) -> None:
    """Read as literals: a call in their place is refused, not run."""
    model = tmp_path / "model"
    avatar.save(model / "point_cloud/iteration_5")
    (model / "cfg_args").write_text(
        f"Namespace(data_device='cuda', eval=True, resolution=-1, source_path={str(capture.path)!r}, white_background=True)"
    )
    loaded = load_model(model)
    assert loaded.source == capture.path and loaded.background == (1.0, 1.0, 1.0)
    assert len(load_source(loaded).test) == 3
    (model / "cfg_args").write_text(f"Namespace(source_path=open({str(tmp_path / 'evil')!r}, 'w').name)")
    with pytest.raises(UserError, match="cfg_args"):
        load_model(model)
    assert not (tmp_path / "evil").exists()


def test_a_capture_that_is_gone_is_said(tmp_path: Path, avatar: Avatar) -> None:
    model = tmp_path / "model"
    avatar.save(model / "point_cloud/iteration_5")
    (model / "cfg_args").write_text(f"Namespace(source_path={str(tmp_path / 'gone')!r})")
    with pytest.raises(UserError, match=r"gone.*-s"):
        load_source(load_model(model))


def test_the_bench_scene_repeats_and_is_measured() -> None:
    first, second = bench.dense_scene(500, 55, 80), bench.dense_scene(500, 55, 80)
    assert all(torch.equal(a, b) for a, b in zip(first[:5], second[:5], strict=True))
    measured = bench.bench_kernels(500, 55, 80, repeats=1)
    assert measured["gaussians"] == 500
    assert measured["pairs"] >= 64 * 500  # each touches at least one tile of 8 x 8 pixels
    frames = bench.bench_avatar(small_avatar(), bench.in_front_of(small_avatar(), 55, 80), frames=2)
    assert frames["fps"] == pytest.approx(1000 / frames["frame"]["median_ms"])  # pyright: ignore[reportIndexIssue]
