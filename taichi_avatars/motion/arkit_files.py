"""Recordings of the 52 ARKit weights: JSON, and the CSV that the Live Link Face app writes."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged
from taichi_avatars.files.json import read_json
from taichi_avatars.files.text import decoded
from taichi_avatars.motion import timecode

DEFAULT_FPS = 30.0  # of Apple's face tracking
LIVE_LINK_FPS = float(timecode.UNKNOWN_RATE)
SLOWEST = 1.0  # seconds from frame to frame: where more, they cannot be seconds
LARGEST_WEIGHT = 2.0  # what a weight may be, noise included; larger ones are percent
DELIMITERS = ",;\t"
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
        filled: how many of the T frames were dropped by what recorded them, and lie between their neighbours.
    """

    names: list[str]
    weights: Tensor
    fps: float
    poses: Tensor
    filled: int = 0

    def weight(self, name: str) -> Tensor:
        """(T,), zero where it was not recorded."""
        return (
            self.weights[:, self.names.index(name)]
            if name in self.names
            else torch.zeros(len(self.weights), dtype=torch.float32)
        )


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
    times = times if len(times) == len(rows) else []
    if times and (times[-1] - times[0]) > SLOWEST * len(times):
        times = [time / 1000.0 for time in times]  # milliseconds
    return _take(path, names, np.concatenate([np.array(rows), np.array(poses)], 1), times, DEFAULT_FPS, lambda turns: turns)


def _read_csv(path: Path) -> Take:
    """Columns Timecode, BlendShapeCount, the weights with capital letters, and the angles of head and eyes.

    Rows in which the app had lost the face hold no weights: the one before stays, as the face does.
    """
    table, decimal_comma = _table(path)
    header = [name.strip() for name in table[0]] if table else []
    while header and not header[-1]:  # a separator at the end of each line
        header.pop()
    if header[:2] != ["Timecode", "BlendShapeCount"] and header[:2] != ["Timecode", "BlendshapeCount"]:
        raise UserError(f"{path}: not a recording of Live Link Face: its first columns are not Timecode and BlendShapeCount")
    columns = [name[:1].lower() + name[1:] for name in header[2:]]
    codes, rows = [], []
    last: list[float] | None = None
    missing = 0
    for number, cells in enumerate(table[1:], start=2):
        last = _numbers(cells[2:], len(columns), decimal_comma, f"{path}: line {number}") or last
        if last is None:
            missing += 1
        else:
            rows.extend([last] * (missing + 1))
            missing = 0
        codes.append(timecode.parse(cells[0].strip(), f"{path}: line {number}"))
    if not rows:
        raise UserError(f"{path}: holds no frames with weights; record it again")
    values = np.array(rows)
    names = [name for name in columns if name not in OTHERS and name not in TURNS]
    turns = [values[:, columns.index(name)] if name in columns else np.zeros(len(values)) for name in TURNS]
    recorded = np.concatenate([values[:, [columns.index(name) for name in names]], np.stack(turns, 1)], 1)
    return _take(path, names, recorded, timecode.seconds(codes), LIVE_LINK_FPS, _head_poses)


def _table(path: Path) -> tuple[list[list[str]], bool]:
    """The rows of a CSV that are not empty, and whether a comma is what others write as a decimal point.

    Spreadsheets save with semicolons or tabs where the comma is in numbers.
    """
    try:
        content = decoded(path.read_bytes())
        first = content.partition("\n")[0]
        delimiter = max(DELIMITERS, key=first.count)
        rows = [row for row in csv.reader(content.split("\n"), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, f"not a CSV file ({error})", "export it again") from None
    return rows, delimiter != ","


def _take(
    path: Path, names: list[str], recorded: np.ndarray, times: Sequence[float], default: float, pose: Callable[[Tensor], Tensor]
) -> Take:
    """A take from rows (N,W+3) of weights and what `pose` turns into axis-angles, at times in seconds, if they are known."""
    try:
        even = timecode.evenly(times, recorded, default)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    values = torch.from_numpy(even.values).float()
    weights = values[:, :-3]
    if len(names) and float(weights.max()) > LARGEST_WEIGHT:
        weights = weights / 100.0
    return Take(names, weights.clamp(0.0, 1.0).contiguous(), even.fps, pose(values[:, -3:]), even.filled)


def _head_poses(turns: Tensor) -> Tensor:
    """Axis-angles (T,3) from yaw (to the person's left), pitch (down) and roll (to the person's right).

    The app writes radians; values beyond a half turn can only be degrees.
    """
    angles = turns.double()
    if bool((angles.abs() > math.pi).any()):
        angles = torch.deg2rad(angles)
    return roma.rotmat_to_rotvec(roma.euler_to_rotmat("YXZ", list(angles.unbind(1)))).float()


def _numbers(cells: list[str], count: int, decimal_comma: bool, where: str) -> list[float] | None:
    """The numbers of a row; None for one without any."""
    if len(cells) < count or not any(cell.strip() for cell in cells):
        if any(cell.strip() for cell in cells):
            raise UserError(f"{where}: has {len(cells) + 2} columns, want {count + 2}; the file was cut off or edited")
        return None
    try:
        values = [float(cell.replace(",", ".") if decimal_comma else cell) for cell in cells[:count]]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise UserError(f"{where}: holds something that is no finite number; export it again")
    return values


def _is_vector(value: object, size: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == size
        and all(isinstance(entry, int | float) and math.isfinite(entry) for entry in value)
    )
