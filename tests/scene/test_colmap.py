import struct
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from PIL import Image
from scene.tiny_capture import camera_at

from taichi_avatars.errors import UserError
from taichi_avatars.scene.capture import load_capture

CAMERAS = [(1, "PINHOLE", 24, 32, (90.0, 91.0, 11.0, 15.5)), (7, "SIMPLE_PINHOLE", 24, 32, (80.0, 12.0, 16.0))]
MODEL_NUMBERS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "OPENCV": 4, "FOV": 7, "THIN_PRISM_FISHEYE": 10}
POINTS = [(5, (0.1, 0.2, 0.3), (255, 0, 51)), (9, (-0.1, 0.0, 0.5), (0, 102, 0))]


def images() -> list[tuple[int, np.ndarray, np.ndarray, int, str]]:
    """Nine images, not in the order of their names: id, quaternion w,x,y,z (not normalised), translation, camera, name."""
    result = []
    for number in reversed(range(9)):
        pose = camera_at(number % 3).world_to_camera
        x, y, z, w = roma.rotmat_to_unitquat(pose[:3, :3].double()).tolist()
        quaternion = 2.0 * np.array([w, x, y, z])
        result.append(
            (number + 1, quaternion, pose[:3, 3].double().numpy(), (1, 7)[number % 2], f"cam{number % 3}/{number:04d}.png")
        )
    return result


def write_binary(model: Path, cameras: list) -> None:
    data = struct.pack("<Q", len(cameras))
    for number, name, width, height, values in cameras:
        data += struct.pack(f"<iiQQ{len(values)}d", number, MODEL_NUMBERS[name], width, height, *values)
    (model / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", 9)
    for number, quaternion, translation, camera, name in images():
        data += struct.pack("<i7di", number, *quaternion, *translation, camera) + name.encode() + b"\0"
        data += struct.pack("<Q", number % 3) + struct.pack("<ddq", 1.0, 2.0, 5) * (number % 3)
    (model / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(POINTS))
    for number, position, colour in POINTS:
        data += struct.pack("<Q3d3BdQ", number, *position, *colour, 0.5, 2) + struct.pack("<ii", 1, 0) * 2
    (model / "points3D.bin").write_bytes(data)


def write_text(model: Path, cameras: list) -> None:
    lines = ["# Camera list", *(f"{n} {m} {w} {h} {' '.join(map(repr, v))}" for n, m, w, h, v in cameras)]
    (model / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list with two lines of data per image:"]
    for number, quaternion, translation, camera, name in images():
        numbers = " ".join(repr(float(value)) for value in [*quaternion, *translation])
        lines += [f"{number} {numbers} {camera} {name}", "1.0 2.0 5" if number % 3 else ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    lines = ["# 3D point list", *(f"{n} {' '.join(map(str, p + c))} 0.5 1 0 2 0" for n, p, c in POINTS)]
    (model / "points3D.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(params=["bin", "txt"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model = tmp_path / "sparse/0"
    model.mkdir(parents=True)
    (write_binary if request.param == "bin" else write_text)(model, CAMERAS)
    for *_, name in images():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 32)).save(tmp_path / "images" / name)
    return tmp_path


def test_every_eighth_image_by_name_is_test(folder: Path) -> None:
    capture = load_capture(folder)
    assert capture.kind == "colmap" and capture.val == []
    # in the order of names: cam0/{0,3,6} cam1/{1,4,7} cam2/{2,5,8}
    assert [view.name for view in capture.test] == ["cam0_0000", "cam2_0008"]
    assert [view.name for view in capture.train] == [f"cam{n % 3}_{n:04d}" for n in (3, 6, 1, 4, 7, 2, 5)]
    assert len(load_capture(folder, evaluation=False).train) == 9


def test_cameras(folder: Path) -> None:
    views = load_capture(folder, evaluation=False).train
    for view in views:
        number = int(view.name[-4:])
        camera = view.camera
        torch.testing.assert_close(camera.world_to_camera, camera_at(number % 3).world_to_camera, atol=1e-6, rtol=0)
        intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
        assert intrinsics == ((90.0, 91.0, 11.0, 15.5), (80.0, 80.0, 12.0, 16.0))[number % 2]
        assert view.camera_id == ("1", "7")[number % 2]


def test_points(folder: Path) -> None:
    points = load_capture(folder).points
    assert points is not None
    torch.testing.assert_close(points[0], torch.tensor([POINTS[0][1], POINTS[1][1]]))
    torch.testing.assert_close(points[1], torch.tensor([[1.0, 0.0, 0.2], [0.0, 0.4, 0.0]]))


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "images/cam1/0004.png").unlink()
    with pytest.raises(UserError, match=r"image cam1/0004.png: the file .* is missing"):
        load_capture(folder)
    next((folder / "sparse/0").glob("points3D.*")).unlink()
    with pytest.raises(UserError, match=r"neither points3D.bin nor points3D.txt"):
        load_capture(folder, on_problem=lambda _: None)


@pytest.mark.parametrize("stem", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_files_cut_off_are_one_line(folder: Path, stem: str, share: float) -> None:
    path = next((folder / "sparse/0").glob(f"{stem}.*"))
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    if path.suffix == ".txt" and share == 0.97:
        return  # text that ends in the middle of a track or name can be whole
    try:
        load_capture(folder)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert path.suffix == ".txt"  # cut between two lines


def write_scene(folder: Path, write, cameras: list) -> Path:
    """A model with its images; returns the folder of the model."""
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    write(model, cameras)
    for *_, name in images():
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 32)).save(folder / "images" / name)
    return model


