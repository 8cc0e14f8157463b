"""Static scenes from COLMAP: `sparse/0/{cameras,images,points3D}.{bin,txt}` and `images/`."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged
from taichi_avatars.files.text import decoded
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.georeference import Origin, origin_of
from taichi_avatars.scene.images import check_aspect, image_size
from taichi_avatars.scene.lens import Lens, pinhole
from taichi_avatars.scene.views import OnProblem, View, resolve, stop, target_size

IMAGES = "images"
# COLMAP's camera models, in the order of their numbers, and the names of their parameters.
MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
    "THIN_PRISM_FISHEYE": "",
}


@dataclass(frozen=True)
class Registered:
    """An image that COLMAP placed: world-to-camera rotation w,x,y,z and translation, OpenCV axes."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True)
class Scene:
    """The contents of a COLMAP model.

    Attributes:
        views: in the order of their images' names.
        points: positions (P,3) float32 and colours (P,3) in [0,1].
        origin: of these coordinates, in the model's own; (0, 0, 0) unless the model lies far from its origin.
    """

    views: list[View]
    points: tuple[Tensor, Tensor]
    origin: Origin


def read_colmap(
    folder: Path,
    *,
    images: str = IMAGES,
    resolution: int = -1,
    strict_paths: bool = False,
    origin: Origin | None = None,
    on_problem: OnProblem = stop,
) -> Scene:
    """A scene: its views and its initial points.

    Args:
        folder: holds `sparse/0/` and the images.
        images: the folder in it that holds the images, at any size.
        resolution: as `taichi_avatars.scene.views.target_size` takes it.
        strict_paths: refuse images outside the folder.
        origin: the new origin of the scene; None for its centre if it is far from its own origin, else unchanged.
        on_problem: called with each problem; if it returns, the image is skipped and reading continues.

    Raises:
        UserError: for any problem, unless `on_problem` handles it.
    """
    cameras_file, images_file = _model_file(folder, "cameras"), _model_file(folder, "images")
    intrinsics = dict(_guarded(cameras_file, _cameras_bin, _cameras_txt))
    registered = sorted(_guarded(images_file, _images_bin, _images_txt), key=lambda image: image.name)
    within = folder if strict_paths else None
    positions, colours = read_points(folder)
    origin = origin_of(positions) if origin is None else origin
    views: list[View] = []
    for number, image in enumerate(registered):
        try:
            views.append(_view(folder / images, images_file, number, image, intrinsics, origin, resolution, within))
        except UserError as problem:
            on_problem(problem)
    points = torch.from_numpy(positions - np.array(origin)).float(), torch.from_numpy(colours).float()
    return Scene(views, points, origin)


def holds_model(folder: Path) -> bool:
    """Whether a folder is a COLMAP scene; an empty `sparse/`, which some tools leave in other captures, is not enough."""
    return (folder / "sparse" / "0").is_dir() or any((folder / "sparse").glob("cameras.*"))


