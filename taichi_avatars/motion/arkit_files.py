"""Recordings of the 52 ARKit weights: JSON, and the CSV that the Live Link Face app writes."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import roma
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.json import read_json

DEFAULT_FPS = 30.0  # of Apple's face tracking
LIVE_LINK_FPS = 60  # of its app, where the timecodes do not tell
TIMECODE_RATES = (24, 25, 30, 60, 120)
TURNS = ("headYaw", "headPitch", "headRoll")
OTHERS = {f"{side}Eye{turn}" for side in ("left", "right") for turn in ("Yaw", "Pitch", "Roll")}


@dataclass(frozen=True, eq=False)
class Take:
    """What was recorded of a face.

    Attributes:
        names: of the weights, as ARKit spells them.
        weights: (T,W) in [0,1].
        fps: frames per second.
        poses: (T,3) axis-angles of the head, x to the person's left, y up, z forward.
    """

    names: list[str]
    weights: Tensor
    fps: float
    poses: Tensor

    def weight(self, name: str) -> Tensor:
        """(T,), zero where it was not recorded."""
        return self.weights[:, self.names.index(name)] if name in self.names else torch.zeros(len(self.weights))


def read_take(path: Path) -> Take:
    """Reads a recording from .json or .csv.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    return _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path)


def _read_json(path: Path) -> Take:
    """{"names": [...], "frames": [{"weights": [...], "time": seconds}], "head_pose": [[x, y, z]]}; no need for the last two."""
    content = read_json(path)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("names"), list)
        or not isinstance(content.get("frames"), list)
    ):
        raise UserError(f'{path}: not ARKit weights: want an object with lists "names" and "frames"')
    names, frames = [str(name) for name in content["names"]], content["frames"]
    if not frames:
        raise UserError(f"{path}: holds no frames; record it again")
    rows, times = [], []
    for number, frame in enumerate(frames):
        row = frame.get("weights") if isinstance(frame, dict) else None
        if not _is_vector(row, len(names)):
            raise UserError(f"{path}: frame {number}: want {len(names)} finite weights, one for every name; export it again")
        rows.append(row)
        if isinstance(frame.get("time"), int | float) and math.isfinite(frame["time"]):
            times.append(float(frame["time"]))
    poses = content.get("head_pose") or [[0.0, 0.0, 0.0]] * len(frames)
    if not isinstance(poses, list) or len(poses) != len(frames) or not all(_is_vector(pose, 3) for pose in poses):
        raise UserError(f"{path}: head_pose: want {len(frames)} axis-angles of three finite numbers, one for every frame")
    weights = torch.tensor(rows).float().clamp(0.0, 1.0)
    return Take(names, weights, _fps(times), torch.tensor(poses).float())


def _read_csv(path: Path) -> Take:
    """Columns Timecode, BlendShapeCount, the weights with capital letters, and the angles of head and eyes.

    Rows in which the app had lost the face hold no weights: the one before stays, as the face does.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file ({error}); export it again") from None
    header = [name.strip() for name in table[0]] if table else []
    if header[:2] != ["Timecode", "BlendShapeCount"] and header[:2] != ["Timecode", "BlendshapeCount"]:
        raise UserError(f"{path}: not a recording of Live Link Face: its first columns are not Timecode and BlendShapeCount")
    columns = [name[:1].lower() + name[1:] for name in header[2:]]
    codes, rows = [], []
    last: list[float] | None = None
    missing = 0
    for number, cells in enumerate(table[1:], start=2):
        last = _numbers(cells[2:], len(columns), f"{path}: line {number}") or last
        if last is None:
            missing += 1
        else:
            rows.extend([last] * (missing + 1))
            missing = 0
        codes.append(_timecode(cells[0], f"{path}: line {number}"))
    if not rows:
        raise UserError(f"{path}: holds no frames with weights; record it again")
    values = torch.tensor(rows, dtype=torch.float32)
    names = [name for name in columns if name not in OTHERS and name not in TURNS]
    weights = values[:, [columns.index(name) for name in names]].clamp(0.0, 1.0)
    turns = torch.stack([values[:, columns.index(n)] if n in columns else torch.zeros(len(values)) for n in TURNS], 1)
    return Take(names, weights, _fps(_seconds(codes), LIVE_LINK_FPS), _head_poses(turns))


def _head_poses(turns: Tensor) -> Tensor:
    """Axis-angles (T,3) from yaw (to the person's left), pitch (down) and roll (to the person's right).

    The app writes radians; values beyond a half turn can only be degrees.
    """
    angles = turns.double()
    if bool((angles.abs() > math.pi).any()):
        angles = torch.deg2rad(angles)
    return roma.rotmat_to_rotvec(roma.euler_to_rotmat("YXZ", list(angles.unbind(1)))).float()


def _numbers(cells: list[str], count: int, where: str) -> list[float] | None:
    """The numbers of a row; None for one without any."""
    if len(cells) < count or not any(cell.strip() for cell in cells):
        if any(cell.strip() for cell in cells):
            raise UserError(f"{where}: has {len(cells) + 2} columns, want {count + 2}; the file was cut off or edited")
        return None
    try:
        values = [float(cell) for cell in cells[:count]]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise UserError(f"{where}: holds something that is no finite number; export it again")
    return values


def _timecode(text: str, where: str) -> tuple[int, float]:
    """Whole seconds and frames of "HH:MM:SS:FF.part"."""
    try:
        hours, minutes, seconds, frames = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + int(seconds), float(frames)
    except ValueError:
        raise UserError(f"{where}: Timecode {text!r} is not HH:MM:SS:FF; export it again") from None


def _seconds(codes: list[tuple[int, float]]) -> list[float]:
    """Times of timecodes. How many frames they count in a second shows where the recording passes a full one."""
    rate = LIVE_LINK_FPS
    if len({seconds for seconds, _ in codes}) > 1:
        most = max(frames for _, frames in codes)
        rate = next((known for known in TIMECODE_RATES if most < known), LIVE_LINK_FPS)
    return [seconds + frames / rate for seconds, frames in codes]


def _fps(times: list[float], default: float = DEFAULT_FPS) -> float:
    """From the median distance of two frames."""
    steps = sorted(b - a for a, b in pairwise(times) if b > a)
    return min(120.0, max(1.0, round(1.0 / steps[len(steps) // 2], 3))) if steps else default


def _is_vector(value: object, size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == size
        and all(isinstance(entry, int | float) and math.isfinite(entry) for entry in value)
    )
