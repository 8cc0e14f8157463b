import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scene.tiny_capture import (
    CX,
    CY_FROM_TOP,
    HEIGHT,
    WIDTH,
    camera_at,
    flame_parameters,
    read_split,
    write_split,
    write_tiny_capture,
)

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.scene.capture import load_capture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_capture(tmp_path / "capture")


def change_frame(folder: Path, number: int = 0, split: str = "train", **values: object) -> None:
    """Sets keys of one frame; None takes a key out."""
    content = read_split(folder, split)
    for key, value in values.items():
        content["frames"][number][key] = value
        if value is None:
            del content["frames"][number][key]
    write_split(folder, split, content)


def refusal(folder: Path, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_capture(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_splits_timesteps_and_names(folder: Path) -> None:
    capture = load_capture(folder)
    assert capture.kind == "head" and capture.points is None
    assert [view.name for view in capture.train] == ["00003_01", "00003_02", "00004_01", "00004_02"]
    assert [view.name for view in capture.val] == ["00003_00", "00004_00"]
    assert [(view.timestep, view.camera_index, view.camera_id) for view in capture.test] == [
        (9, 0, "cam0"),
        (9, 1, "cam1"),
        (9, 2, "cam2"),
    ]
    assert all(view.image.is_file() and view.mask is None for view in capture.train)


def test_camera_is_the_one_that_was_written(folder: Path) -> None:
    for view in load_capture(folder).test:
        expected = camera_at(view.camera_index)
        torch.testing.assert_close(view.camera.world_to_camera, expected.world_to_camera, atol=1e-6, rtol=0)
        assert view.camera.fx == view.camera.fy == pytest.approx(expected.fx)
        assert (view.camera.cx, view.camera.cy) == (CX, CY_FROM_TOP)
        assert (view.camera.width, view.camera.height) == (WIDTH, HEIGHT)


def test_fixed_cameras_are_shared_between_timesteps(folder: Path) -> None:
    train = load_capture(folder).train
    assert train[0].camera is train[2].camera and train[0].camera is not train[1].camera


@pytest.mark.parametrize("principal_point", ["bottom", "top"])
def test_principal_point_of_old_and_new_sets(tmp_path: Path, principal_point: str) -> None:
    folder = write_tiny_capture(tmp_path, principal_point=principal_point)
    assert load_capture(folder, principal_point=principal_point).train[0].camera.cy == CY_FROM_TOP
    other = "top" if principal_point == "bottom" else "bottom"
    assert load_capture(folder, principal_point=other).train[0].camera.cy == HEIGHT - CY_FROM_TOP
    for frame in range(4):
        change_frame(folder, frame, cy=HEIGHT / 2)
    assert load_capture(folder, principal_point=other).train[0].camera.cy == HEIGHT / 2


def test_intrinsics_at_the_top_level(tmp_path: Path) -> None:
    inner, outer = write_tiny_capture(tmp_path / "a"), write_tiny_capture(tmp_path / "b", shared_intrinsics=True)
    for a, b in zip(load_capture(inner).train, load_capture(outer).train, strict=True):
        assert (a.camera.fx, a.camera.fy, a.camera.cx, a.camera.cy) == (b.camera.fx, b.camera.fy, b.camera.cx, b.camera.cy)


def test_field_of_view_without_size_or_focal_length(folder: Path) -> None:
    angle = 2 * math.atan(0.5 * WIDTH / 77.0)
    change_frame(folder, fl_x=None, fl_y=None, cx=None, cy=None, w=None, h=None, camera_angle_x=angle)
    camera = load_capture(folder).train[0].camera
    assert camera.fx == camera.fy == pytest.approx(77.0)
    assert (camera.cx, camera.cy, camera.width, camera.height) == (WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)


def test_pixels_that_are_not_square(folder: Path) -> None:
    change_frame(folder, fl_x=50.0, fl_y=60.0, camera_angle_x=1.0)
    camera = load_capture(folder).train[0].camera
    assert (camera.fx, camera.fy) == (50.0, 60.0)


@pytest.mark.parametrize(
    ("resolution", "size"), [(-1, (24, 32)), (1, (24, 32)), (2, (12, 16)), (4, (6, 8)), (8, (3, 4)), (18, (18, 24))]
)
def test_resolution(folder: Path, resolution: int, size: tuple[int, int]) -> None:
    camera = load_capture(folder, resolution=resolution).train[0].camera
    assert (camera.width, camera.height) == size
    assert camera.cx == pytest.approx(CX * size[0] / WIDTH) and camera.cy == pytest.approx(CY_FROM_TOP * size[1] / HEIGHT)


def test_wide_images_are_capped_and_nonsense_refused(folder: Path) -> None:
    for frame in range(4):
        change_frame(folder, frame, w=3000, h=4001, cx=None, cy=None)
    camera = load_capture(folder).train[0].camera
    assert (camera.width, camera.height) == (1600, 2134)
    assert "resolution: got 0" in refusal(folder, resolution=0)


def test_without_evaluation_all_views_are_trained_on(folder: Path) -> None:
    capture = load_capture(folder, evaluation=False)
    assert len(capture.train) == 9 and capture.val == capture.test == []


def test_one_camera_of_several_can_be_trained_on(folder: Path) -> None:
    for name in ("2", "cam2"):
        capture = load_capture(folder, camera=name)
        assert [view.name for view in capture.train] == ["00003_02", "00004_02"]
        assert len(capture.val) == 2 and len(capture.test) == 3, "what is held out stays"
    assert "camera 7; there are cam1, cam2" in refusal(folder, camera="7")


def test_missing_and_empty_splits(folder: Path) -> None:
    (folder / "transforms_val.json").unlink()
    write_split(folder, "test", {"frames": []})
    capture = load_capture(folder)
    assert len(capture.train) == 4 and capture.val == capture.test == []
    write_split(folder, "train", {"frames": []})
    assert "training split is empty" in refusal(folder)


def test_paths_that_leave_the_folder(folder: Path, tmp_path: Path) -> None:
    union = tmp_path / "UNION"
    union.mkdir()
    shutil.copy(folder / "canonical_flame_param.npz", union)
    content = read_split(folder, "train")
    for frame in content["frames"]:
        frame["file_path"] = "../capture/" + frame["file_path"]
        frame["flame_param_path"] = "../capture/" + frame["flame_param_path"]
    write_split(union, "train", content)
    assert [view.image.read_bytes() for view in load_capture(union).train] == [
        view.image.read_bytes() for view in load_capture(folder).train
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(union, elsewhere / "UNION")
    (tmp_path / "link").symlink_to(elsewhere / "UNION")  # ".." is meant from the link
    assert len(load_capture(tmp_path / "link").train) == 4


def test_united_sequences_have_unique_names_and_one_flame_file_per_timestep(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_capture(tmp_path / "other")
    content = read_split(folder, "train")
    for frame in read_split(other, "train")["frames"]:
        for key in ("file_path", "flame_param_path"):
            frame[key] = "../other/" + frame[key]
        content["frames"].append(frame)
    write_split(folder, "train", content)
    assert "timestep_index 3 has two FLAME files" in refusal(folder)
    for frame in content["frames"][4:]:
        frame["timestep_index_original"] = frame["timestep_index"]
        frame["timestep_index"] += 100
    write_split(folder, "train", content)
    capture = load_capture(folder)
    names = [view.name for view in [*capture.train, *capture.val, *capture.test]]
    assert "00003_01" in names and "00103_01" in names and len(set(names)) == len(names)


def test_masks_only_where_asked_for(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    assert load_capture(folder).train[0].mask is None
    mask = load_capture(folder, use_mask=True).train[0].mask
    assert mask == folder / "fg_masks/00003_01.png"
    change_frame(folder, 2, fg_mask_path=None)
    assert "no fg_mask_path" in refusal(folder, use_mask=True)


def test_extent_has_a_floor(folder: Path, tmp_path: Path) -> None:
    # Training cameras 1 and 2 lie 30 degrees apart on a circle of a metre: half their distance is sin(15 degrees).
    assert load_capture(folder).extent == pytest.approx(0.5)
    assert load_capture(folder, evaluation=False).extent == pytest.approx(1.1 * 0.517, abs=0.02)
    assert load_capture(write_tiny_capture(tmp_path / "mono", cameras=2, timesteps=(0, 1, 2))).extent == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"file_path": "images/none.png"}, ["frame 1", "images/none.png", "missing"]),
        ({"flame_param_path": "flame_param/00077.npz"}, ["frame 1", "00077.npz", "missing"]),
        ({"flame_param_path": None}, ["no flame_param_path"]),
        ({"timestep_index": None}, ["no timestep_index"]),
        ({"timestep_index": 1.5}, ["timestep_index", "whole number"]),
        ({"timestep_index": "3"}, ["timestep_index", "finite number"]),
        ({"transform_matrix": None}, ["transform_matrix", "4 rows of 4"]),
        ({"transform_matrix": [[1, 0, 0, 0]] * 2}, ["transform_matrix", "4 rows of 4"]),
        ({"transform_matrix": [[1, 0, 0, "x"]] * 4}, ["transform_matrix", "4 rows of 4"]),
        ({"transform_matrix": [[math.nan] * 4] * 4}, ["transform_matrix", "NaN"]),
        ({"transform_matrix": [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]}, ["not a rotation"]),
        ({"transform_matrix": [[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, ["not a rotation"]),
        ({"fl_x": 0.0}, ["focal lengths must be positive", "fl_x=0"]),
        ({"fl_y": -3.0}, ["focal lengths must be positive", "fl_y=-3"]),
        ({"fl_x": math.inf}, ["fl_x", "finite number"]),
        ({"fl_x": 10**400}, ["fl_x", "finite number"]),
        ({"fl_x": None}, ["no intrinsics"]),
        ({"fl_x": None, "camera_angle_x": 4.0}, ["camera_angle_x", "between 0 and pi"]),
        ({"w": 0}, ["image size must be positive"]),
        ({"cx": None, "w": True}, ["w must be a finite number"]),
    ],
)
def test_a_broken_frame_is_one_line(folder: Path, values: dict[str, object], words: list[str]) -> None:
    change_frame(folder, 1, **values)
    message = refusal(folder)
    assert "transforms_train.json: frame 1" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"frames": [\n{"a": 1,,}]}', ["line 2, column 9", "not valid JSON"]),
        ("", ["line 1, column 1"]),
        ("[1]", ["want an object", "list"]),
        ('{"frames": 3}', ['"frames" must be a list']),
        ('{"frames": [[]]}', ["frame 0", "must be an object"]),
    ],
)
def test_broken_json_is_one_line(folder: Path, text: str, words: list[str]) -> None:
    (folder / "transforms_test.json").write_text(text)
    message = refusal(folder)
    for word in ["transforms_test.json", *words]:
        assert word in message


def test_json_that_is_not_text(folder: Path) -> None:
    (folder / "transforms_val.json").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refusal(folder)


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


def test_flame_parameters_of_all_splits(folder: Path, head: FlameModel) -> None:
    flame = load_capture(folder, head=head).flame
    assert flame is not None and flame.timesteps == [3, 4, 9]
    assert flame.shape.shape == (head.n_shape,) and flame.expr.shape == (3, head.n_expr)
    written = flame_parameters(9)
    torch.testing.assert_close(flame.expr[flame.row(9), :10], torch.from_numpy(written["expr"][0]))
    torch.testing.assert_close(flame.jaw_pose[flame.row(9)], torch.from_numpy(written["jaw_pose"][0]))
    assert load_capture(folder).flame is None


def test_extent_of_one_camera_is_set_by_the_head(tmp_path: Path, head: FlameModel) -> None:
    folder = write_tiny_capture(tmp_path, cameras=2)
    capture = load_capture(folder, head=head)
    assert capture.flame is not None
    canonical = capture.flame.mesh(head, 0).canonical
    radius = (canonical - canonical.mean(0)).norm(dim=1).square().mean().sqrt().item()
    assert capture.extent == pytest.approx(5 * radius, rel=1e-5) and 0.3 < capture.extent < 0.8


def test_flame_parameters_that_do_not_fit_the_head(tmp_path: Path, head: FlameModel) -> None:
    message = refusal(write_tiny_capture(tmp_path / "a", n_expr=100), head=head)
    assert "00003.npz" in message and "100" in message and str(head.n_expr) in message
    message = refusal(write_tiny_capture(tmp_path / "b", vertices=head.num_vertices + 1), head=head)
    assert str(head.num_vertices + 1) in message and str(head.num_vertices) in message


@pytest.mark.parametrize(
    ("key", "value"), [("jaw_pose", np.zeros((1, 4))), ("rotation", np.full((1, 3), np.nan)), ("expr", None)]
)
def test_broken_flame_parameters_are_one_line(folder: Path, head: FlameModel, key: str, value: np.ndarray | None) -> None:
    parameters = {**flame_parameters(4), key: value}
    np.savez(folder / "flame_param/00004.npz", **{name: array for name, array in parameters.items() if array is not None})
    message = refusal(folder, head=head)
    assert "00004.npz" in message and key in message


def test_problems_can_be_collected(folder: Path) -> None:
    change_frame(folder, 0, fl_x=-1.0)
    change_frame(folder, 3, file_path="images/gone.png")
    (folder / "transforms_test.json").write_text("{")
    problems: list[UserError] = []
    capture = load_capture(folder, on_problem=problems.append)
    assert len(problems) == 3
    assert len(capture.train) == 2 and len(capture.val) == 2 and capture.test == []


def test_what_is_no_capture(tmp_path: Path, folder: Path) -> None:
    message = refusal(tmp_path)
    assert all(name in message for name in ("sparse/", "canonical_flame_param.npz", "transforms_train.json"))
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "principal point" in refusal(folder, principal_point="middle")
    (folder / "canonical_flame_param.npz").unlink()
    message = refusal(folder)
    assert "head capture" in message and "canonical_flame_param.npz is missing" in message
