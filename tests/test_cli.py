import errno
import inspect
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from avatar.small_avatar import small_avatar, small_motion
from head.gnm_layout import gnm_arrays
from PIL import Image
from scene.tiny_capture import write_tiny_capture

from taichi_avatars import demo
from taichi_avatars.cli import run, subject
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.video.selfie import write_selfie

COMMANDS = (
    "demo",
    "synth",
    "create",
    "track",
    "train",
    "refine",
    "render",
    "reenact",
    "eval",
    "view",
    "export",
    "info",
    "bench",
    "profile",
    "convert-flame",
    "convert-head",
)


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_capture(tmp_path_factory.mktemp("cli") / "capture")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, capture: Path) -> Path:
    """Trained for a few steps by the command line itself."""
    folder = tmp_path_factory.mktemp("cli") / "model"
    assert (
        run(["train", "-s", str(capture), "-m", str(folder), "--iterations", "4", "--head", "builtin", "-q", "--json", "-w"])
        == 0
    )
    return folder


def test_importing_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys\nfrom taichi_avatars.cli import run\nassert run(['train', '--help']) == 0\n"
        "heavy = {'torch', 'taichi', 'quadrants', 'numpy', 'PIL', 'av'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_common_options(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "…" not in text, "a name is cut in a terminal of 80 columns"
    for option in ("--device", "--threads", "--seed", "--json", "--quiet", "--debug", "Every command"):
        assert option in text


def test_help_of_train_is_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name in TrainConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    assert "Weight of the distance of Gaussians from their triangle" in text
    assert "Learning rates" in text and "Density control" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--iteratons", "3"], 2, "did you mean --iterations"),
        (["tarin"], 2, "train"),
        (["train", "-s", "x"], 2, "--model"),
        (["synth", "x", "--cameras", "many"], 2, "--cameras"),
        (["synth", "x", "--selfie", "--seconds", "1"], 1, "seconds must be at least 2"),
        (["info", "/nowhere/at/all"], 1, "/nowhere/at/all"),
        (["demo", "--quality", "slow"], 2, "fast or full"),
        (["eval", "-m", "/nowhere"], 1, "/nowhere"),
        (["reenact", "-m", "/nowhere", "--motion", "x.npz"], 1, "/nowhere"),
        (["reenact", "-m", "/nowhere", "--motion", "x.npz", "--size", "big"], 2, "550x802"),
        (["render", "-m", "/nowhere", "--split", "tset"], 2, "tset"),
        (["train", "-s", "/nowhere", "-m", "x", "--iterations", "0"], 2, "iterations"),
        (["info", ".", "--device", "abacus"], 1, "abacus"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and message in err


def test_nothing_at_all_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    out, err = capsys.readouterr()
    assert "demo" in out + err and "convert-flame" in out + err


def test_debug_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="/nowhere"):
        run(["info", "/nowhere", "--debug"])


