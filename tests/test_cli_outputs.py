"""`render`, `reenact` and `eval` with their further options, on a model that was trained for two steps."""

import json
import wave
from pathlib import Path

import av
import pytest
from scene.tiny_capture import write_tiny_capture

from taichi_avatars.cli import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli_outputs")
    capture = write_tiny_capture(folder / "capture")
    train = ["train", "-s", str(capture), "-m", str(folder / "model"), "--iterations", "2", "--head", "builtin", "-q", "--json"]
    assert run(train) == 0
    return folder / "model"


def printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict:
    """What a command prints on stdout, which must be one JSON object."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_reenact_itself(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a motion: the held-out timesteps, beside their truth; clamped, with every panel, and with sound."""
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    common = ["reenact", "-m", str(model)]
    values = printed(capsys, [*common, "--clamp", "--relative", "--neutral", "first", "--audio", str(tmp_path / "a.wav")])
    assert values == {
        "video": str(model / "reenactment_self.mp4"), "frames": 1, "fps": 25.0, "panels": ["driver", "avatar"],
    }  # fmt: skip
    with av.open(values["video"]) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    values = printed(capsys, [*common, "--split", "train", "val", "--show", "novel", "mesh", "--camera-id", "2"])
    assert (values["frames"], values["panels"]) == (2, ["novel", "mesh"])
    (tmp_path / "path.json").write_text('{"keys": [{"time": 0, "position": [0, 0, 1], "look_at": [0, 0, 0]}]}')
    path = ["--camera-path", str(tmp_path / "path.json"), "--size", "48x64"]
    assert printed(capsys, [*common, *path, "--show", "avatar"])["frames"] == 1
    for wrong in ([*path, "--orbit"], ["--neutral", "first"], ["--show", "nothing"], ["--split", "all"]):
        assert run([*common, *wrong]) == 2
    assert run([*common, "--audio", str(tmp_path / "path.json")]) == 1
    assert "path.json" in capsys.readouterr().err.splitlines()[-1]


def test_render_with_another_mesh(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["render", "-m", str(model), "--split", "test", "--camera-id", "1"]
    style = ["--mesh-over", "truth", "--mesh-colors", "gaussians", "--mesh-shading", "flat", "--mesh-opacity", "0.5"]
    videos = printed(capsys, [*common, "--render_mesh", *style])["splits"]["test"]["videos"]
    assert [Path(video).name for video in videos] == ["renders.mp4", "gt.mp4", "renders_mesh.mp4"]
    videos = printed(capsys, [*common, "--no-render-mesh"])["splits"]["test"]["videos"]
    assert [Path(video).name for video in videos] == ["renders.mp4", "gt.mp4"]
    assert run([*common, "--mesh-colors", "rainbow"]) == 2


def test_eval_without_weights(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LPIPS is left out with one line that says how to get it; nobody who does not want it is told."""
    monkeypatch.setattr("taichi_avatars.evaluation.lpips_weights.PACKAGES", {})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert run(["eval", "-m", str(model), "--split", "test", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "lpips" not in json.loads(out)["test"]
    assert len([line for line in err.splitlines() if "LPIPS" in line and "pip install" in line]) == 1
    assert run(["eval", "-m", str(model), "--split", "test", "--lpips", "none", "--json"]) == 0
    assert "LPIPS" not in capsys.readouterr().err
    assert run(["eval", "-m", str(model), "--lpips-weights", str(tmp_path / "gone.pth")]) == 1
    assert run(["eval", "-m", str(model), "--lpips", "squeeze"]) == 2
