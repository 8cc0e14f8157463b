import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement
from scene.tiny_capture import flame_parameters, read_split, write_split, write_tiny_capture

from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.errors import UserError
from taichi_avatars.export.splat import RECORD
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.inspection.files import RAW
from taichi_avatars.inspection.info import describe, text
from taichi_avatars.scene.capture import load_capture


def problems_of(path: Path) -> list[str]:
    description = describe(path)
    problems = description["problems"]
    assert isinstance(problems, list)
    assert description["whole"] is (not problems)
    assert all("\n" not in problem for problem in problems)
    json.dumps(description)
    return problems


def facts_of(path: Path) -> dict[str, object]:
    facts = describe(path)["facts"]
    assert isinstance(facts, dict)
    return facts


def test_a_whole_head_capture(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True, vertices=12)
    (folder / "head.json").write_text('{"head": "builtin-1"}')
    description = describe(folder)
    assert problems_of(folder) == []
    assert description["kind"] == "head capture"
    assert description["facts"] == {
        "views": {"train": 4, "val": 2, "test": 3},
        "cameras": 3,
        "sizes": ["24 x 32"],
        "extent": 0.5,
        "timesteps": "3, numbered 3 to 9",
        "masks": ["fg_masks"],
        "head": {"head": "builtin-1"},
        "shape coefficients": 10,
        "expression coefficients": 10,
        "vertices of offsets": 12,
    }
    assert "measured from the bottom" in str(description["notes"])
    written = text(description)
    assert "train 4, val 2, test 3" in written and written.endswith("whole: yes")


