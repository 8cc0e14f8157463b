"""Pictures of a video or a folder as people see them: turned upright, 8 bits, scaled while read, at the rate asked for."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from PIL import ExifTags, Image, ImageOps

from taichi_avatars.errors import UserError
from taichi_avatars.tracking.dynamic_range import is_high, to_8_bit

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
FOLDER_RATE = 25.0  # pictures per second of a folder, which says nothing about it
LARGEST = 64_000_000  # pixels of a picture
FULL_FRAME = math.hypot(36, 24)  # millimetres: the diagonal that "35 mm equivalent" means
HIGH_DEFINITION = 720  # lines from which an unstated colour matrix is BT.709
KNOWN_MATRICES = (Colorspace.ITU601, Colorspace.ITU709, Colorspace.SMPTE240M, Colorspace.FCC)
FOCAL_KEYS = ("com.apple.quicktime.camera.focal_length.35mm_equivalent", "focal_length_in_35mm_film", "focallengthin35mmformat")


Scalers = dict[tuple[int, int], VideoReformatter]  # by size: what one has prepared serves the next frame


@dataclass(frozen=True)
class Source:
    """What a video or folder of pictures says about itself.

    Attributes:
        path: of it.
        width, height: of its pictures when upright, pixels.
        rate: pictures per second, in the mean.
        count: estimate of the number of pictures.
        focal: focal length in pixels of that size where the file states one, else None.
    """

    path: Path
    width: int
    height: int
    rate: float
    count: int
    focal: float | None

    @property
    def seconds(self) -> float:
        return self.count / self.rate

    def scaled(self, longest: int) -> tuple[int, int]:
        """Width and height with the longer side at most `longest`, both even."""
        share = min(1.0, longest / max(self.width, self.height))
        return max(2, 2 * round(0.5 * share * self.width)), max(2, 2 * round(0.5 * share * self.height))


@dataclass(frozen=True, eq=False)
class TimedFrame:
    """One picture that is used: its number among those, and its time in seconds."""

    number: int
    seconds: float
    _read: Callable[[tuple[int, int]], np.ndarray]

    def picture(self, size: tuple[int, int]) -> np.ndarray:
        """(H,W,3) uint8 RGB, upright, scaled to (width, height); only while its neighbours have not been asked for."""
        return self._read(size)


def open_source(path: Path | str) -> Source:
    """Looks at a video, or at a folder of pictures.

    Raises:
        UserError: where there is no picture in it that can be read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such video or folder of pictures")
    if not path.is_dir() and not path.is_file():
        raise UserError(f"{path}: is neither a file nor a folder; save the video in a file first")
    return _open_folder(path) if path.is_dir() else _open_video(path)


def video_frames(source: Source, rate: float) -> Iterator[TimedFrame]:
    """The pictures in turn, at most `rate` a second, evenly in time. A video that breaks off ends there.

    Raises:
        UserError: where not one can be read.
    """
    due, number, last = 0.0, 0, -math.inf
    for index, (seconds, read) in enumerate(_folder_frames(source) if source.path.is_dir() else _video_frames(source)):
        # A clock that is missing, stands still or runs back is replaced by counting.
        time = seconds if seconds > last else max(last + 1 / source.rate, index / source.rate)
        last = time
        if number == 0 or time >= due - 0.5 / source.rate:
            due = max(due, time) + 1 / rate
            yield TimedFrame(number, time, read)
            number += 1


def _opened(path: Path) -> InputContainer:
    """Opens a file: a colon in its name is no protocol, and what a playlist names elsewhere is not fetched."""
    return av.open(f"file:{path}", options={"protocol_whitelist": "file"})


