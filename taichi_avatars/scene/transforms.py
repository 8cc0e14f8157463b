"""Reading `transforms_*.json`: frames, poses in OpenGL axes, intrinsics. Shared by head captures and Blender scenes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import LARGEST_IMAGE, image_size
from taichi_avatars.scene.views import resolve, target_size

PrincipalPoint = Literal["bottom", "top"]
RIGID_TOLERANCE = 1e-2  # poses printed with three digits are still rotations; a scaled or sheared pose is far outside


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        UserError: where it cannot be read, with the line of a syntax error.
    """
    try:
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that the file is there and readable") from error


def parse_json(content: bytes, origin: str) -> object:
    """The same for what is in memory already; errors begin with where it is from."""
    try:
        return json.loads(content.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{origin}: line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}); repair it or export it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: not a text file (byte {error.start}); export it again") from error
    except ValueError as error:
        raise UserError(f"{origin}: holds a number that no computer takes ({error}); export it again") from error
    except RecursionError as error:
        raise UserError(f"{origin}: nested too deeply for a capture; export it again") from error


def read_transforms(path: Path, within: Path | None = None) -> list[Frame]:
    """The frames of one split; an empty list where the file lists none.

    Args:
        within: the folder that the files of the frames must lie in; None for anywhere.

    Raises:
        UserError: where the file is not JSON, or not of the form {"frames": [{...}, ...]}.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f'{path}: want an object with a list "frames", got a JSON {_json_type(content)}; export it again')
    frames = content.get("frames", [])
    if not isinstance(frames, list):
        raise UserError(f'{path}: "frames" must be a list, got a JSON {_json_type(frames)}; export it again')
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise UserError(f"{path}: frame {number}: must be an object, got a JSON {_json_type(frame)}; export it again")
    shared = {key: value for key, value in content.items() if key != "frames"}
    return [Frame(path, number, {**shared, **frame}, within) for number, frame in enumerate(frames)]


@dataclass(frozen=True)
class Frame:
    """One frame of a split: its own keys, and the file's top-level keys where it has none of that name."""

    source: Path
    number: int
    values: Mapping[str, object]
    within: Path | None = None

    def error(self, message: str) -> UserError:
        return UserError(f"{self.source}: frame {self.number} ({self.values.get('file_path', 'no file_path')}): {message}")

    def number_of(self, key: str) -> float | None:
        """The finite number under `key`, None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        number = _as_float(value)
        if number is None or not math.isfinite(number):
            raise self.error(f"{key} must be a finite number, got {value!r}; export it again")
        return number

    def integer(self, key: str) -> int | None:
        """The whole number under `key`, None where there is none."""
        value = self.number_of(key)
        if value is not None and value != int(value):
            raise self.error(f"{key} must be a whole number, got {value!r}; export it again")
        return None if value is None else int(value)

    def file(self, key: str, suffix: str = "") -> Path | None:
        """The existing file that `key` names, None where there is no such key. `suffix` is added where the name has none."""
        name = self.values.get(key)
        if name is None:
            return None
        if not isinstance(name, str) or not name:
            raise self.error(f"{key} must be a file's name, got {name!r}; export it again")
        try:
            path = resolve(self.source.parent, name, self.within)
        except UserError as error:
            raise self.error(f"{key}: {error}") from None
        except (OSError, ValueError, RuntimeError) as error:  # a name with a zero byte, or links in a circle
            raise self.error(f"{key}: {name!r} is no file's name ({error}); export it again") from None
        if suffix and not path.suffix:
            path = path.with_name(path.name + suffix)
        if not path.is_file():
            raise self.error(f"{key}: the file {path} is missing; copy it there or take the frame out of the list")
        return path


@dataclass
class CameraReader:
    """Turns frames into cameras at the wanted size. Frames of a camera that stands still share one Camera.

    Attributes:
        resolution: as `target_size` takes it.
        principal_point: where the files measure `cy` from.
    """

    resolution: int = -1
    principal_point: PrincipalPoint = "top"
    _known: dict[tuple[object, ...], Camera] = field(default_factory=dict)

    def camera(self, frame: Frame, image: Path) -> Camera:
        """The camera of a frame.

        Raises:
            UserError: where the pose is not a rigid (4,4) matrix or the intrinsics are missing or make no camera.
        """
        numbers = _pose_numbers(frame)
        width, height = frame.integer("w"), frame.integer("h")
        if width is None or height is None:
            width, height = image_size(image)
        if width < 1 or height < 1:
            raise frame.error(f"image size must be positive, got w={width} h={height}; export it again")
        if width * height > LARGEST_IMAGE:
            raise frame.error(f"image size w={width} h={height} is more than this program reads; scale the capture down")
        fx, fy, cx, cy = self._intrinsics(frame, width, height)
        key = (*numbers, fx, fy, cx, cy, width, height)
        if key not in self._known:
            camera = Camera.from_opengl(_rigid_pose(frame, numbers), fx, fy, cx, cy, width, height)
            self._known[key] = camera.resized(*target_size(width, height, self.resolution))
        return self._known[key]

    def _intrinsics(self, frame: Frame, width: int, height: int) -> tuple[float, float, float, float]:
        fx, fy, angle = frame.number_of("fl_x"), frame.number_of("fl_y"), frame.number_of("camera_angle_x")
        if fx is None and angle is not None:
            if not 0.0 < angle < math.pi:
                raise frame.error(f"camera_angle_x must lie between 0 and pi radians, got {angle:g}; export it again")
            fx = 0.5 * width / math.tan(0.5 * angle)
        if fx is None:
            raise frame.error("no intrinsics: give fl_x (pixels) or camera_angle_x (radians), in the frame or at the top level")
        fy = fx if fy is None else fy
        if fx <= 0 or fy <= 0:
            raise frame.error(f"focal lengths must be positive, got fl_x={fx:g} fl_y={fy:g}; export it again")
        cx, cy = frame.number_of("cx"), frame.number_of("cy")
        cx = 0.5 * width if cx is None else cx
        cy = 0.5 * height if cy is None else cy
        return fx, fy, cx, height - cy if self.principal_point == "bottom" else cy


def _pose_numbers(frame: Frame) -> list[float]:
    """The 16 numbers of a frame's camera-to-world matrix, row by row, checked to be finite."""
    rows = frame.values.get("transform_matrix")
    if not isinstance(rows, list) or len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise frame.error("transform_matrix must be 4 rows of 4 numbers; export it again")
    numbers = [number for row in rows for value in row if (number := _as_float(value)) is not None]
    if len(numbers) != 16:
        raise frame.error("transform_matrix must be 4 rows of 4 numbers; export it again")
    if not all(math.isfinite(number) for number in numbers):
        raise frame.error("transform_matrix holds NaN or Inf; the tracking of this camera failed: leave it out or track again")
    return numbers


def _rigid_pose(frame: Frame, numbers: list[float]) -> Tensor:
    """The (4,4) float64 matrix, checked to be a rotation and a translation."""
    pose = torch.tensor(numbers, dtype=torch.float64).reshape(4, 4)
    rotation = pose[:3, :3]
    off = (rotation.T @ rotation - torch.eye(3, dtype=torch.float64)).abs().max().item()
    last_row_off = (pose[3] - torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)).abs().max().item()
    if off > RIGID_TOLERANCE or last_row_off > RIGID_TOLERANCE or torch.linalg.det(rotation).item() < 0:
        raise frame.error(
            "transform_matrix is not a rotation and a translation (it scales, shears or mirrors); export it again"
        )
    return pose


def _as_float(value: object) -> float | None:
    """A JSON number as a float (one too large for it as infinity), None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "true/false", type(None): "null"}
    return names.get(type(value), "number")
