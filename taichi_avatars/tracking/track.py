"""The whole way from videos of one person to a capture of the built-in head."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi_avatars.bars import Bar, OpenBar
from taichi_avatars.errors import UserError
from taichi_avatars.faces.following import FaceOverTime, Person
from taichi_avatars.faces.landmarks import find_expressions
from taichi_avatars.faces.networks import load_networks
from taichi_avatars.files.atomic import writing
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking import capture_files as files
from taichi_avatars.tracking.choosing import Choice, choose
from taichi_avatars.tracking.clip_equations import Clip
from taichi_avatars.tracking.coverage import SURE, Coverage, coverage, turn_angles
from taichi_avatars.tracking.fit import ClipFit, Fit, fit
from taichi_avatars.tracking.looking import FILM, Watched, face_of, watch
from taichi_avatars.tracking.matte import Matting
from taichi_avatars.tracking.overlay import Overlay
from taichi_avatars.tracking.points import POSE, ROTATION, TRANSLATION, rotation_matrix
from taichi_avatars.tracking.priors import expressions_of_network
from taichi_avatars.tracking.source import Source, TimedFrame, open_source, video_frames
from taichi_avatars.tracking.views import Framing, frame_head, whole_picture
from taichi_avatars.video.mp4 import write_mp4

RATE = 30.0  # pictures a second that are used of faster videos
PICTURE = 720  # pixels of the longer side of a capture's pictures
TEST = 0.1  # share of a video that is held out
LIKELY_FOCAL, FOCAL_SPREAD = 0.85, 0.2  # of the longer side; standard deviation of its logarithm: phones and webcams
FEWEST = 12  # pictures with a face
SMALLEST_FACE = 40.0  # pixels from forehead to chin
MOST_IN_PROFILE = 50.0  # degrees
FILM_SIZE, FILM_RATE = 640, 15  # pixels of the longer side of tracking.mp4, and pictures a second
REPORT, OVERLAY = "tracking.json", "tracking.mp4"
SEEN, SETTINGS = "seen", "settings.json"


@dataclass(frozen=True)
class Settings:
    """How videos are tracked.

    Attributes:
        rate: pictures per second at most.
        focal: focal length in pixels of the video's own size; None: from the file, or estimated.
        face: which of several faces, from 1.
        test: share that is held out, from the end of each video.
        size: longer side of the capture's pictures, pixels.
    """

    rate: float = RATE
    focal: float | None = None
    face: int = 1
    test: float = TEST
    size: int = PICTURE


@dataclass(frozen=True, eq=False)
class Tracked:
    """A video and what was found in it.

    Attributes:
        focal_from: where its focal length is from.
        first: timestep of its first picture in the capture.
    """

    watched: Watched
    person: Person
    seen: FaceOverTime
    clip: Clip
    focal_from: str
    first: int


def track(
    videos: Sequence[Path | str],
    out: Path | str,
    settings: Settings,
    open_bar: OpenBar,
    *,
    resume: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Tracks videos of one person and writes a head capture, whole or not at all.

    What was done before an interrupt stays beside `out` in a hidden folder, and `resume` goes on from there.

    Args:
        videos: files, or folders of pictures.
        out: a folder that does not exist, is empty, or is such a capture, which is then replaced.
        open_bar: makes a bar for a named part of the work.
        force: replaces whatever `out` is.

    Returns:
        What tracking.json holds, without the list of frames.

    Raises:
        UserError: where a video cannot be tracked: one line that says what to film instead.
    """
    out = Path(out)
    if out.exists() and not force and not _replaceable(out):
        raise UserError(f"{out}: exists and is no capture of `track`; choose another folder or overwrite it with --force")
    sources = [open_source(video) for video in videos]
    with writing(out):
        work = _begin(out, sources, settings, resume)
    head = FlameModel.builtin()
    tracked = []
    first = 0
    for number, source in enumerate(sources):
        watched = _watch(source, work / f"{SEEN}_{number}.npz", settings.rate, open_bar)
        tracked.append(_clip(head, watched, settings, first))
        first += len(watched.seconds)
    with open_bar("fit", first, "frames") as bar:
        found = fit(head, [one.clip for one in tracked], bar.update)
    with writing(out):
        report = _write(work / "capture", head, tracked, found, settings, open_bar)
        _put_in_place(work / "capture", out)
        shutil.rmtree(work, ignore_errors=True)
    return {key: value for key, value in report.items() if key != "frames"}