def _open_video(path: Path) -> Source:
    try:
        with _opened(path) as container:
            if not container.streams.video:
                raise UserError(f"{path}: holds no pictures; give a video of the face")
            stream = container.streams.video[0]
            width, height = stream.width, stream.height
            if width * height > LARGEST:
                raise UserError(f"{path}: its pictures of {width}x{height} are too large; export it with at most 3840x2160")
            frame = next(container.decode(stream), None)
            if frame is None:
                raise UserError(f"{path}: holds no picture that can be read; film it again or export it again")
            width, height = frame.width, frame.height
            if _quarter_turns(frame) % 2:
                width, height = height, width
            rate = float(stream.average_rate or stream.guessed_rate or 0) or FOLDER_RATE
            length = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            length = length or (container.duration or 0) / av.time_base
            stated = {key.lower(): value for key, value in (container.metadata | stream.metadata).items()}
            focal = next((_number(stated[key]) for key in FOCAL_KEYS if key in stated), None)
            return Source(path, width, height, rate, max(1, round(length * rate)), _pixels(focal, width, height))
    except av.error.FFmpegError as error:
        raise UserError(
            f"{path}: cannot be read as a video ({error.strerror}); give an mp4, mov or webm, or pictures"
        ) from None


def _video_frames(source: Source) -> Iterator[tuple[float, Callable[[tuple[int, int]], np.ndarray]]]:
    begin: float | None = None
    scalers: Scalers = defaultdict(VideoReformatter)
    try:
        with _opened(source.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                time = frame.time
                if time is not None and begin is None:
                    begin = time
                yield -math.inf if time is None or begin is None else time - begin, partial(_upright, frame, scalers)
    except av.error.FFmpegError:
        return  # what came before is good


def _upright(frame: VideoFrame, scalers: Scalers, size: tuple[int, int]) -> np.ndarray:
    turns = _quarter_turns(frame)
    width, height = size if turns % 2 == 0 else size[::-1]
    matrix = frame.colorspace
    if matrix not in KNOWN_MATRICES:
        matrix = Colorspace.ITU709 if frame.height >= HIGH_DEFINITION else Colorspace.ITU601
    high = is_high(frame)
    shown = (
        scalers[size]
        .reformat(
            frame,
            width,
            height,
            "rgb48le" if high else "rgb24",
            src_colorspace=matrix,
            interpolation=Interpolation.AREA,
            threads=1,  # of which each would cost more to wake than it saves
        )
        .to_ndarray()
    )
    picture = to_8_bit(shown, frame) if high else shown
    return np.ascontiguousarray(np.rot90(picture, turns))


def _quarter_turns(frame: VideoFrame) -> int:
    """By how many quarters, counter-clockwise, the picture is to be turned."""
    return round(frame.rotation / 90) % 4


def _open_folder(path: Path) -> Source:
    files = _pictures(path)
    if not files:
        raise UserError(f"{path}: holds no pictures; give a video, or a folder of {', '.join(sorted(PICTURES))} files")
    first = _load(files[0])
    exif = first.getexif()
    focal = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
    width, height = ImageOps.exif_transpose(first).size
    if width * height > LARGEST:
        raise UserError(f"{files[0]}: {width}x{height} is too large; scale the pictures to at most 3840x2160")
    return Source(path, width, height, FOLDER_RATE, len(files), _pixels(_number(focal), width, height))


def _folder_frames(source: Source) -> Iterator[tuple[float, Callable[[tuple[int, int]], np.ndarray]]]:
    for index, file in enumerate(_pictures(source.path)):
        yield index / source.rate, partial(_load_upright, file, (source.width, source.height))


def _load_upright(file: Path, expected: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    picture = ImageOps.exif_transpose(_load(file))
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert("RGB")
    if picture.size != expected:
        raise UserError(
            f"{file}: is {picture.width}x{picture.height}, the first picture {expected[0]}x{expected[1]}; give one size"
        )
    return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BOX))


def _pictures(folder: Path) -> list[Path]:
    """In the order of the numbers in their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    return sorted(files, key=lambda f: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", f.name)])


def _load(file: Path) -> Image.Image:
    try:
        picture = Image.open(file)
        picture.load()
        return picture
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{file}: cannot be read as a picture ({error}); take it out of the folder") from None


def _number(text: object) -> float | None:
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if 5 <= value <= 500 else None


def _pixels(equivalent: float | None, width: int, height: int) -> float | None:
    """Focal length in pixels from millimetres for a 35 mm film, by the diagonal."""
    return None if equivalent is None else equivalent / FULL_FRAME * math.hypot(width, height)