def test_an_unexpected_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import taichi_avatars.inspection.info as info

    def broken(path: Path) -> None:
        raise ZeroDivisionError("of all\nthings")

    monkeypatch.setattr(info, "describe", broken)
    assert run(["info", "."]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "ZeroDivisionError" in err and "--debug" in err


def test_training_writes_a_model(model: Path) -> None:
    assert (model / "point_cloud/iteration_4/point_cloud.ply").is_file()
    held = TrainConfig.from_toml(model / "config.toml")
    assert held.iterations == 4 and held.white_background


def test_an_earlier_run_is_not_trained_over(
    model: Path, capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stale iteration 4 would pass for the newest of a run of 2."""
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    (folder / "val").mkdir()
    shorter = ["train", "-s", str(capture), "-m", str(folder), "--iterations", "2", "--head", "builtin", "-q", "-w"]
    assert run(shorter) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert all(words in err for words in (str(folder), "iteration 4", "--resume", "--overwrite", "-m"))
    assert (folder / "log.jsonl").read_bytes() == (model / "log.jsonl").read_bytes()
    assert run([*shorter, "--overwrite", "--resume"]) == 2
    assert run([*shorter[:2], "/nowhere", *shorter[3:], "--overwrite"]) == 1  # a mistake costs nothing
    assert (folder / "point_cloud/iteration_4/point_cloud.ply").is_file()
    assert run([*shorter, "--overwrite"]) == 0
    assert [path.name for path in (folder / "point_cloud").iterdir()] == ["iteration_2"]
    assert (folder / "val").is_dir()
    shutil.rmtree(folder / "point_cloud")
    capsys.readouterr()
    assert run(shorter) == 1 and "checkpoint.pt" in capsys.readouterr().err


def test_resuming_a_finished_run_says_so(
    model: Path, capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "[m]"
    shutil.copytree(model, folder)
    again = ["train", "-s", str(capture), "-m", str(folder), "--iterations", "4", "--head", "builtin", "-q", "-w", "--resume"]
    ply = folder / "point_cloud/iteration_4/point_cloud.ply"
    assert run(again) == 0
    assert capsys.readouterr().out == f"already finished at 4 steps; a larger --iterations continues it\navatar: {ply}\n"
    values = printed(capsys, again)
    assert (values["avatar"], values["iteration"]) == (str(ply), 4) and values["gaussians"] > 1000
    shutil.rmtree(folder / "point_cloud")
    assert run(again) == 0 and ply.is_file()  # a run that was killed before it could write it


def test_underscores_file_and_command_line(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defaults give way to the file, the file to the command line, whichever way an option is spelled."""
    from taichi_avatars.training import trainer

    seen: list[TrainConfig] = []
    monkeypatch.setattr(trainer, "train", lambda config, *_, **__: seen.append(config))
    (tmp_path / "run.toml").write_text("iterations = 50\nsh_degree = 1\nseed = 9\nwhite_background = true\n")
    common = [
        "train",
        "-s",
        str(capture),
        "-m",
        str(tmp_path / "m"),
        "--head",
        "builtin",
        "--config",
        str(tmp_path / "run.toml"),
    ]
    assert run([*common, "--sh_degree", "2", "--lambda-xyz", "0.5", "--metric_xyz", "--principal_point", "top"]) == 0
    config = seen[0]
    assert (config.iterations, config.sh_degree, config.seed, config.white_background) == (50, 2, 9, True)
    assert (config.lambda_xyz, config.metric_xyz, config.principal_point, config.interval) == (0.5, True, "top", 2000)
    assert run([*common, "--seed", "3"]) == 0 and seen[1].seed == 3
    (tmp_path / "run.toml").write_text("iteratons = 50\n")
    capsys.readouterr()
    assert run(common) == 1
    err = capsys.readouterr().err
    assert "iteratons" in err and "run.toml" in err and err.count("\n") == 1


def test_an_interrupted_training_says_how_to_go_on(
    capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from taichi_avatars.training import trainer
    from taichi_avatars.training.events import Saved

    def interrupted(config, capture, head, model, on_event, **_):
        on_event(Saved(17, model / "point_cloud.ply"))
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", interrupted)
    assert run(["train", "-s", str(capture), "-m", str(tmp_path / "m"), "--head", "builtin"]) == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "interrupted: saved iteration 17; continue with the same command and --resume"


def printed(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> dict:
    """What a command prints on stdout, which must be one JSON object."""
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_eval(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = printed(capsys, ["eval", "-m", str(model), "--protocol", "paper"])
    assert values["iteration"] == 4
    for split in ("val", "test"):
        assert values[split]["psnr_paper"] >= values[split]["psnr"] > 0 and -1 <= values[split]["ssim"] <= 1
        results, per_view = (json.loads(Path(file).read_text()) for file in values[split]["files"])
        assert results["ours_4"]["PSNR"] == values[split]["psnr"]
        assert len(per_view["ours_4"]["PSNR"]) == {"val": 2, "test": 3}[split]


def test_render(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = printed(capsys, ["render", "-m", str(model), "--skip_train", "--camera-id", "1"])
    assert list(values["splits"]) == ["test"]  # camera 1 takes no part in val
    folder = model / "test_1/ours_4"
    assert values["splits"]["test"]["folder"] == str(folder)
    assert [path.name for path in sorted((folder / "renders").iterdir())] == ["00000.png"]
    assert all(Path(video).is_file() for video in values["splits"]["test"]["videos"])


def test_render_a_target(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_tiny_capture(tmp_path / "friend")
    values = printed(capsys, ["render", "-m", str(model), "-t", str(target)])
    assert values["splits"]["friend"] | {"videos": []} == {
        "folder": str(model / "friend/ours_4"), "views": 9, "videos": [],
    }  # fmt: skip


def test_reenact(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_motion(n_expr=10, frames=3).save_npz(tmp_path / "move.npz")
    common = ["reenact", "-m", str(model), "--motion"]
    assert run([*common, str(tmp_path / "move.npz"), "--orbit", "--size", "48x64", "--json"]) == 0
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert len([line for line in err.splitlines() if "10 expression coefficients" in line]) == 1
    assert values == {"video": str(model / "reenactment_move.mp4"), "frames": 3, "fps": 25.0, "panels": ["avatar"]}
    assert Path(values["video"]).is_file()
    target = write_tiny_capture(tmp_path / "friend")
    out = tmp_path / "b.mp4"
    values = printed(capsys, [*common, str(target), "--camera-id", "2", "--black", "--fps", "10", "-o", str(out)])
    assert values == {"video": str(out), "frames": 3, "fps": 10.0, "panels": ["driver", "avatar"]}
    assert run([*common, str(tmp_path / "move.npz"), "--camera-id", "99"]) == 1
    assert "cam0, cam1, cam2" in capsys.readouterr().err
    assert run([*common, str(tmp_path / "move.npz"), "-o", str(tmp_path / "a.avi")]) == 1


def test_info_and_its_exit_code(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, ["info", str(model)])["whole"] is True
    folder = write_tiny_capture(tmp_path / "capture")
    next((folder / "images").iterdir()).unlink()
    assert printed(capsys, ["info", str(folder)], code=1)["whole"] is False


def test_what_synth_suggests_fits_its_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a subject"
    small = ["synth", str(out), "--timesteps", "1", "--test-timesteps", "0", "--cameras", "2", "--supersample", "1"]
    small += ["--width", "24", "--height", "32", "-q"]
    for options, white in (([], True), (["--rgba"], False)):
        assert run([*small, *options]) == 0
        suggested = shlex.split(capsys.readouterr().out.split("train on it with: ")[1])
        assert suggested[:4] == ["taichi-avatars", "train", "-s", str(out)]
        assert ("-w" in suggested) == white


def test_synth_has_the_defaults_of_write_capture() -> None:
    def defaults(function) -> dict[str, object]:
        return {name: p.default for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty}

    own, library = defaults(subject.synth), defaults(write_capture)
    same = own.keys() & library.keys()
    assert {"supersample", "cameras", "timesteps"} <= same
    sizes = {"width", "height"}  # a selfie has others, so the command decides
    assert {name: own[name] for name in same - sizes} == {name: library[name] for name in same - sizes}
    video = defaults(write_selfie)
    assert {"supersample", "seconds", "fps", "force"} <= own.keys() & video.keys()
    assert all(own[name] == video[name] for name in (own.keys() & video.keys()) - sizes)


@pytest.mark.parametrize("command", ["render", "synth"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    command: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "m", ignore=shutil.ignore_patterns("val", "test"))
    saved: list[None] = []

    def save(*_: object, **__: object) -> None:
        saved.append(None)
        if len(saved) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    size = ["--width", "24", "--height", "32", "--supersample", "1"]
    arguments = {
        "render": ["render", "-m", str(tmp_path / "m"), "--split", "val", "-q"],
        "synth": ["synth", str(tmp_path / "c"), "--timesteps", "1", "--test-timesteps", "0", "--cameras", "2", "-q", *size],
    }
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert run(arguments[command]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(tmp_path) in err and "No space left" in err
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before and not (tmp_path / "c").exists()


def test_a_model_folder_that_is_a_file(capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").write_text("something")
    assert run(["train", "-s", str(capture), "-m", str(tmp_path / "m"), "--head", "builtin"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'm'}: is a file; give a folder with -m\n"


def test_convert_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "gnm_head.npz", **gnm_arrays())  # pyright: ignore[reportArgumentType]
    values = printed(capsys, ["convert-head", str(tmp_path / "gnm_head.npz")])
    assert values == {"file": str(tmp_path / "gnm_head-converted.npz")}
    assert {"v_template", "J_template", "joint_names"} <= set(np.load(values["file"]).files)


def test_convert_flame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from taichi_avatars.head.flame import BUILTIN

    values = printed(capsys, ["convert-flame", str(BUILTIN), "-o", str(tmp_path / "head.npz")])
    assert values == {"file": str(tmp_path / "head.npz")} and (tmp_path / "head.npz").is_file()


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    values = printed(
        capsys,
        ["bench", "--gaussians", "300", "--size", "48x64", "--repeats", "1", "--frames", "2", "--rounds", "2"],
    )
    assert set(values) == {"machine", "protocol", "kernels"}  # what is measured where nothing is named
    (protocol,), (kernels,) = values["protocol"], values["kernels"]
    assert protocol["gaussians"] == kernels["gaussians"] == 300 and len(protocol["rounds"]) == 2
    assert set(kernels["forward_backward"]) == {"median_ms", "min_ms", "cpu_ms"} and "peak_memory_bytes" in kernels


def test_profile(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace, chart = tmp_path / "trace.json", tmp_path / "chart.png"
    values = printed(capsys, ["profile", "-m", str(model), "--steps", "2", "--trace", str(trace), "--chart", str(chart)])
    assert {"training step", "rendered frame"} <= set(values) and values["training step"]["units"] == 2
    assert values["training step"]["width"] == values["rendered frame"]["width"]  # both of the model's own capture
    assert json.loads(trace.read_text())["traceEvents"] and chart.stat().st_size > 1000


def test_training_with_a_profile_gives_the_same_avatar(
    capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taichi_avatars.cli.speed.UNTIL_WARM", 3)
    written = {}
    for name, options in (("plain", []), ("profiled", ["--profile", "4"])):
        folder = tmp_path / name
        command = ["train", "-s", str(capture), "-m", str(folder), "--iterations", "12", "--head", "builtin", "--no-eval"]
        printed(capsys, [*command, *options])
        written[name] = (folder / "point_cloud" / "iteration_12" / "point_cloud.ply").read_bytes()
    assert written["plain"] == written["profiled"]
    values = json.loads((tmp_path / "profiled" / "profile.json").read_text())
    assert values["training step"]["units"] == 4
    for name in ("profile_trace.json", "profile.png"):
        assert (tmp_path / "profiled" / name).is_file() and not (tmp_path / "plain" / name).exists()


@pytest.fixture
def tiny_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = demo.Quality(
        width=40, height=58, timesteps=2, test_timesteps=2, cameras=3, supersample=1, iterations=3, max_gaussians=20_000,
        video=(40, 58),
    )  # fmt: skip
    monkeypatch.setitem(demo.QUALITIES, "fast", tiny)
    monkeypatch.setattr(demo, "MOTION_SECONDS", 0.12)


def test_the_demonstration(tiny_demo: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    values = printed(capsys, ["demo", "--out", str(out)])
    for split in ("novel_view", "self_reenactment"):
        assert values[split]["psnr"] > 5 and "psnr_hair" in values[split] and "ssim" in values[split]
    assert {"capture", "train", "total"} <= set(values["seconds"]) and values["fps"] > 0 and values["gaussians"] > 0
    assert all(Path(path).exists() for path in values["files"].values())
    assert json.loads((out / "demo.json").read_text()) == values
    # Its results stand on their own: a motion for `reenact`, a model for `eval`.
    again = printed(capsys, ["eval", "-m", str(out / "model"), "--split", "val"])
    assert again["val"]["psnr"] == pytest.approx(values["novel_view"]["psnr"], abs=1e-6)


def test_the_demonstration_spares_what_is_not_its_own(
    tiny_demo: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run(["demo", "--out", str(tmp_path)]) == 1
    assert "--out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_unbound_scene_cannot_be_driven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gaussians = small_avatar().gaussians
    gaussians.binding = None
    gaussians.means = torch.zeros_like(gaussians.means)
    gaussians.save_ply(tmp_path / "point_cloud.ply")
    assert run(["reenact", "-m", str(tmp_path / "point_cloud.ply"), "--motion", "x.npz"]) == 1
    assert "no head" in capsys.readouterr().err
