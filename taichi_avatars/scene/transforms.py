"""Reading `transforms_*.json`: frames, poses in OpenGL axes, intrinsics. Shared by head captures and Blender scenes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.json import read_json
from taichi_avatars.scene.cameras import OPENCV_FROM_OPENGL, Camera
from taichi_avatars.scene.images import image_size
from taichi_avatars.scene.lens import Lens, pinhole
from taichi_avatars.scene.pixels import LARGEST_IMAGE
from taichi_avatars.scene.views import resolve, target_size

PrincipalPoint = Literal["bottom", "top"]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".JPG", ".PNG", ".JPEG")  # for names without one, in this order
RADIAL, TANGENTIAL = ("k1", "k2", "k3", "k4"), ("p1", "p2")
UNKNOWN_LENS = ("k5", "k6", "s1", "s2", "s3", "s4", *(f"ftheta_p{number}" for number in range(5)))
# Names of nerfstudio and COLMAP for pinhole cameras with or without distortion, and for fisheye lenses.
UNDISTORTED = {"PERSPECTIVE", "PINHOLE", "SIMPLE_PINHOLE"}
PERSPECTIVE = {*UNDISTORTED, "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}
FISHEYE = {"OPENCV_FISHEYE", "FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"}
RIGID_TOLERANCE = 1e-2  # poses printed with three digits pass; a scaled or sheared pose is far outside


def camera_entry(camera: Camera) -> dict[str, object]:
    """The camera of a frame of `transforms_*.json`, as VHAP writes it."""
    camera_to_world = torch.linalg.inv(camera.world_to_camera.double()) @ OPENCV_FROM_OPENGL.double()
    return {
        "cx": camera.cx,
        "cy": camera.height - camera.cy,  # this format counts from the bottom of the image
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        "h": camera.height,
        "w": camera.width,
        "camera_angle_x": 2 * math.atan(0.5 * camera.width / camera.fx),
        "camera_angle_y": 2 * math.atan(0.5 * camera.height / camera.fy),
        "transform_matrix": camera_to_world.tolist(),
    }


def read_transforms(path: Path, within: Path | None = None) -> list[Frame]:
    """The frames of one split; an empty list if the file lists none.

    Args:
        within: the folder that the files of the frames must lie in; None for anywhere.

    Raises:
        UserError: if the file is not JSON, or not of the form {"frames": [{...}, ...]}.
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
    return [Frame(path, number, _with_shared(frame, shared), within) for number, frame in enumerate(frames)]


def _with_shared(frame: dict[str, object], shared: dict[str, object]) -> dict[str, object]:
    """A frame's keys, and those of the top level that it does not have under the same or an equivalent name."""
    said: set[str] = set()
    if frame.get("camera_angle_x") is not None and frame.get("fl_x") is None:
        said |= {"fl_x", "fl_y"}
    if str(frame.get("camera_model")).upper() in UNDISTORTED:
        said |= {*RADIAL, *TANGENTIAL, "is_fisheye"}
    return {**{key: value for key, value in shared.items() if key not in said}, **frame}


