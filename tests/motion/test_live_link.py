"""Recordings of the Live Link Face app: names, times, lost frames, head turns; and the shared recording of a real face."""

from pathlib import Path

import pytest
import roma
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion.arkit_files import read_take
from taichi_avatars.motion.motion import load_motion

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
        ("", "first columns"),
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