def work_folder(out: Path) -> Path:
    """Where what is done before an interrupt waits for `resume`."""
    return out.parent / f".{out.name}-tracking"


def _begin(out: Path, sources: Sequence[Source], settings: Settings, resume: bool) -> Path:
    work = work_folder(out)
    stamp = {"videos": [[str(s.path.resolve()), s.path.stat().st_mtime_ns] for s in sources], **asdict(settings)}
    if work.exists():
        begun = json.loads((work / SETTINGS).read_text("utf-8")) if (work / SETTINGS).is_file() else None
        if resume and begun != stamp:
            raise UserError(f"{out}: --resume: was begun with another video or other options; leave --resume out")
        if not resume:
            shutil.rmtree(work)
    elif resume:
        raise UserError(f"{out}: --resume: nothing was begun here; leave it out")
    (work / "capture" / files.IMAGES).mkdir(parents=True, exist_ok=True)
    (work / SETTINGS).write_text(json.dumps(stamp), "utf-8")
    return work


def _watch(source: Source, file: Path, rate: float, open_bar: OpenBar) -> Watched:
    watched = Watched.load(file, source) if file.is_file() else Watched.begin(source)
    if watched.finished:
        return watched
    try:
        with open_bar(f"look at {source.path.name}", round(source.seconds * min(rate, source.rate)), "frames") as bar:
            watch(watched, rate, bar.update)
    except KeyboardInterrupt:
        watched.save(file)
        raise KeyboardInterrupt(f"interrupted: {len(watched.seconds)} pictures are kept; --resume goes on") from None
    watched.save(file)
    return watched


def _clip(head: FlameModel, watched: Watched, settings: Settings, first: int) -> Tracked:
    person, seen = face_of(watched, settings.face)
    source, there = watched.source, int((seen.presence >= SURE).sum())
    if there == 0:
        raise UserError(f"{source.path}: no face was found in {len(watched.seconds)} pictures; {FILM}")
    if there < FEWEST:
        raise UserError(f"{source.path}: shows a face in {there} pictures only; {FILM}, for half a minute")
    if person.size < SMALLEST_FACE:
        raise UserError(f"{source.path}: the face is {person.size:.0f} pixels high, want {SMALLEST_FACE:.0f} at least; {FILM}")
    share = watched.width / source.width
    if settings.focal is not None:
        focal, focal_spread, origin = settings.focal * share, 0.0, "given"
    elif source.focal is not None:
        focal, focal_spread, origin = source.focal * share, 0.0, "the file"
    else:
        focal, focal_spread, origin = LIKELY_FOCAL * max(watched.width, watched.height), FOCAL_SPREAD, "estimated"
    strengths = find_expressions(np.nan_to_num(seen.points))
    strengths[seen.presence == 0] = np.nan
    clip = Clip(
        torch.from_numpy(seen.points),
        torch.from_numpy(seen.presence),
        torch.from_numpy(expressions_of_network(head, load_networks().blendshapes.names, strengths)),
        torch.tensor(watched.seconds),
        torch.from_numpy(watched.scene),
        watched.width,
        watched.height,
        focal,
        focal_spread,
    )
    return Tracked(watched, person, seen, clip, origin, first)


