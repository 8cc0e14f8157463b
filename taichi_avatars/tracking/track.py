"""The whole way from videos of one person to a capture of the built-in head."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from taichi_avatars.bars import OpenBar
from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import writing
from taichi_avatars.files.json import write_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.tracking import capture_files as files
from taichi_avatars.tracking.choosing import Choice, choose
from taichi_avatars.tracking.fit import ClipFit, Fit, fit
from taichi_avatars.tracking.fit_outlines import fit_outlines
from taichi_avatars.tracking.looking import FILM, Watched, watch
from taichi_avatars.tracking.pictures import Pictures
from taichi_avatars.tracking.points import POSE, TRANSLATION
from taichi_avatars.tracking.posed import PosedHead
from taichi_avatars.tracking.report import frame_report, video_report
from taichi_avatars.tracking.shoulders import bend
from taichi_avatars.tracking.silhouettes import Silhouette, look_at_silhouettes
from taichi_avatars.tracking.source import Source, open_source
from taichi_avatars.tracking.tracked import Tracked, check_views, coverage_of, examined

RATE = 30.0  # pictures a second that are used of faster videos
PICTURE = 720  # pixels of the longer side of a capture's pictures
TEST = 0.1  # share of a video that is held out
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

    What was done before an interrupt stays beside `out` in a hidden folder, and `resume` continues from there.

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
    with _tidy(work):
        head = FlameModel.builtin()
        tracked = []
        first = 0
        for number, source in enumerate(sources):
            watched = _watch(source, work / f"{SEEN}_{number}.npz", settings.rate, open_bar)
            tracked.append(examined(head, watched, settings.face, settings.focal, first))
            first += len(watched.seconds)
        with open_bar("fit", first, "frames") as bar:
            found = fit(head, [one.clip for one in tracked], bar.update)
        for one, own in zip(tracked, found.clips, strict=True):
            check_views(one, own.frames)
        choices = [
            choose(one.seen, own.residual.numpy(), own.frames.numpy(), POSE, settings.test)
            for one, own in zip(tracked, found.clips, strict=True)
        ]
        silhouettes = [
            _silhouettes(head, one, own, found, choice, settings.rate, open_bar)
            for one, own, choice in zip(tracked, found.clips, choices, strict=True)
        ]
        with open_bar("fit outlines", first, "frames") as bar:
            teaching = [torch.from_numpy(choice.rows("train")) for choice in choices]
            found = fit_outlines(head, [one.clip for one in tracked], found, silhouettes, teaching, bar.update)
        with writing(out):
            report = _write(work / "capture", head, tracked, found, choices, silhouettes, settings, open_bar)
            _put_in_place(work / "capture", out)
            shutil.rmtree(work, ignore_errors=True)
    return {key: value for key, value in report.items() if key != "frames"}


def work_folder(out: Path) -> Path:
    """Where what is done before an interrupt waits for `resume`."""
    return out.parent / f".{out.name}-tracking"


@contextmanager
def _tidy(work: Path) -> Iterator[None]:
    """Only what was interrupted is kept: the same video would be refused again."""
    try:
        yield
    except UserError:
        shutil.rmtree(work, ignore_errors=True)
        raise


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
    write_json(work / SETTINGS, stamp, indent=None)
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


def _silhouettes(
    head: FlameModel, one: Tracked, own: ClipFit, found: Fit, choice: Choice, rate: float, open_bar: OpenBar
) -> dict[int, Silhouette]:
    """Of the pictures of a video that are cut out later."""
    rows = np.concatenate([choice.rows("train"), choice.rows("test")])
    sequence, looked = files.sequence_of(own.frames, found.shape, torch.zeros(3)), (one.watched.width, one.watched.height)
    with open_bar(f"outline of {one.watched.source.path.name}", len(rows), "frames") as bar:
        return look_at_silhouettes(one.watched.source, rate, looked, own.focal, PosedHead(head, sequence), rows, bar.update)


def _write(
    folder: Path,
    head: FlameModel,
    tracked: Sequence[Tracked],
    found: Fit,
    choices: Sequence[Choice],
    silhouettes: Sequence[Mapping[int, Silhouette]],
    settings: Settings,
    open_bar: OpenBar,
) -> dict[str, Any]:
    center = torch.cat([c.frames[one.clip.usable][:, TRANSLATION] for c, one in zip(found.clips, tracked, strict=True)])
    center = center.median(0).values
    splits: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
    straight = files.sequence_of(torch.cat([c.frames for c in found.clips]), found.shape, center, found.offset)
    sequence = bend(head, straight, [one.clip for one in tracked])
    report: dict[str, Any] = {"videos": [], "shape": [round(v, 4) for v in found.shape.tolist()], "frames": []}
    films = []
    for number, (one, own) in enumerate(zip(tracked, found.clips, strict=True)):
        choice = choices[number]
        its_own = sequence.some(slice(one.first, one.first + len(one.clip)))
        pictures = Pictures(head, one, own, its_own, center, choice, silhouettes[number], settings.size, number)
        with open_bar(f"cut out {one.watched.source.path.name}", len(one.clip), "frames") as bar:
            films.append(pictures.write(folder, settings.rate, bar))
        for split in splits:
            for row in choice.rows(split):
                splits[split].append(files.frame_entry(pictures.camera, one.first + int(row), int(row), number))
        report["videos"].append(video_report(one, own, choice, coverage_of(one, own.frames)))
        report["frames"] += frame_report(one, own, choice, number)
    if not splits["train"]:
        raise UserError(f"{tracked[0].watched.source.path}: no picture is good enough to train with; {FILM}")
    files.write_parameters(folder, head, sequence)
    files.write_splits(folder, splits)
    write_json(folder / files.REPORT, report)
    return report


def _replaceable(out: Path) -> bool:
    return out.is_dir() and ((out / files.REPORT).is_file() or not any(out.iterdir()))


def _put_in_place(folder: Path, out: Path) -> None:
    """Renames `folder` to `out`; what was there vanishes only after that."""
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
        os.replace(out, old / "old")
        os.replace(folder, out)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(folder, out)
