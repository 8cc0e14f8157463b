"""Recordings of the Live Link Face app: names, times, lost frames, head turns; and the shared recording of a real face."""

import json
from pathlib import Path

import pytest
import roma
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion import arkit_json
from taichi_avatars.motion.live_link import read_take
from taichi_avatars.motion.sources import load_motion

HEADER = ["Timecode", "BlendShapeCount", "EyeBlinkLeft", "JawOpen", "MouthSmileLeft"]
ANGLES = ["HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll"]


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


def write(path: Path, rows: list[list[object]], header: list[str] | None = None) -> Path:
    lines = [header or HEADER + ANGLES, *rows]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n", encoding="utf-8")
    return path


def row(code: str, *weights: float, turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> list[object]:
    return [code, 61, *weights, *turn, 0.9, 0.9, 0.9]


def test_weights_go_to_their_components(tmp_path: Path, head: FlameModel) -> None:
    rows = [row("10:00:00:00.000", 0.2, 0.3, 1.5), row("10:00:00:01.000", 0.0, 0.0, 0.4)]
    motion = load_motion(write(tmp_path / "take.csv", rows), head)
    assert head.expression_names is not None and motion.name == "take"
    first = {n: v for n, v in zip(head.expression_names, motion.sequence.expr[0].tolist(), strict=True) if v}
    assert first == pytest.approx({"eyeBlinkLeft": 0.2, "jawOpen": 0.3, "mouthSmileLeft": 1.0})
    assert motion.sequence.jaw_pose[0, 0] > 0


@pytest.mark.parametrize(
    ("codes", "fps"),
    [
        (["07:44:59:58.5", "07:44:59:59.5", "07:45:00:00.5", "07:45:00:01.5"], 60.0),
        (["00:00:00:28.207", "00:00:00:29.207", "00:00:01:00.207"], 30.0),
        (["00:00:00:28.0", "00:00:00:28.5", "00:00:00:29.0", "00:00:00:29.5", "00:00:01:00.0"], 60.0),  # two rows a frame
        (["00:00:00:23.0", "00:00:01:00.0", "00:00:01:01.0"], 24.0),
        (["00:00:03:10.0", "00:00:03:11.0"], 60.0),  # never passes a full second: the app's own rate
        (["00:00:00:01.001"], 60.0),
        (["00:00:00:46.0", "00:00:00:47.0", "00:00:01:00.0"], 48.0),
        (["00:00:00:48.0", "00:00:00:49.0", "00:00:01:00.0"], 50.0),
        (["00:00:00:98.0", "00:00:00:99.0", "00:00:01:00.0"], 100.0),
        (["00:00:00:20.0", "00:00:00:22.0", "00:00:01:00.0"], 12.0),  # every other frame of 24
        (["23:59:59:28.0", "23:59:59:29.0", "00:00:00:00.0", "00:00:00:01.0"], 30.0),  # past midnight
        (["00:00:59:28", "00:00:59:29", "00:01:00:02", "00:01:00:03"], 30 / 1.001),  # drop-frame, by what it leaves out
        (["00:00:09;28", "00:00:09;29", "00:00:10;00", "00:00:10;01"], 30 / 1.001),  # drop-frame, by how it is written
        (["00:00:59:58", "00:00:59:59", "00:01:00:04", "00:01:00:05"], 60 / 1.001),
        (["00:09:59:28", "00:09:59:29", "00:10:00:00", "00:10:00:01"], 30.0),  # either; at a tenth minute nothing is left out
    ],
)
def test_timecodes_tell_the_frame_rate(tmp_path: Path, codes: list[str], fps: float) -> None:
    take = read_take(write(tmp_path / "t.csv", [row(code, 0.0, 0.0, 0.0) for code in codes]))
    assert take.fps == pytest.approx(fps, rel=1e-3)


def test_a_lost_face_stays_as_it_was(tmp_path: Path) -> None:
    rows = [
        ["00:00:00:00.0", 0],
        row("00:00:00:01.0", 0.1, 0.2, 0.3),
        ["00:00:00:02.0", 0, *[""] * 9],
        row("00:00:00:03.0", 0.4, 0.5, 0.6),
        ["00:00:00:04.0", 0],
    ]
    take = read_take(write(tmp_path / "t.csv", rows))
    assert take.weight("jawOpen").tolist() == pytest.approx([0.2, 0.2, 0.2, 0.5, 0.5])
    assert not take.weight("tongueOut").any()


@pytest.mark.parametrize("unit", ["radians", "degrees"])
def test_head_turns(tmp_path: Path, unit: str) -> None:
    """Yaw to the person's left (+x), pitch down (-y), roll tips the crown to the person's right (-x)."""
    size = 0.2 if unit == "radians" else 11.459156
    turns = [(size, 0.0, 0.0), (0.0, size, 0.0), (0.0, 0.0, size), (size, size, 0.0)]
    take = read_take(write(tmp_path / "t.csv", [row("0:0:0:0", 0, 0, 0, turn=turn) for turn in turns]))
    nose, crown = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    rotation = roma.rotvec_to_rotmat(take.poses)
    assert take.poses[:3].norm(dim=1).tolist() == pytest.approx([0.2] * 3, abs=1e-4)
    assert (rotation[0] @ nose)[0] > 0.19 and (rotation[1] @ nose)[1] < -0.19 and (rotation[2] @ crown)[0] < -0.19
    # Turned to the left, the nose still goes straight down: yaw is the outer rotation.
    assert (rotation[3] @ nose)[1] == pytest.approx(-torch.sin(torch.tensor(0.2)).item(), abs=1e-4)


def test_eyes_follow_the_weights(tmp_path: Path, head: FlameModel) -> None:
    """The angles of the eyes are columns, not weights of ours; they say what EyeLook says."""
    header = [*HEADER[:2], "EyeLookOutLeft", "EyeLookInRight", *ANGLES]
    rows = [["0:0:0:0", 61, 1.0, 1.0, 0, 0, 0, 0.5, 0.5, 0.5]]
    sequence = load_motion(write(tmp_path / "t.csv", rows, header), head).sequence
    looks = roma.rotvec_to_rotmat(sequence.eyes_pose.view(2, 3)) @ torch.tensor([0.0, 0.0, 1.0])
    assert (looks[:, 0] > 0.4).all()
    assert read_take(tmp_path / "t.csv").names == ["eyeLookOutLeft", "eyeLookInRight"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds nothing"),
        ("time,x\n1,2\n", "first columns"),
        ("Timecode,BlendShapeCount,JawOpen\n", "no frames"),
        ("Timecode,BlendShapeCount,JawOpen\n0:0:0:0,0\n", "no frames"),
        ("Timecode,BlendShapeCount,JawOpen\n0:0:0:0,1,wide\n", "line 2"),
        ("Timecode,BlendShapeCount,JawOpen\n0:0:0:0,1,nan\n", "line 2"),
        ("Timecode,BlendShapeCount,JawOpen\nnoon,1,0.5\n", "line 2: Timecode 'noon'"),
        ("Timecode,BlendShapeCount,JawOpen,TongueOut\n0:0:0:0,2,0.5\n", "line 2: has 3 columns"),
    ],
)
def test_mistakes_are_located(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_take(tmp_path / "t.csv")
    assert "t.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_the_shared_recording(shared: Path, head: FlameModel) -> None:
    motion = load_motion(shared / "data/arkit_motion.json", head)
    assert len(motion.sequence) == 973 and motion.fps == pytest.approx(30.0, abs=0.1)
    assert motion.sequence.expr.amax(0).max() > 0.3 and motion.sequence.expr.amin() >= 0.0


def ramp(path: Path, ticks: list[int], code, separator: str = ",", decimal: str = ".", end: str = "") -> Path:
    """Rows at ticks of 1/30 s in which jawOpen rises by 0.1 a second."""
    lines = [separator.join(["Timecode", "BlendShapeCount", "JawOpen", "HeadYaw"]) + end]
    lines += [separator.join([code(i), "52", f"{i / 300:.6f}", f"{i / 600:.6f}"]).replace(".", decimal) + end for i in ticks]
    path.write_text("\n".join(lines) + "\n")
    return path


SIX_DIGITS = 2e-5  # what `ramp` writes, and float32


def of_60(i: int) -> str:
    return f"10:00:{i // 30:02d}:{2 * (i % 30):02d}.000"


@pytest.mark.parametrize("lost", [lambda i: i % 5 == 2, lambda i: 100 < i < 160, lambda i: i in (7, 8, 299)])
def test_rows_are_where_their_timecodes_say(tmp_path: Path, lost) -> None:
    take = read_take(ramp(tmp_path / "t.csv", [i for i in range(301) if not lost(i)], of_60))
    assert take.fps == pytest.approx(30.0) and len(take.weights) == 301
    assert take.filled == sum(lost(i) for i in range(301))
    torch.testing.assert_close(take.weight("jawOpen"), torch.arange(301) / 300, atol=SIX_DIGITS, rtol=0)
    torch.testing.assert_close(take.poses[:, 1], torch.arange(301) / 600, atol=SIX_DIGITS, rtol=0)


def test_a_whole_recording_stays_as_it_is(tmp_path: Path) -> None:
    """Timecodes of a phone tremble by a fraction of a frame: that is no reason to interpolate."""
    codes = [f"10:00:{i // 60:02d}:{i % 60:02d}.{(37 * i) % 400:03d}" for i in range(200)]
    values = torch.rand(200).mul(1e6).round() / 1e6
    rows = [row(code, 0.0, value, 0.0) for code, value in zip(codes, values.tolist(), strict=True)]
    take = read_take(write(tmp_path / "t.csv", rows))
    assert take.filled == 0 and torch.equal(take.weight("jawOpen"), values)
    assert take.fps == pytest.approx(60.0, abs=0.2)


def test_a_minute_of_drop_frame_lasts_a_minute(tmp_path: Path) -> None:
    """29.97 frames a second for 60.1 seconds: number 1800 is called 00:01:00:02."""
    numbers = [n + (2 if n >= 1800 else 0) for n in range(1802)]
    codes = [f"00:{n // 1800:02d}:{n // 30 % 60:02d}:{n % 30:02d}" for n in numbers]
    take = read_take(write(tmp_path / "t.csv", [row(code, 0.0, 0.0, 0.0) for code in codes]))
    assert len(take.weights) == 1802 and take.filled == 0
    assert len(take.weights) / take.fps == pytest.approx(1802 * 1.001 / 30, abs=1e-2)


@pytest.mark.parametrize(
    ("separator", "decimal", "end"),
    [(";", ",", ""), (";", ".", ""), ("\t", ",", ""), ("\t", ".", ""), (",", ".", ","), (";", ",", ";;"), (",", ".", "\r")],
)
def test_saved_by_a_spreadsheet(tmp_path: Path, separator: str, decimal: str, end: str) -> None:
    take = read_take(ramp(tmp_path / "t.csv", list(range(61)), of_60, separator, decimal, end))
    assert take.names == ["jawOpen"] and take.fps == pytest.approx(30.0)
    torch.testing.assert_close(take.weight("jawOpen"), torch.arange(61) / 300, atol=SIX_DIGITS, rtol=0)


def test_unicode_text_of_a_spreadsheet(tmp_path: Path) -> None:
    path = ramp(tmp_path / "t.csv", list(range(31)), of_60, "\t", ",")
    path.write_bytes(path.read_text().encode("utf-16"))
    assert read_take(path).weight("jawOpen")[30].item() == pytest.approx(0.1)


def test_percent(tmp_path: Path) -> None:
    take = read_take(write(tmp_path / "t.csv", [row("0:0:0:0", 20, 30, 100), row("0:0:0:1", 0, 50, 1)]))
    assert take.weight("jawOpen").tolist() == pytest.approx([0.3, 0.5])
    assert take.weight("mouthSmileLeft").tolist() == pytest.approx([1.0, 0.01])
    (tmp_path / "t.json").write_text(json.dumps({"names": ["jawOpen"], "frames": [{"weights": [25]}, {"weights": [0.5]}]}))
    assert arkit_json.read_take(tmp_path / "t.json").weight("jawOpen").tolist() == pytest.approx([0.25, 0.005])


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_times_of_json_place_its_frames(tmp_path: Path, unit: float) -> None:
    frames = [{"weights": [i / 100], "time": unit * (7.0 + i / 50)} for i in range(101) if i % 4 != 1]
    (tmp_path / "t.json").write_text(json.dumps({"names": ["jawOpen"], "frames": frames}))
    take = arkit_json.read_take(tmp_path / "t.json")
    assert take.fps == pytest.approx(50.0) and take.filled == 25
    torch.testing.assert_close(take.weight("jawOpen"), torch.arange(101) / 100, atol=1e-5, rtol=0)


def test_a_second_recording_behind_the_first(tmp_path: Path) -> None:
    codes = ["00:00:05:00", "00:00:05:01", "00:00:05:02", "00:00:01:00", "00:00:01:01"]
    take = read_take(write(tmp_path / "t.csv", [row(code, 0.0, k / 10, 0.0) for k, code in enumerate(codes)]))
    assert take.weight("jawOpen").tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_pause_of_hours_is_refused(tmp_path: Path) -> None:
    rows = [row(code, 0.0, 0.0, 0.0) for code in ("00:00:00:00", "00:00:00:01", "20:00:00:00")]
    with pytest.raises(UserError, match=r"t\.csv: its rows lie 72000 seconds apart.*split the recording"):
        read_take(write(tmp_path / "t.csv", rows))


def test_a_late_row_is_put_where_it_belongs(tmp_path: Path) -> None:
    rows = [row(f"00:00:01:{frame:02d}.0", 0.0, frame / 100, 0.0) for frame in (0, 2, 1, 3, 5, 4)]
    assert read_take(write(tmp_path / "take.csv", rows)).weight("jawOpen").tolist() == pytest.approx(
        [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
    )


def test_a_spreadsheets_first_line(tmp_path: Path) -> None:
    path = write(tmp_path / "take.csv", [row("00:00:01:00.0", 0.1, 0.2, 0.3)])
    path.write_text("sep=,\n" + path.read_text())
    assert read_take(path).weight("jawOpen").tolist() == pytest.approx([0.2])


def test_two_columns_of_one_name_and_an_empty_file(tmp_path: Path) -> None:
    header = [*HEADER[:-1], "JawOpen", *ANGLES]
    with pytest.raises(UserError, match=r"take.csv: two weights are named jawOpen, .*; take one out"):
        read_take(write(tmp_path / "take.csv", [row("00:00:01:00.0", 0.1, 0.2, 0.3)], header))
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty.csv: holds nothing; record it again"):
        read_take(tmp_path / "empty.csv")


def test_names_as_apples_constants_hold_them(tmp_path: Path, head: FlameModel) -> None:
    content = {"names": ["jawOpen", "eyeBlink_L", "MouthSmile_R"], "frames": [{"weights": [0.1, 0.2, 0.3]}]}
    (tmp_path / "take.json").write_text(json.dumps(content))
    expr = load_motion(tmp_path / "take.json", head).sequence.expr[0]
    names = head.expression_names or []
    assert [float(expr[names.index(name)]) for name in ("jawOpen", "eyeBlinkLeft", "mouthSmileRight")] == pytest.approx(
        [0.1, 0.2, 0.3]
    )
