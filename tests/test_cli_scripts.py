"""Command lines that were written for the reference, with `python train.py` replaced by `taichi-avatars train`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene.test_colmap import CAMERAS, images, write_text
from scene.tiny_capture import camera_at, write_tiny_capture
from scene.union_capture import CX, CY_FROM_BOTTOM, FL_X, FL_Y, TIMESTEPS, write_union

from taichi_avatars.avatar.model_folder import load_model, load_source
from taichi_avatars.cli import run
from taichi_avatars.cli.scripts import NO_MEANING, spread, without_meaningless
from taichi_avatars.config import TrainConfig
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL

OPTIMISATION = {
    "position_lr_init": 0.004,
    "position_lr_final": 0.00004,
    "feature_lr": 0.002,
    "opacity_lr": 0.04,
    "scaling_lr": 0.016,
    "position_lr_max_steps": 400000,
    "rotation_lr": 0.002,
    "percent_dense": 0.02,
    "lambda_dssim": 0.1,
    "densification_interval": 1000,
    "opacity_reset_interval": 30000,
    "densify_from_iter": 5000,
    "densify_until_iter": 300000,
    "densify_grad_threshold": 0.0003,
    "flame_expr_lr": 0.002,
    "flame_trans_lr": 3e-6,
    "flame_pose_lr": 3e-5,
    "lambda_xyz": 0.02,
    "threshold_xyz": 0.9,
    "lambda_scale": 0.9,
    "threshold_scale": 0.5,
    "lambda_dynamic_offset": 0.1,
    "lambda_laplacian": 0.2,
    "lambda_dynamic_offset_std": 0.3,
}


@pytest.fixture(scope="module")
def union(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_union(tmp_path_factory.mktemp("union"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps on a capture with all splits."""
    folder = tmp_path_factory.mktemp("model")
    source = write_tiny_capture(folder / "data")
    words = ["train", "-s", str(source), "-m", str(folder / "m"), "--head", "builtin", "--iterations", "2", "-q", "-w"]
    assert run(words) == 0
    return folder / "m"


def test_a_training_script_with_every_option(
    union: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], script: list[str]
) -> None:
    out = tmp_path / "out"
    line = ["train", "-s", str(union), "-m", str(out), "-r", "2", "-w", "-i", "images", "--eval", "--bind_to_mesh", *script]
    assert run([*line, "--head", "builtin", "--use-mask", "--quiet"]) == 0
    notes = [text for text in capsys.readouterr().err.splitlines() if text.startswith("note: ")]
    assert [text.split()[1] for text in notes] == [
        "--data-device", "--port", "--ip", "--debug-from", "--detect-anomaly", "--convert-SHs-python", "--compute-cov3D-python",
        "--position-lr-delay-mult",
    ]  # fmt: skip
    held = TrainConfig.from_toml(out / "config.toml")
    for name, value in OPTIMISATION.items():
        assert getattr(held, name) == value, name
    assert held.metric_xyz and held.metric_scale and held.white_background and held.sh_degree == 1
    assert (held.resolution, held.select_camera_id, held.iterations, held.interval) == (2, 1, 5, 3)
    assert (held.test_iterations, held.save_iterations, held.checkpoint_iterations) == ([2, 4], [3, 4], [2])
    assert sorted(path.name for path in (out / "point_cloud").iterdir()) == [f"iteration_{n}" for n in (3, 4, 5)]
    assert (out / "chkpnt2.pth").is_file()
    again = ["--start_checkpoint", str(out / "chkpnt2.pth"), "--head", "builtin", "--use-mask", "--quiet"]
    assert run([*line, *again]) == 0, "the folder's own checkpoint goes on in it"


@pytest.fixture
def script() -> list[str]:
    words = [word for name, value in OPTIMISATION.items() for word in (f"--{name}", str(value))]
    words += ["--metric_xyz", "--metric_scale", "--sh_degree", "1", "--select_camera_id", "1", "--iterations", "5"]
    words += ["--interval", "3", "--test_iterations", "2", "4", "--save_iterations", "3", "4", "--checkpoint_iterations", "2"]
    words += ["--data_device", "cuda", "--port", "60000", "--ip=127.0.0.1", "--debug_from", "-1", "--detect_anomaly"]
    return [*words, "--convert_SHs_python", "--compute_cov3D_python", "--position_lr_delay_mult", "0.01"]