def read_points(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The sparse points of a scene in the model's own coordinates: positions (P,3) and colours (P,3) in [0,1], float64."""
    path = _model_file(folder, "points3D")
    rows = list(_guarded(path, _points_bin, _points_txt))
    if not rows:
        raise UserError(f"{path}: holds no points; run COLMAP's mapper again")
    points = np.array(rows, np.float64)
    if not np.isfinite(points).all():
        raise UserError(f"{path}: holds NaN or Inf; run COLMAP's mapper again")
    return points[:, :3], points[:, 3:] / 255.0


def _view(
    images: Path,
    source: Path,
    number: int,
    image: Registered,
    intrinsics: dict[int, Lens],
    origin: Origin,
    resolution: int,
    within: Path | None,
) -> View:
    where = f"{source}: image {image.name}"
    if image.camera not in intrinsics:
        raise UserError(f"{where}: its camera {image.camera} is not in the cameras file; export the model again")
    try:
        path = resolve(images, image.name, within)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except (OSError, ValueError, RuntimeError) as error:  # a name with a null byte, or circular links
        raise UserError(f"{where}: is not a valid file name ({error}); export the model again") from None
    if not path.is_file():
        raise UserError(f"{where}: the file {path} is missing; copy it there or remove it from the model")
    values = np.array([*image.quaternion, *image.translation])
    norm = float(np.linalg.norm(values[:4]))
    if not np.isfinite(values).all() or norm < 1e-8:
        raise UserError(f"{where}: its pose is NaN, Inf or has no rotation; remove it from the model")
    rotation = _rotation(values[:4] / norm)
    pose = torch.eye(4, dtype=torch.float32)
    pose[:3, :3] = torch.from_numpy(rotation)
    pose[:3, 3] = torch.from_numpy(values[4:] + rotation @ np.array(origin))
    lens = intrinsics[image.camera]
    try:
        camera = Camera.from_opencv(pose, *pinhole(lens), lens.width, lens.height)
    except UserError as error:
        raise UserError(f"{where}: camera {image.camera}: {error}; export the model again") from error
    name = str(Path(image.name.replace("\\", "/")).with_suffix("")).replace("/", "_")
    view = View(camera, None, number, str(image.camera), name, path, None, lens if lens.bends else None)
    size = image_size(path)
    check_aspect(view, size)
    # Scenes may come with smaller copies of their images, while the model refers to the original size.
    return replace(view, camera=camera.resized(*target_size(*size, resolution)))


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """The (3,3) rotation of a unit quaternion w,x,y,z."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _model_file(folder: Path, stem: str) -> Path:
    model = folder / "sparse" / "0"
    for suffix in (".bin", ".txt"):
        if (model / f"{stem}{suffix}").is_file():
            return model / f"{stem}{suffix}"
    raise UserError(f"{model}: neither {stem}.bin nor {stem}.txt is there; export the COLMAP model into this folder")


def _guarded(path: Path, binary, text) -> Iterator:
    """The result of the reader of `path`; its failures become one line that names the file."""
    try:
        if path.suffix == ".bin":
            data = Bytes(path.read_bytes())
            yield from binary(data)
            if data.position < len(data.data):
                raise UserError("holds more bytes than its count says; copy it again or export the model again")
        else:
            lines = decoded(path.read_bytes()).split("\n")
            yield from text([line.strip() for line in lines if not line.lstrip().startswith("#")])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except struct.error as error:
        raise damaged(path, "ends too early", "copy it again or export the model again") from error
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise damaged(path, f"not a COLMAP model file ({error})", "export the model again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


class Bytes:
    """Little-endian records read one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from("<" + layout, self.data, self.position)
        self.position += struct.calcsize("<" + layout)
        return values

    def text(self) -> str:
        end = self.data.index(b"\0", self.position)
        value = self.data[self.position : end].decode("utf-8")
        self.position = end + 1
        return value

    def skip(self, size: int) -> None:
        self.position += size
        if self.position > len(self.data):
            raise struct.error


def _lens(camera: int, model: str, width: int, height: int, values: Sequence[float]) -> Lens:
    """The lens of a camera with these parameters, in the order of `MODELS`."""
    names = MODELS.get(model, "").split()
    if not names:
        raise UserError(f"camera {camera} has the unsupported model {model}; run COLMAP's image_undistorter first")
    if len(values) != len(names):
        raise UserError(f"camera {camera}: {model} has {len(names)} parameters, got {len(values)}; export it again")
    k = dict(zip(names, values, strict=True))
    fx, fy = k.get("fx", k.get("f", 0.0)), k.get("fy", k.get("f", 0.0))
    coefficients = {name: k.get(name, 0.0) for name in ("k1", "k2", "k3", "k4", "k5", "k6")}
    rational = model == "FULL_OPENCV"
    several = tuple(coefficients.values())
    return Lens(
        *(width, height, fx, fy, k["cx"], k["cy"]),
        radial=several[:3] if rational else several[:4],
        denominator=several[3:] if rational else (),
        tangential=(k.get("p1", 0.0), k.get("p2", 0.0)),
        fisheye="FISHEYE" in model,
    )


def _cameras_bin(data: Bytes) -> Iterator[tuple[int, Lens]]:
    for _ in range(data.take("Q")[0]):
        camera, number, width, height = data.take("iiQQ")
        model = list(MODELS)[number] if 0 <= number < len(MODELS) else f"number {number}"
        yield camera, _lens(camera, model, width, height, data.take("d" * len(MODELS.get(model, "").split())))


def _cameras_txt(lines: list[str]) -> Iterator[tuple[int, Lens]]:
    for line in filter(None, lines):
        camera, model, width, height, *values = line.split()
        yield int(camera), _lens(int(camera), model, int(width), int(height), [float(value) for value in values])


def _images_bin(data: Bytes) -> Iterator[Registered]:
    for _ in range(data.take("Q")[0]):
        values = data.take("i7di")
        name = data.text()
        data.skip(24 * data.take("Q")[0])  # observations: x, y, point
        yield Registered(name, values[8], values[1:5], values[5:8])


def _images_txt(lines: list[str]) -> Iterator[Registered]:
    """Images as lines of ID QW QX QY QZ TX TY TZ CAMERA NAME, each optionally followed by a line of observations.

    COLMAP leaves that line empty if there are none; other programs omit it, or insert empty lines. Observations are
    triples X Y POINT, so a line is an image where it has ten entries or more and is not numbers in threes.
    """
    for line in filter(None, lines):
        values = line.split(maxsplit=9)
        if _is_observations(line):
            continue
        numbers = tuple(float(value) for value in values[1:8])
        yield Registered(values[9], int(values[8]), numbers[:4], numbers[4:])


def _is_observations(line: str) -> bool:
    values = line.split()
    if len(values) % 3:
        return False
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and all(point.is_integer() and point >= -1 for point in numbers[2::3])


def _points_bin(data: Bytes) -> Iterator[tuple[float, ...]]:
    for _ in range(data.take("Q")[0]):
        values = data.take("Q3d3Bd")
        data.skip(8 * data.take("Q")[0])  # the track
        yield values[1:7]


def _points_txt(lines: list[str]) -> Iterator[tuple[float, ...]]:
    for line in filter(None, lines):
        values = tuple(float(value) for value in line.split()[1:7])
        if len(values) != 6:
            raise UserError(f"want lines of ID X Y Z R G B, got {line[:40]!r}; export the model again")
        yield values