@dataclass(frozen=True)
class Frame:
    """One frame of a split: its own keys, and the file's top-level keys that it lacks."""

    source: Path
    number: int
    values: Mapping[str, object]
    within: Path | None = None

    def error(self, message: str) -> UserError:
        return UserError(f"{self.source}: frame {self.number} ({self.values.get('file_path', 'no file_path')}): {message}")

    def number_of(self, key: str) -> float | None:
        """The finite number under `key`, None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        number = _as_float(value)
        if number is None or not math.isfinite(number):
            raise self.error(f"{key} must be a finite number, got {value!r}; export it again")
        return number

    def integer(self, key: str) -> int | None:
        """The integer under `key`, None if there is none."""
        value = self.number_of(key)
        if value is not None and value != int(value):
            raise self.error(f"{key} must be a whole number, got {value!r}; export it again")
        return None if value is None else int(value)

    def file(self, key: str, suffixes: Sequence[str] = ()) -> Path | None:
        """The existing file that `key` names, None if there is no such key.

        Args:
            suffixes: tried in order if the name has none.
        """
        name = self.values.get(key)
        if name is None:
            return None
        if not isinstance(name, str) or not name:
            raise self.error(f"{key} must be a file's name, got {name!r}; export it again")
        try:
            path = resolve(self.source.parent, name, self.within)
        except UserError as error:
            raise self.error(f"{key}: {error}") from None
        except (OSError, ValueError, RuntimeError) as error:  # a name with a null byte, or circular links
            raise self.error(f"{key}: {name!r} is not a valid file name ({error}); export it again") from None
        if suffixes and not path.is_file():
            longer = [path.with_name(path.name + suffix) for suffix in suffixes]
            path = next((file for file in longer if file.is_file()), path if path.suffix else longer[0])
        if not path.is_file():
            raise self.error(f"{key}: the file {path} is missing; copy it there or remove the frame from the list")
        return path


@dataclass
class CameraReader:
    """Converts frames to cameras at the requested size. Frames of a static camera share one Camera.

    Attributes:
        resolution: as `target_size` takes it.
        principal_point: where the files measure `cy` from.
    """

    resolution: int = -1
    principal_point: PrincipalPoint = "top"
    _known: dict[tuple[object, ...], Camera] = field(default_factory=dict)

    def camera(self, frame: Frame, image: Path) -> tuple[Camera, Lens | None]:
        """The pinhole camera of a frame, and the lens of its image; None if that has no distortion.

        Raises:
            UserError: if the pose is not a rigid (4,4) matrix, the intrinsics are missing or invalid, or the lens is
                of an unknown kind.
        """
        numbers = _pose_numbers(frame)
        width, height = frame.integer("w"), frame.integer("h")
        if width is None or height is None:
            width, height = image_size(image)
        if width < 1 or height < 1:
            raise frame.error(f"image size must be positive, got w={width} h={height}; export it again")
        if width * height > LARGEST_IMAGE:
            raise frame.error(f"image size w={width} h={height} is more than this program reads; scale the capture down")
        lens = _lens(frame, width, height, self._intrinsics(frame, width, height))
        try:
            fx, fy, cx, cy = pinhole(lens)
        except UserError as error:
            raise frame.error(str(error)) from None
        key = (*numbers, fx, fy, cx, cy, width, height)
        if key not in self._known:
            camera = Camera.from_opengl(_rigid_pose(frame, numbers), fx, fy, cx, cy, width, height)
            self._known[key] = camera.resized(*target_size(width, height, self.resolution))
        return self._known[key], lens if lens.bends else None

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


def _lens(frame: Frame, width: int, height: int, intrinsics: tuple[float, float, float, float]) -> Lens:
    """The lens of a frame, with the distortion that nerfstudio and instant-ngp write: k1 to k4, p1, p2, is_fisheye."""
    model = frame.values.get("camera_model")
    name = "PERSPECTIVE" if model is None else str(model).upper()
    if name not in PERSPECTIVE | FISHEYE:
        raise frame.error(f"camera_model is {model!r}, a lens that this program does not know; undistort the images first")
    for key in UNKNOWN_LENS:
        if frame.number_of(key):
            raise frame.error(f"{key} is a distortion that this program does not know; undistort the images first")
    fisheye = bool(frame.values.get("is_fisheye")) or name in FISHEYE
    radial = tuple(frame.number_of(key) or 0.0 for key in RADIAL)
    p1, p2 = (frame.number_of(key) or 0.0 for key in TANGENTIAL)
    if fisheye and (p1 or p2):
        raise frame.error("p1 and p2 are given for a fisheye lens, whose model has none; undistort the images first")
    return Lens(width, height, *intrinsics, radial=radial, tangential=(p1, p2), fisheye=fisheye)


def _pose_numbers(frame: Frame) -> list[float]:
    """The 16 numbers of a frame's camera-to-world matrix, row-major, checked to be finite. The last row may be missing."""
    rows = frame.values.get("transform_matrix")
    if isinstance(rows, list) and len(rows) == 3:
        rows = [*rows, [0.0, 0.0, 0.0, 1.0]]
    if not isinstance(rows, list) or len(rows) != 4 or any(not isinstance(row, list) or len(row) != 4 for row in rows):
        raise frame.error("transform_matrix must be 4 rows of 4 numbers; export it again")
    numbers = [number for row in rows for value in row if (number := _as_float(value)) is not None]
    if len(numbers) != 16:
        raise frame.error("transform_matrix must be 4 rows of 4 numbers; export it again")
    if not all(math.isfinite(number) for number in numbers):
        raise frame.error("transform_matrix holds NaN or Inf; the tracking of this camera failed: remove it or track again")
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
