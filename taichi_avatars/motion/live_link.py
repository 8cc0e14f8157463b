"""ARKit weights as the Live Link Face app records them: CSV with time codes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import roma
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged
from taichi_avatars.files.description import Description
from taichi_avatars.files.text import decoded
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion import timecode
from taichi_avatars.motion.arkit import perform
from taichi_avatars.motion.motion import Motion, Reading
from taichi_avatars.motion.take import Take, even_take

WHAT = "a .csv of Live Link Face"
LIVE_LINK_FPS = float(timecode.UNKNOWN_RATE)
DELIMITERS = ",;\t"
TURNS = ("headYaw", "headPitch", "headRoll")
OTHERS = {f"{side}Eye{turn}" for side in ("left", "right") for turn in ("Yaw", "Pitch", "Roll")}


def recognises(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".csv"


def read(path: Path, head: FlameModel, reading: Reading) -> Motion:
    return perform(path, read_take(path), head)


def describe(path: Path) -> Description:
    described = Description(str(path), "motion (ARKit weights of Live Link Face)")
    try:
        take = read_take(path)
    except UserError as error:
        described.add(error)
        return described
    described.facts.update(timesteps=len(take.weights), weights=len(take.names), fps=take.fps)
    if take.filled:
        described.notes.append(f"{take.filled} frames were dropped by the app: they are interpolated from their neighbours")
    return described


def read_take(path: Path) -> Take:
    """Columns Timecode, BlendShapeCount, the weights with capital letters, and the angles of head and eyes.

    Rows in which the app had lost the face hold no weights: the previous one is repeated.
    """
    table, decimal_comma = _table(path)
    header = [name.strip() for name in table[0]] if table else []
    while header and not header[-1]:  # a separator at the end of each line
        header.pop()
    if not table:
        raise damaged(path, "holds nothing", "record it again")
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
    return even_take(path, names, recorded, timecode.seconds(codes), LIVE_LINK_FPS, _head_poses)


def _table(path: Path) -> tuple[list[list[str]], bool]:
    """The non-empty rows of a CSV, and whether the comma is its decimal separator.

    Spreadsheets save with semicolons or tabs if numbers contain commas.
    """
    try:
        content = decoded(path.read_bytes())
        if content.lower().startswith("sep="):  # what spreadsheets are told by a first line
            content = content.partition("\n")[2]
        first = content.partition("\n")[0]
        delimiter = max(DELIMITERS, key=first.count)
        rows = [row for row in csv.reader(content.split("\n"), delimiter=delimiter) if any(cell.strip() for cell in row)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise damaged(path, f"not a CSV file ({error})", "export it again") from None
    return rows, delimiter != ","


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
            raise UserError(f"{where}: has {len(cells) + 2} columns, want {count + 2}; the file was truncated or edited")
        return None
    try:
        values = [float(cell.replace(",", ".") if decimal_comma else cell) for cell in cells[:count]]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise UserError(f"{where}: holds something that is not a finite number; export it again")
    return values