def coverage_of(tracked: Tracked, frames: Tensor) -> Coverage:
    """What a tracked video shows."""
    yaw, pitch = turn_angles(rotation_matrix(frames[:, ROTATION])[0].numpy())
    strengths = find_expressions(np.nan_to_num(tracked.seen.points))
    names = load_networks().blendshapes.names
    by_name = {name: strengths[:, k] for k, name in enumerate(names)}
    native = tracked.watched.source.width / tracked.watched.width
    seconds = tracked.watched.seconds[-1] if tracked.watched.seconds else 0.0
    return coverage(tracked.seen, seconds, tracked.person.size * native, yaw, pitch, by_name)


def _write(
    folder: Path, head: FlameModel, tracked: Sequence[Tracked], found: Fit, settings: Settings, open_bar: OpenBar
) -> dict[str, Any]:
    center = torch.cat([c.frames[one.clip.usable][:, TRANSLATION] for c, one in zip(found.clips, tracked, strict=True)])
    center = center.median(0).values
    splits: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    sequence = files.sequence_of(torch.cat([c.frames for c in found.clips]), found.shape, center)
    report: dict[str, Any] = {"videos": [], "shape": [round(v, 4) for v in found.shape.tolist()], "frames": []}
    films = []
    for number, (one, own) in enumerate(zip(tracked, found.clips, strict=True)):
        choice = choose(one.seen, own.residual.numpy(), own.frames.numpy(), POSE, settings.test)
        pictures = _Pictures(head, one, own, found.shape, center, choice, settings.size, number)
        with open_bar(f"cut out {one.watched.source.path.name}", len(one.clip), "frames") as bar:
            films.append(pictures.write(folder, settings.rate, bar))
        for split in splits:
            for row in choice.rows(split):
                splits[split].append(files.frame_entry(pictures.camera, one.first + int(row), int(row), number))
        report["videos"].append(_video_report(one, own, choice, coverage_of(one, own.frames)))
        report["frames"] += _frame_report(one, own, choice, number)
    if not splits["train"]:
        raise UserError(f"{tracked[0].watched.source.path}: no picture is good enough to train with; {FILM}")
    files.write_parameters(folder, head, sequence)
    files.write_splits(folder, splits)
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