def test_a_united_capture_is_trained_and_rendered(union: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["train", "-s", str(union), "-m", str(out), "--eval", "--bind_to_mesh", "-r", "2", "--iterations", "2", "-q"]
    assert run([*line, "--head", "builtin", "--use-mask", "--disable_flame_static_offset"]) == 0
    trained = load_model(out)
    assert trained.avatar.sequence is not None and trained.avatar.sequence.timesteps == list(TIMESTEPS)
    assert trained.avatar.sequence.static_offset is None
    capture = load_source(trained)
    camera = capture.train[0].camera
    assert (camera.width, camera.height) == (12, 16)
    assert (camera.fx, camera.fy, camera.cx) == (FL_X / 2, FL_Y / 2, CX / 2)
    assert camera.cy == (32 - CY_FROM_BOTTOM) / 2
    assert run(["render", "-m", str(out), "--skip_val", "--skip_test", "--select_camera_id", "2", "-q"]) == 0
    folder = out / "train_2/ours_2"
    assert [p.name for p in sorted((folder / "renders").iterdir())] == [f"{n:05d}.png" for n in range(len(TIMESTEPS))]
    with Image.open(folder / "gt/00000.png") as image:
        truth = np.asarray(image)
    assert truth.shape == (16, 12, 3) and not truth[0, 0].any(), "outside the mask there is background"


def test_rendering_takes_the_rest_from_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["render", "-m", str(model), "-q", "--skip_train", "--skip_val", "--iteration", "2", "--render_mesh"]
    words += ["--eval", "--sh_degree", "3", "--data_device", "cuda", "--bind_to_mesh"]
    assert run(words) == 0
    assert capsys.readouterr().err.count("note: ") == 4
    folder = model / "test/ours_2"
    assert {p.name for p in folder.iterdir()} == {
        "renders", "gt", "renders_mesh", "renders.mp4", "gt.mp4", "renders_mesh.mp4",
    }  # fmt: skip
    with Image.open(folder / "renders/00000.png") as image:
        assert image.size == (24, 32) and min(image.getpixel((0, 0))) > 200
    assert run([*words, "-r", "12", "--black-background"]) == 0, "what is given wins"
    with Image.open(folder / "renders/00000.png") as image:
        assert image.size == (12, 16) and max(image.getpixel((0, 0))) < 60
    assert run(["render", "-m", str(model), "-q", "--skip_train", "--skip_test", "--select_camera_id", "-1"]) == 0
    assert (model / "val/ours_2/renders").is_dir(), "-1 are all cameras"
    assert run(["render", "-m", str(model), "-q", "--select_camera_id", "77"]) == 1


def test_a_target_seen_by_one_camera(model: Path, tmp_path: Path) -> None:
    target = write_tiny_capture(tmp_path / "FRIEND_EMO-1", timesteps=(5, 6))
    words = ["render", "-t", str(target), "-m", str(model), "--select_camera_id", "2", "-r", "2", "-q"]
    assert run(words) == 0
    folder = model / "FRIEND_EMO-1_2/ours_2"
    assert [path.name for path in sorted((folder / "renders").iterdir())] == ["00000.png", "00001.png"]
    with Image.open(folder / "renders/00000.png") as image:
        assert image.size == (12, 16)


def test_metrics_of_several_models(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(model, other)
    assert run(["eval", "-m", str(model), str(other), "--lpips", "none", "--json", "-q"]) == 0
    values = json.loads(capsys.readouterr().out)["models"]
    assert [entry["model"] for entry in values] == [str(model), str(other)]
    assert values[0]["test"]["psnr"] == values[1]["test"]["psnr"]
    results = json.loads((other / "results.json").read_text())
    assert results == json.loads((other / "test/results.json").read_text()), "where the reference puts those of test"
    assert results["ours_2"]["PSNR"] == values[1]["test"]["psnr"]
    per_view = json.loads((other / "per_view.json").read_text())["ours_2"]
    assert run(["render", "-m", str(other), "--split", "test", "-q"]) == 0
    assert list(per_view["PSNR"]) == sorted(path.name for path in (other / "test/ours_2/renders").iterdir())


def test_a_model_of_the_reference_is_rendered_and_measured(model: Path, tmp_path: Path) -> None:
    """Its folder holds `cfg_args` and no configuration of ours."""
    trained = load_model(model)
    theirs = tmp_path / "theirs"
    shutil.copytree(model / "point_cloud", theirs / "point_cloud")
    (theirs / "point_cloud/iteration_2/head.json").unlink()
    (theirs / "cfg_args").write_text(
        f"Namespace(bind_to_mesh=True, data_device='cuda', disable_flame_static_offset=False, eval=True, images='images', "
        f"model_path='elsewhere', not_finetune_flame_params=False, resolution=2, select_camera_id=-1, sh_degree=3, "
        f"source_path={str(trained.source)!r}, target_path='', white_background=True)"
    )
    assert run(["render", "-m", str(theirs), "--skip_train", "--skip_val", "--head", "builtin", "-q"]) == 0
    with Image.open(theirs / "test/ours_2/renders/00000.png") as image:
        assert image.size == (12, 16) and min(image.getpixel((0, 0))) > 200
    assert run(["eval", "-m", str(theirs), "--head", "builtin", "--lpips", "none", "-q"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--lambda_dsim", "1"], "did you mean --lambda-dssim"),
        (["train", "--test_iteration", "1"], "did you mean --test-iterations"),
        (["train", "--datadevice", "cuda"], "no such option"),
        (["render", "--skip_tets"], "did you mean --skip-test"),
        (["render", "--port", "1"], "no such option"),
        (["eval", "--model_pth", "x"], "did you mean --model"),
        (["train", "-s", "a", "b", "-m", "c"], "extra argument"),
    ],
)
def test_unknown_options_name_the_nearest(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and message in err.lower()


def test_values_are_spread() -> None:
    several = {"--test-iterations", "-m"}
    assert spread(["--test_iterations", "7", "-1", "30", "-w"], several) == (
        ["--test_iterations", "7", "--test_iterations", "-1", "--test_iterations", "30", "-w"]
    )
    assert spread(["-m", "A", "B", "-q"], several) == ["-m", "A", "-m", "B", "-q"]
    assert spread(["-s", "A", "B"], several) == ["-s", "A", "B"]
    assert spread(["-m", "A", "--test-iterations=3", "-r", "-1"], several) == ["-m", "A", "--test-iterations=3", "-r", "-1"]
    assert spread([], several) == []


def test_options_without_meaning_go_with_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["-s", "a", "--port", "6009", "--debug_from=-1", "--detect_anomaly", "-w", "--ip"]
    assert without_meaningless(line, NO_MEANING["train"]) == ["-s", "a", "-w"]
    assert capsys.readouterr().err.count("\n") == 4


def test_cameras_are_read_back(model: Path) -> None:
    """cameras.json: every camera once, camera-to-world in OpenCV axes."""
    capture = load_source(load_model(model))
    by_name = {view.name: view.camera for view in [*capture.train, *capture.val, *capture.test]}
    entries = json.loads((model / "cameras.json").read_text())
    assert [entry["id"] for entry in entries] == [0, 1, 2]
    for entry in entries:
        assert list(entry) == ["id", "img_name", "width", "height", "position", "rotation", "fx", "fy"]
        camera = by_name[entry["img_name"]]
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = torch.tensor(entry["rotation"]), torch.tensor(entry["position"])
        torch.testing.assert_close(torch.linalg.inv(pose).float(), camera.world_to_camera, atol=1e-6, rtol=0)
        assert (entry["width"], entry["height"]) == (camera.width, camera.height)
        assert (entry["fx"], entry["fy"]) == (camera.fx, camera.fy)


def test_arguments_are_written_as_the_reference_writes_them(model: Path, tmp_path: Path) -> None:
    text = (model / "cfg_args").read_text()
    assert text.startswith("Namespace(") and "white_background=True" in text and "bind_to_mesh=True" in text
    copy = tmp_path / "copy"
    shutil.copytree(model / "point_cloud", copy / "point_cloud")
    (copy / "cfg_args").write_text(text)
    ours, read = load_model(model), load_model(copy)
    assert read.source == ours.source
    assert read.config == TrainConfig(white_background=True)


@pytest.mark.parametrize(
    "text",
    [
        "Namespace(source_path=__import__('os').getcwd())",
        "Namespace(source_path=open('x'))",
        "dict(source_path='x')",
        "(lambda: 0)()",
        "Namespace('x')",
        "",
    ],
)
def test_arguments_are_never_evaluated(text: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(model / "point_cloud", tmp_path / "point_cloud")
    (tmp_path / "cfg_args").write_text(text)
    assert run(["eval", "-m", str(tmp_path), "-q"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "cfg_args: cannot be read" in err


def test_static_scenes_are_trained_by_the_same_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unbound: COLMAP with a smaller copy of its images, and Blender with random points."""
    monkeypatch.setattr("taichi_avatars.scene.blender.POINTS", 1000)
    colmap, blender = tmp_path / "colmap", tmp_path / "blender"
    (colmap / "sparse/0").mkdir(parents=True)
    write_text(colmap / "sparse/0", CAMERAS)
    for *_, name in images():
        (colmap / "images_2" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 16), (90, 120, 30)).save(colmap / "images_2" / name)
    blender.mkdir()
    frames = []
    for number in range(2):
        Image.new("RGBA", (20, 16), (90, 120, 30, 200)).save(blender / f"r_{number}.png")
        pose = torch.linalg.inv(camera_at(number).world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()
        frames.append({"file_path": f"./r_{number}", "transform_matrix": pose.tolist()})
    for split in ("train", "test"):
        (blender / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.6, "frames": frames}))
    for source, options, size in ((colmap, ["-i", "images_2"], (12, 16)), (blender, ["-r", "10", "-w"], (10, 8))):
        out = tmp_path / f"{source.name}_model"
        line = ["train", "-s", str(source), "-m", str(out), "--eval", "--sh_degree", "1", "--iterations", "2", "-q", *options]
        assert run(line) == 0
        assert run(["render", "-m", str(out), "--skip_train", "-q"]) == 0
        with Image.open(out / "test/ours_2/renders/00000.png") as image:
            assert image.size == size
        assert not (out / "test/ours_2/renders_mesh").exists()
        assert run(["eval", "-m", str(out), "--lpips", "none", "-q"]) == 0
        assert "bind_to_mesh=False" in (out / "cfg_args").read_text()
