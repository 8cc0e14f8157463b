"""Static scenes from COLMAP: `sparse/0/{cameras,images,points3D}.{bin,txt}` and `images/`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import check_aspect, image_size
from taichi_avatars.scene.views import OnProblem, View, resolve, stop, target_size

IMAGES = "images"
TEST_EVERY = 8
MODELS = {0: "SIMPLE_PINHOLE", 1: "PINHOLE", 2: "SIMPLE_RADIAL", 3: "RADIAL", 4: "OPENCV", 5: "OPENCV_FISHEYE"}
PARAMETERS = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}


@dataclass(frozen=True)
class Intrinsics:
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float


@dataclass(frozen=True)
class Registered:
    """An image that COLMAP placed: world-to-camera rotation w,x,y,z and translation, OpenCV axes."""

    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


def read_colmap_views(
    folder: Path, *, images: str = IMAGES, resolution: int = -1, strict_paths: bool = False, on_problem: OnProblem = stop
) -> list[View]:
    """All views of a scene, in the order of their images' names.

    Args:
        folder: holds `sparse/0/` and the images.
        images: the folder in it that holds the images, at any size.
        resolution: as `taichi_avatars.scene.views.target_size` takes it.
        strict_paths: refuse images outside the folder.
        on_problem: called with what is wrong; where it returns, the image is left out and reading goes on.

    Raises:
        UserError: for anything that is wrong, unless `on_problem` takes it.
    """
    cameras_file, images_file = _model_file(folder, "cameras"), _model_file(folder, "images")
    intrinsics = dict(_guarded(cameras_file, _cameras_bin, _cameras_txt))
    registered = sorted(_guarded(images_file, _images_bin, _images_txt), key=lambda image: image.name)
    within = folder if strict_paths else None
    views: list[View] = []
    for number, image in enumerate(registered):
        try:
            views.append(_view(folder / images, images_file, number, image, intrinsics, resolution, within))
        except UserError as problem:
            on_problem(problem)
    return views


def holds_model(folder: Path) -> bool:
    """Whether a folder is a COLMAP scene: an empty `sparse/`, as some tools leave it in other captures, makes none."""
    return (folder / "sparse" / "0").is_dir() or any((folder / "sparse").glob("cameras.*"))


def is_test(position: int) -> bool:
    """Whether the image at `position` in the order of names is held out for testing."""
    return position % TEST_EVERY == 0


def read_points(folder: Path) -> tuple[Tensor, Tensor]:
    """The sparse points of a scene: positions (P,3) float32 and colours (P,3) in [0,1]."""
    path = _model_file(folder, "points3D")
    rows = list(_guarded(path, _points_bin, _points_txt))
    if not rows:
        raise UserError(f"{path}: holds no points; run COLMAP's mapper again")
    points = torch.tensor(rows, dtype=torch.float64)
    if not bool(torch.isfinite(points).all()):
        raise UserError(f"{path}: holds NaN or Inf; run COLMAP's mapper again")
    return points[:, :3].float(), (points[:, 3:] / 255.0).float()


def _view(
    images: Path,
    source: Path,
    number: int,
    image: Registered,
    intrinsics: dict[int, Intrinsics],
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
    except (OSError, ValueError, RuntimeError) as error:  # a name with a zero byte, or links in a circle
        raise UserError(f"{where}: is no file's name ({error}); export the model again") from None
    if not path.is_file():
        raise UserError(f"{where}: the file {path} is missing; copy it there or remove it from the model")
    values = np.array([*image.quaternion, *image.translation])
    norm = float(np.linalg.norm(values[:4]))
    if not np.isfinite(values).all() or norm < 1e-8:
        raise UserError(f"{where}: its pose is NaN, Inf or has no rotation; remove it from the model")
    pose = torch.eye(4)
    pose[:3, :3] = torch.from_numpy(_rotation(values[:4] / norm))
    pose[:3, 3] = torch.from_numpy(values[4:])
    k = intrinsics[image.camera]
    try:
        camera = Camera.from_opencv(pose, k.fx, k.fy, k.cx, k.cy, k.width, k.height)
    except UserError as error:
        raise UserError(f"{where}: camera {image.camera}: {error}; export the model again") from error
    name = str(Path(image.name).with_suffix("")).replace("/", "_")
    view, size = View(camera, None, number, str(image.camera), name, path, None), image_size(path)
    check_aspect(view, size)
    # Scenes come with smaller copies of their images, while the model keeps the size that it was made from.
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
    """What the reader of `path` yields, its failures as one line that names the file."""
    try:
        if path.suffix == ".bin":
            data = Bytes(path.read_bytes())
            yield from binary(data)
            if data.position < len(data.data):
                raise UserError("holds more bytes than its count says; copy it again or export the model again")
        else:
            lines = path.read_text(encoding="utf-8").splitlines()
            yield from text([line.strip() for line in lines if not line.startswith("#")])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except struct.error as error:
        raise UserError(f"{path}: ends too early; copy it again or export the model again") from error
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: not a COLMAP model file ({error}); export the model again") from error
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


def _intrinsics(model: str, width: int, height: int, values: list[float]) -> Intrinsics:
    if model == "SIMPLE_PINHOLE":
        values = [values[0], *values]
    return Intrinsics(width, height, *values[:4])


def _require_pinhole(camera: int, model: str) -> None:
    if model not in PARAMETERS:
        raise UserError(
            f"camera {camera} is of model {model}, wanted PINHOLE or SIMPLE_PINHOLE; run COLMAP's image_undistorter first"
        )


def _cameras_bin(data: Bytes) -> Iterator[tuple[int, Intrinsics]]:
    for _ in range(data.take("Q")[0]):
        camera, number, width, height = data.take("iiQQ")
        model = MODELS.get(number, f"number {number}")
        _require_pinhole(camera, model)
        yield camera, _intrinsics(model, width, height, list(data.take("d" * PARAMETERS[model])))


def _cameras_txt(lines: list[str]) -> Iterator[tuple[int, Intrinsics]]:
    for line in filter(None, lines):
        camera, model, width, height, *values = line.split()
        _require_pinhole(int(camera), model)
        if len(values) != PARAMETERS[model]:
            raise UserError(f"camera {camera}: {model} has {PARAMETERS[model]} parameters, got {len(values)}; export it again")
        yield int(camera), _intrinsics(model, int(width), int(height), [float(value) for value in values])


def _images_bin(data: Bytes) -> Iterator[Registered]:
    for _ in range(data.take("Q")[0]):
        values = data.take("i7di")
        name = data.text()
        data.skip(24 * data.take("Q")[0])  # observations: x, y, point
        yield Registered(name, values[8], values[1:5], values[5:8])


def _images_txt(lines: list[str]) -> Iterator[Registered]:
    while lines and not lines[-1]:
        lines.pop()
    for line in lines[::2]:  # every other line lists observations and may be empty
        values = line.split(maxsplit=9)
        numbers = tuple(float(value) for value in values[1:8])
        yield Registered(values[9], int(values[8]), numbers[:4], numbers[4:])


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