@pytest.mark.parametrize("write", [write_binary, write_text])
def test_lens_distortion_is_read(tmp_path: Path, write) -> None:
    write_scene(tmp_path, write, [(1, "OPENCV", 24, 32, (90.0, 91.0, 11.0, 15.5, 0.1, 0.2, 0.003, 0.004)), CAMERAS[1]])
    capture = load_capture(tmp_path, evaluation=False)
    lenses = {view.camera_id: view.lens for view in capture.train}
    assert lenses["7"] is None
    lens = lenses["1"]
    assert lens is not None and lens.radial[:2] == (0.1, 0.2) and lens.tangential == (0.003, 0.004) and not lens.fisheye
    assert any("lens distortion is removed from 5 of 9 images" in line for line in capture.remarks())


@pytest.mark.parametrize("write", [write_binary, write_text])
@pytest.mark.parametrize("model", ["FOV", "THIN_PRISM_FISHEYE"])
def test_a_lens_that_is_not_known_is_refused_by_name(tmp_path: Path, write, model: str) -> None:
    write_scene(tmp_path, write, [(1, model, 24, 32, (90.0, 91.0, 11.0, 15.5, 0.1))])
    with pytest.raises(UserError, match=f"camera 1 has the unsupported model {model}; .*image_undistorter"):
        load_capture(tmp_path)


def test_zero_focal_length_and_nan_pose(tmp_path: Path) -> None:
    model = tmp_path / "sparse/0"
    model.mkdir(parents=True)
    write_text(model, [(1, "PINHOLE", 24, 32, (0.0, 91.0, 11.0, 15.5)), CAMERAS[1]])
    (tmp_path / "images/x").mkdir(parents=True)
    for *_, name in images():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 32)).save(tmp_path / "images" / name)
    with pytest.raises(UserError, match=r"camera 1: focal lengths must be positive"):
        load_capture(tmp_path)
    text = (model / "images.txt").read_text().splitlines()
    values = text[1].split()
    text[1] = " ".join([values[0], "nan", *values[2:]])
    (model / "images.txt").write_text("\n".join(text))
    problems: list[UserError] = []
    capture = load_capture(tmp_path, on_problem=problems.append)
    assert any("its pose is NaN" in str(problem) for problem in problems)
    assert len(capture.train) + len(capture.test) == 9 - len(problems) == 4


def test_smaller_copies_of_the_images_are_used_at_their_own_size(folder: Path) -> None:
    for *_, name in images():
        (folder / "images_2" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 16)).save(folder / "images_2" / name)
    whole, half = load_capture(folder), load_capture(folder, images="images_2")
    for a, b in zip(whole.train, half.train, strict=True):
        assert (b.camera.width, b.camera.height) == (a.camera.width // 2, a.camera.height // 2)
        assert (b.camera.fx, b.camera.cy) == pytest.approx((a.camera.fx / 2, a.camera.cy / 2))
        assert b.image.is_relative_to(folder / "images_2")
    Image.new("RGB", (40, 32)).save(half.train[0].image)
    with pytest.raises(UserError, match="aspect ratio"):
        load_capture(folder, images="images_2")
    with pytest.raises(UserError, match="images_8"):
        load_capture(folder, images="images_8")


def one_line_per_image(text: str) -> str:
    return "".join(line + "\n" for line in text.splitlines() if line.endswith(".png") or line.startswith("#"))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(one_line_per_image, id="observations left out"),
        pytest.param(lambda text: text.replace("\n", "\n\n"), id="a blank line after each"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="Windows"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: text.replace("# Image", "  # Größe der Bilder"), id="indented comment"),
        pytest.param(lambda text: text.replace("1.0 2.0 5", "1.0 2.0 -1 3 4.5 7"), id="more observations"),
        pytest.param(lambda text: text.replace("cam1/", "cam1\\"), id="backslashes"),
    ],
)
def test_images_txt_of_other_programs(tmp_path: Path, change) -> None:
    path = write_scene(tmp_path, write_text, CAMERAS) / "images.txt"
    expected = load_capture(tmp_path, evaluation=False).train
    path.write_bytes(change(path.read_text()).encode())
    read = load_capture(tmp_path, evaluation=False).train
    assert [view.name for view in read] == [view.name for view in expected] and len(read) == 9
    assert all(torch.equal(a.camera.world_to_camera, b.camera.world_to_camera) for a, b in zip(read, expected, strict=True))


def test_a_name_with_spaces_is_an_image(tmp_path: Path) -> None:
    """Twelve entries in a line are four observations, too, but those end in whole numbers."""
    path = write_scene(tmp_path, write_text, CAMERAS) / "images.txt"
    path.write_text("1 1 0 0 0 0 0 3.5 1 photo 2 x.png\n2 1 0 0 0 0 0 3 1 b.png\n")
    for name in ("photo 2 x.png", "b.png"):
        Image.new("RGB", (24, 32)).save(tmp_path / "images" / name)
    assert {view.name for view in load_capture(tmp_path, evaluation=False).train} == {"b", "photo 2 x"}
