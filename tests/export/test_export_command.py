import json
from pathlib import Path

import pytest
from avatar.small_avatar import small_motion
from export.subjects import colourful_avatar, static_scene

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.cli import run
from taichi_avatars.cli.export import FORMATS
from taichi_avatars.export import SUFFIXES


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "somebody"
    colourful_avatar().save(folder / "point_cloud" / "iteration_30")
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return static_scene().save(tmp_path_factory.mktemp("scene"))


def export(capsys: pytest.CaptureFixture[str], model: Path, *options: str) -> dict:
    code = run(["export", "-m", str(model), "--json", *options])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def refused(capsys: pytest.CaptureFixture[str], model: Path, *options: str) -> tuple[int, str]:
    code = run(["export", "-m", str(model), "-q", *options])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return code, captured.err


@pytest.mark.parametrize("kind", ["ply", "compressed", "splat", "glb", "obj", "npz"])
def test_every_format_of_a_pose(model: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ending = "compressed.ply" if kind == "compressed" else kind
    made = export(capsys, model, "-o", str(tmp_path / f"a.{ending}"), "--timestep", "7")
    assert made["format"] == kind and Path(made["file"]).is_file()
    assert run(["info", made["file"]]) == 0
    capsys.readouterr()


def test_the_command_offers_every_format() -> None:
    assert tuple(SUFFIXES) == FORMATS


def test_the_names_of_what_is_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, name in (
        (["-f", "ply"], "export_neutral.ply"),
        (["-f", "splat", "--timestep", "10"], "export_00010.splat"),
        (["-f", "zip", "--every", "2"], "export_neutral.zip"),
        (["-f", "web"], "web"),
    ):
        made = export(capsys, model, *options)
        assert Path(made["file"]) == model / name and made["gaussians"] == 3000
        assert made["frames"] == {"zip": 2, "web": 3}.get(made["format"], 1)
    assert json.loads((model / "web" / "avatar.json").read_text())["title"] == "somebody"
    assert Avatar.load(model).head is not None  # the avatar is still what the folder holds


def test_a_motion_of_somebody_else(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    motion = tmp_path / "dance.npz"
    small_motion(52, frames=5).save_npz(motion)
    made = export(capsys, model, "-f", "ply", "--motion", str(motion), "--timestep", "4", "--sh-degree", "0", "--y-down")
    assert Path(made["file"]).name == "export_dance_00004.ply"
    posed = Gaussians.load_ply(made["file"])
    assert posed.degree == 0 and posed.binding is None
    made = export(capsys, model, "-f", "web", "--motion", str(motion), "-o", str(tmp_path / "site"), "--every", "2")
    assert made["frames"] == 3
    code, error = refused(capsys, model, "-f", "ply", "--motion", str(motion))
    assert code == 2 and "which of the motion's 5 timesteps" in error


def test_a_static_scene(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(capsys, scene, "-f", "web", "-o", str(tmp_path / "site"))["frames"] == 1
    assert "needs an avatar with a head" in refused(capsys, scene, "-f", "glb")[1]
    assert "no timesteps" in refused(capsys, scene, "-f", "ply", "--timestep", "1")[1]
    assert "no head that a motion could drive" in refused(capsys, scene, "-f", "ply", "--motion", str(tmp_path))[1]


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ([], 2, "want one of ply, compressed"),
        (["-f", "fbx"], 2, "got 'fbx'"),
        (["-o", "head.fbx"], 2, "want one of"),
        (["-f", "glb", "-o", "head.obj"], 1, "ending in .glb"),
        (["-f", "web", "--timestep", "4"], 2, "--timestep: has no meaning for the format web"),
        (["-f", "glb", "--y-down"], 2, "--y-down: has no meaning"),
        (["-f", "splat", "--sh-degree", "1"], 2, "--sh-degree: has no meaning"),
        (["-f", "ply", "--timestep", "5"], 1, "timestep 5: there is none"),
        (["-f", "zip", "--every", "0"], 2, "--every"),
    ],
)
def test_mistakes_are_one_line(
    options: list[str], code: int, text: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(model.rglob("*"))
    got, error = refused(capsys, model, *options)
    assert got == code and text in error
    assert sorted(model.rglob("*")) == before


def test_the_model_itself_is_not_overwritten(model: Path, scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ply = model / "point_cloud" / "iteration_30" / "point_cloud.ply"
    other = scene.with_name("other.ply")
    other.write_bytes(scene.read_bytes())
    for path, given, why in (
        (ply, model, "own file"),
        (ply, ply, "itself"),
        (scene, scene, "itself"),
        (other, other, "itself"),
    ):
        before = path.read_bytes()
        assert why in refused(capsys, given, "-o", str(path))[1]
        assert path.read_bytes() == before