class _Pictures:
    """The pictures of one video: cut out for the capture, and with the mesh over them for a film."""

    def __init__(
        self,
        head: FlameModel,
        one: Tracked,
        own: ClipFit,
        shape: Tensor,
        center: Tensor,
        choice: Choice,
        size: int,
        number: int,
    ) -> None:
        self.one, self.choice, self.number, self.head = one, choice, number, head
        self.sequence = files.sequence_of(own.frames, shape, center)
        source, looked = one.watched.source, (one.watched.width, one.watched.height)
        native = (source.width, source.height)
        rows = np.concatenate([choice.rows("train"), choice.rows("test")])
        self.whole = whole_picture(native, looked, own.focal, min(FILM_SIZE, max(looked)))
        camera = whole_picture(looked, looked, own.focal, max(looked)).camera(-center)
        seen = [_corners(self.vertices(int(row)), camera) for row in rows[:: max(1, len(rows) // 100)]]
        self.framing: Framing = frame_head(
            native, looked, own.focal, np.concatenate(seen or [np.array([[0, 0], looked])]), size
        )
        self.camera, self.whole_camera = self.framing.camera(-center), self.whole.camera(-center)
        self.matting, self.overlay = Matting(head), Overlay(head)

    def vertices(self, row: int) -> Tensor:
        return self.sequence.mesh(self.head, row).vertices

    def write(self, folder: Path, rate: float, bar: Bar) -> Path:
        """images/ of the chosen rows, and tracking.mp4, or tracking_1.mp4 and so on of further videos."""
        name = OVERLAY if self.number == 0 else OVERLAY.replace(".", f"_{self.number}.")
        spacing = np.diff(self.one.watched.seconds)
        fps = max(1, round(1 / float(np.median(spacing)))) if len(spacing) else round(rate)
        every = -(-fps // FILM_RATE)
        write_mp4(folder / name, self._frames(folder, rate, every, bar), max(1, round(fps / every)), preset="veryfast")
        return folder / name

    def _frames(self, folder: Path, rate: float, every: int, bar: Bar) -> Iterator[np.ndarray]:
        for frame in video_frames(self.one.watched.source, rate):
            row, use = frame.number, self.choice.use[frame.number]
            vertices = self.vertices(row)
            if use in ("train", "test"):
                self._cut_out(folder, row, vertices, frame.picture((self.framing.read_width, self.framing.read_height)))
            if row % every == 0:
                yield self._drawn(frame, vertices)
            bar.update(row + 1)

    def _drawn(self, frame: TimedFrame, vertices: Tensor) -> np.ndarray:
        picture = self.whole.cut(frame.picture((self.whole.read_width, self.whole.read_height)))
        if self.one.seen.presence[frame.number] == 0:
            return picture
        landmarks = self.one.seen.points[frame.number, :, :2] * (self.whole.read_width / self.one.watched.width)
        return self.overlay.draw(picture, vertices, self.whole_camera, landmarks, self.choice.use[frame.number] != "dropped")

    def _cut_out(self, folder: Path, row: int, vertices: Tensor, picture: np.ndarray) -> None:
        path = folder / files.IMAGES / files.image_name(self.one.first + row, self.number)
        if path.is_file():
            return  # from before an interrupt
        rgba = self.matting.cut_out(self.framing.cut(picture), vertices, self.camera)
        # Whole or not at all, so that it can be trusted after an interrupt; all of the folder is put in place later.
        temporary = path.with_suffix(".unfinished")
        Image.fromarray(rgba).save(temporary, "png", compress_level=1)
        os.replace(temporary, path)


def _corners(vertices: Tensor, camera: Any) -> np.ndarray:
    """(2,2) the corners of the box round a mesh, pixels."""
    seen = vertices @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    pixels = seen[:, :2] / seen[:, 2:] * camera.fx + torch.tensor([camera.cx, camera.cy])
    return torch.stack([pixels.amin(0), pixels.amax(0)]).numpy()


def _video_report(one: Tracked, own: ClipFit, choice: Choice, shown: Coverage) -> dict[str, Any]:
    source = one.watched.source
    scale = source.width / one.watched.width
    return {
        "path": str(source.path),
        "width": source.width,
        "height": source.height,
        "rate": round(source.rate, 3),
        "pictures": len(one.clip),
        "cuts": one.watched.follower.cuts,
        "focal": {"pixels": round(own.focal * scale, 1), "from": one.focal_from, "doubt": one.clip.focal_spread},
        "residual": round(float(own.residual.nanmedian()) * scale, 3) if one.clip.usable.any() else None,
        "used": {use: choice.use.count(use) for use in ("train", "test", "tracked", "dropped")},
        "shows": asdict(shown),
    }


def _frame_report(one: Tracked, own: ClipFit, choice: Choice, video: int) -> list[dict[str, Any]]:
    yaw, pitch = turn_angles(rotation_matrix(own.frames[:, ROTATION])[0].numpy())
    rows = []
    for k, seconds in enumerate(one.watched.seconds):
        residual = float(own.residual[k])
        rows.append(
            {
                "timestep": one.first + k,
                "video": video,
                "seconds": round(seconds, 4),
                "use": choice.use[k],
                "why": choice.why[k],
                "presence": round(float(one.seen.presence[k]), 3),
                "residual": round(residual, 3) if np.isfinite(residual) else None,
                "yaw": round(float(yaw[k]), 2),
                "pitch": round(float(pitch[k]), 2),
            }
        )
    return rows


def _replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / REPORT).is_file() or not any(out.iterdir()))


def _put_in_place(folder: Path, out: Path) -> None:
    """Renames `folder` to `out`; what was there vanishes only after that."""
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
        os.replace(out, old / "old")
        os.replace(folder, out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(folder, out)