def test_every_problem_of_a_capture_is_listed(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    content = read_split(folder, "train")
    content["frames"][0]["fl_x"] = 0
    content["frames"][1]["transform_matrix"][0][3] = math.nan
    content["frames"][2]["flame_param_path"] = "flame_param/00099.npz"
    write_split(folder, "train", content)
    (folder / "images/00003_00.png").unlink()
    (folder / "images/00004_02.png").write_bytes((folder / "images/00004_02.png").read_bytes()[:200])
    Image.new("RGB", (32, 32)).save(folder / "images/00009_01.png")
    (folder / "flame_param/00004.npz").write_bytes(b"PK")
    broken = flame_parameters(9, n_expr=7)
    broken["jaw_pose"] = np.full((1, 4), 0.0, np.float32)
    broken["rotation"][0, 1] = np.nan
    del broken["shape"]
    np.savez(folder / "flame_param/00009.npz", **broken)
    problems = problems_of(folder)
    for words in (
        ["transforms_train.json: frame 0", "focal lengths must be positive"],
        ["transforms_train.json: frame 1", "NaN"],
        ["transforms_train.json: frame 2", "00099.npz is missing"],
        ["transforms_val.json: frame 0", "00003_00.png is missing"],
        ["00004_02.png", "cut off"],
        ["00009_01.png", "aspect ratio"],
        ["00004.npz: is not a complete .npz file"],
        ["00009.npz: jaw_pose: got shape (1, 4), want (1, 3)"],
        ["00009.npz: rotation: holds NaN"],
        ["00009.npz: has no shape"],
    ):
        assert any(all(word in problem for word in words) for problem in problems), words
    assert len(problems) == 10
    assert "whole: no, 10 problems:" in text(describe(folder))


def test_timesteps_that_do_not_fit_together(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    np.savez(folder / "flame_param/00004.npz", **flame_parameters(4, n_expr=7))
    assert problems_of(folder) == [
        f"{folder}/flame_param/00004.npz: expression coefficients is 7, 10 in 00003.npz; export all of them again"
    ]


def test_empty_splits(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    write_split(folder, "val", {"frames": []})
    assert problems_of(folder) == []
    assert "no val split: novel views cannot be evaluated" in text(describe(folder))
    write_split(folder, "train", {"frames": []})
    assert any("training split is empty" in problem for problem in problems_of(folder))


def test_broken_lists_are_problems_not_failures(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    (folder / "transforms_test.json").write_text('{"frames": [}')
    (folder / "head.json").write_text("{")
    assert [("transforms_test.json" in p, "head.json" in p) for p in problems_of(folder)] == [(True, False), (False, True)]


def test_a_missing_mask(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    (folder / "fg_masks/00003_01.png").unlink()
    assert ["fg_mask_path" in problem for problem in problems_of(folder)] == [True]


def test_masks_that_no_frame_names_are_a_note(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, masks=True)
    content = read_split(folder, "val")
    for frame in content["frames"]:
        del frame["fg_mask_path"]
    write_split(folder, "val", content)
    assert problems_of(folder) == []
    assert "2 of 9 frames name no fg_mask_path" in text(describe(folder))


def test_an_empty_folder_sparse_makes_no_colmap_scene(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    (folder / "sparse").mkdir()
    assert describe(folder)["kind"] == "head capture" and problems_of(folder) == []
    (folder / "sparse/cameras.bin").touch()
    assert describe(folder)["kind"] == "COLMAP scene"


def test_a_capture_must_fit_its_head(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, n_expr=100)
    (folder / "head.json").write_text('{"head": "builtin-1"}')
    assert problems_of(folder) == [
        f"{folder}/flame_param/00003.npz: expr holds 100 expression components, but the head has 52: "
        "choose the head that the file was made for"
    ]
    write_tiny_capture(tmp_path, vertices=5143)
    assert "static_offset holds 5143 vertices, but the head has 4706" in problems_of(folder)[0]
    with pytest.raises(UserError, match="5143"):
        load_capture(folder, head=FlameModel.builtin())


@pytest.fixture
def no_flame_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAICHI_AVATARS_FLAME", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no configuration"))


def test_a_capture_of_an_unknown_head_is_noted(tmp_path: Path, no_flame_file: None) -> None:
    folder = write_tiny_capture(tmp_path)
    assert problems_of(folder) == [] and "`train` will need --head" in text(describe(folder))
    (folder / "head.json").write_text('{"head": "flame", "file": "flame2023.pkl", "sha256": "0"}')
    assert problems_of(folder) == [] and "will need --head" in text(describe(folder))
    (folder / "head.json").write_text('{"head": "builtin-1"}')
    assert "--head" not in text(describe(folder))


def test_the_note_about_cy_names_the_option(tmp_path: Path) -> None:
    assert "--principal-point top" in text(describe(write_tiny_capture(tmp_path)))


def test_many_problems_are_cut_short_in_the_text(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path, timesteps=tuple(range(11)))
    for image in (folder / "images").iterdir():
        image.write_bytes(b"")
    assert len(problems_of(folder)) == 33
    assert "and 13 more" in text(describe(folder))


def test_a_static_scene(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 6)).save(tmp_path / "a.png")
    frame = {"file_path": "a", "transform_matrix": np.eye(4).tolist()}
    write_split(tmp_path, "train", {"camera_angle_x": 0.5, "frames": [frame]})
    description = describe(tmp_path)
    assert description["kind"] == "Blender scene" and description["whole"]
    (tmp_path / "sparse/0").mkdir(parents=True)
    assert "neither cameras.bin nor cameras.txt" in problems_of(tmp_path)[0]


def write_ply(path: Path, degree: int = 1, bound: bool = True, count: int = 6) -> np.ndarray:
    names = [*RAW, *(f"f_rest_{k}" for k in range(3 * (degree + 1) ** 2 - 3)), *(["binding_0"] if bound else [])]
    rows = np.zeros(count, dtype=[(name, "f4") for name in names])
    rows["rot_0"] = 1
    if bound:
        rows["binding_0"] = np.arange(count) // 2
    save_ply(path, rows)
    return rows


def save_ply(path: Path, rows: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))


def motion(timesteps: int) -> dict[str, np.ndarray]:
    frames = [flame_parameters(t) for t in range(timesteps)]
    stacked = {key: np.concatenate([frame[key] for frame in frames]) for key in frames[0] if key != "shape"}
    return {"shape": frames[0]["shape"], **stacked}


def test_a_model_folder_describes_its_newest_avatar(tmp_path: Path) -> None:
    for iteration in (900, 10000):
        folder = tmp_path / f"point_cloud/iteration_{iteration}"
        write_ply(folder / "point_cloud.ply", count=iteration // 100)
        np.savez(folder / "flame_param.npz", **motion(5))
    assert problems_of(tmp_path) == []
    facts = facts_of(tmp_path)
    assert facts["iterations"] == [900, 10000] and facts["gaussians"] == 100 and facts["SH degree"] == 1
    assert facts["triangles used"] == "50, up to number 49" and facts["timesteps"] == 5


def test_every_problem_of_an_avatar_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "point_cloud.ply"
    rows = write_ply(path)
    rows["opacity"][2] = np.nan
    rows["binding_0"][0] = -1
    save_ply(path, rows)
    problems = problems_of(tmp_path)
    for words in ("opacity: NaN or Inf in 1 of 6", "binding_0: not all are", "flame_param.npz: is missing"):
        assert any(words in problem for problem in problems), words
    assert len(problems) == 3


def test_an_avatar_must_fit_its_head(tmp_path: Path) -> None:
    rows = write_ply(tmp_path / "point_cloud.ply")
    (tmp_path / "head.json").write_text('{"head": "builtin-1"}')
    np.savez(tmp_path / "flame_param.npz", **motion(3))
    assert problems_of(tmp_path) == []
    rows["binding_0"][0] = 20_000
    save_ply(tmp_path / "point_cloud.ply", rows)
    assert "bound to triangles up to 20000, but the head has" in problems_of(tmp_path)[0]
    np.savez(tmp_path / "flame_param.npz", **{**motion(3), "expr": np.zeros((3, 60), np.float32)})
    for path in (tmp_path, tmp_path / "flame_param.npz"):
        assert "expr holds 60 expression components, but the head has 52" in problems_of(path)[0]


def test_plys_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, degree=3, bound=False)
    assert describe(path)["kind"] == "Gaussians without binding (static scene)"
    assert facts_of(path)["SH degree"] == 3 and problems_of(path) == []
    path.write_bytes(path.read_bytes()[:-10])
    assert "cannot be read as a PLY" in problems_of(path)[0]
    save_ply(path, np.zeros(3, dtype=[("x", "f4"), ("y", "f8"), ("z", "f4")]))
    assert any("has no f_dc_0" in problem for problem in problems_of(path))
    assert not any("float64" in problem for problem in problems_of(path))  # `render` reads it, too
    assert "holds float64: read as float32" in describe(path)["notes"]


def test_motions(tmp_path: Path) -> None:
    path = tmp_path / "motion.npz"
    np.savez(path, **motion(7))
    assert problems_of(path) == [] and facts_of(path)["timesteps"] == 7
    np.savez(path, **{**motion(7), "expr": np.zeros((6, 10), np.float32), "dynamic_offset": np.zeros((7, 5, 2), np.float32)})
    assert any("expr: got shape (6, 10), want 7 timesteps" in problem for problem in problems_of(path))
    assert any("dynamic_offset: got shape (7, 5, 2), want (V, 3)" in problem for problem in problems_of(path))
    repeated = {**motion(7), "shape": np.tile(motion(7)["shape"], (7, 1))}
    np.savez(path, **repeated)
    assert problems_of(path) == []
    repeated["shape"][4, 2] += 1
    np.savez(path, **repeated)
    assert "shape has 7 rows, and row 4 differs" in problems_of(path)[0]
    np.savez(path, **motion(7), static_offset=np.zeros((7, 5, 3), np.float32))
    assert "static_offset has shape (7, 5, 3)" in problems_of(path)[0]
    folder = tmp_path / "frames"
    folder.mkdir()
    for timestep in range(3):
        np.savez(folder / f"{timestep}.npz", **flame_parameters(timestep))
    assert describe(folder)["kind"] == "motion (folder of timesteps)" and problems_of(folder) == []


def test_a_pickle_in_an_npz_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "a.npz", expr=np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npz: expr cannot be read"):
        describe(tmp_path / "a.npz")
    assert not (tmp_path / "ran").exists()


def test_arkit_weights(tmp_path: Path) -> None:
    path = tmp_path / "motion.json"
    content = {
        "names": ["jawOpen", "tongueOut"],
        "frames": [{"weights": [0.1, 0.2], "time": 0.0}] * 3,
        "head_pose": [[0, 0, 0]] * 3,
    }
    path.write_text(json.dumps(content))
    assert problems_of(path) == [] and facts_of(path) == {"timesteps": 3, "weights": 2}
    content["frames"] = [{"weights": [0.1]}, {}, {"weights": [0.1, math.nan]}, {"weights": [0, 0]}]
    path.write_text(json.dumps(content))
    problems = problems_of(path)
    for words in ("frame 0: got 1 weights, want 2", "frame 1: got no weights", "frame 2: a weight is not", "3 entries for 4"):
        assert any(words in problem for problem in problems), words
    path.write_text('{"names": []}')
    with pytest.raises(UserError, match="not a motion"):
        describe(path)


def test_arkit_performance_of_independent_make(shared: Path) -> None:
    assert problems_of(shared / "data/arkit_motion.json") == []
    assert facts_of(shared / "data/arkit_motion.json") == {"timesteps": 973, "weights": 52}


def test_flame_models(shared: Path, tmp_path: Path) -> None:
    facts = facts_of(shared / "data/flame2023_open.npz")
    assert facts["shape coefficients"] == 60 and facts["expression coefficients"] == 0
    assert (facts["vertices"], facts["triangles"], facts["teeth"]) == (5143, 10144, "yes")
    (tmp_path / "generic_model.pkl").write_bytes(b"not a pickle")
    assert len(problems_of(tmp_path / "generic_model.pkl")) == 1


def test_what_is_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        describe(tmp_path / "nowhere")
    with pytest.raises(UserError, match="neither a capture"):
        describe(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="not a kind of file"):
        describe(tmp_path / "a.txt")
    np.savez(tmp_path / "a.npz", apples=np.zeros(3))
    with pytest.raises(UserError, match="holds apples"):
        describe(tmp_path / "a.npz")


def test_a_recording_of_live_link_face(tmp_path: Path) -> None:
    path = tmp_path / "take.csv"
    path.write_text("Timecode,BlendShapeCount,JawOpen\n0:0:0:29.0,1,0.5\n0:0:1:00.0,1,0.4\n")
    assert problems_of(path) == [] and facts_of(path) == {"timesteps": 2, "weights": 1, "fps": 30.0}
    path.write_text("Timecode,BlendShapeCount,JawOpen\n0:0:0:29.0,1,wide\n")
    (problem,) = problems_of(path)
    assert "line 2" in problem


def test_a_camera_path(tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    keys = [{"time": t, "position": [t, 0, 1], "look_at": [0, 0, 0]} for t in (1.0, 3.5)]
    path.write_text(json.dumps({"frame": "head", "keys": keys}))
    assert problems_of(path) == [] and facts_of(path) == {"key frames": 2, "seconds": 2.5, "axes": "the head's"}
    path.write_text(json.dumps({"keys": [{"time": 0}]}))
    (problem,) = problems_of(path)
    assert "key frame 0" in problem


def test_a_splat_of_another_program_is_whole(tmp_path: Path) -> None:
    """Gaussians without a size need no repair: some programs keep those that they have faded out."""
    records = np.zeros(2, RECORD)
    records["scale"][1] = 0.01
    (tmp_path / "a.splat").write_bytes(records.tobytes())
    described = describe(tmp_path / "a.splat")
    assert described["whole"] and described["notes"] == ["1 of 2 Gaussians have no size: they are not seen"]
    (tmp_path / "b.splat").write_bytes(bytes(64))
    assert not describe(tmp_path / "b.splat")["whole"]


def test_info_and_render_read_the_same_plys(tmp_path: Path) -> None:
    gaussians = Gaussians.from_points(torch.rand(5, 3), torch.rand(5, 3), 0)
    gaussians.save_ply(tmp_path / "a.ply")
    table = PlyData.read(str(tmp_path / "a.ply"))["vertex"].data
    kinds = [(name, "f8") for name in table.dtype.names if name not in ("nx", "ny", "nz")]
    other = np.zeros(5, [*kinds, ("label", "i4"), ("f_extra", "f4")])
    for name, _ in kinds:
        other[name] = table[name]
    other["f_extra"] = np.nan
    save_ply(tmp_path / "b.ply", other)
    described = describe(tmp_path / "b.ply")
    assert described["whole"], described["problems"]
    assert described["notes"] == ["holds float64: read as float32", "2 other properties are not read: label, f_extra"]
    assert torch.equal(Gaussians.load_ply(tmp_path / "b.ply").means, gaussians.means)
    other["opacity"][3] = np.inf
    save_ply(tmp_path / "b.ply", other)
    assert any(
        "opacity: NaN or Inf in 1 of 5 Gaussians, first in Gaussian 3" in line for line in problems_of(tmp_path / "b.ply")
    )


def test_notes_of_lenses_and_surveys(tmp_path: Path) -> None:
    folder = write_tiny_capture(tmp_path)
    content = read_split(folder, "train")
    write_split(folder, "train", {**content, "k1": 0.1})
    notes = describe(folder)["notes"]
    assert isinstance(notes, list) and any("lens distortion is removed from 4 of 9 images" in note for note in notes)


def test_dropped_frames_are_noted(tmp_path: Path) -> None:
    lines = ["Timecode,BlendShapeCount,JawOpen", *(f"0:0:0:{i},1,0.5" for i in (0, 1, 2, 5, 6))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    notes = describe(tmp_path / "t.csv")["notes"]
    assert notes == ["2 frames were dropped by the app: they are interpolated from their neighbours"]


def test_a_capture_that_lies_one_folder_deeper(tmp_path: Path) -> None:
    write_tiny_capture(tmp_path / "unpacked" / "subject")
    for read in (describe, load_capture):
        with pytest.raises(UserError, match=r"unpacked/subject is one: give that"):
            read(tmp_path / "unpacked")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "avatar.ply")
    with pytest.raises(UserError, match=r"avatar.ply: is a pipe or a device"):
        describe(tmp_path / "avatar.ply")
