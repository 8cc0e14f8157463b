"""From a video of a face to an avatar: track, train, refine the tracking through the avatar, train again, measure, film."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.iterations import REFINED_NAME, iteration_folder, iterations
from taichi_avatars.avatar.model_folder import TrainedModel, load_model, load_source
from taichi_avatars.bars import OpenBar
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.comparison import Row, write_comparison
from taichi_avatars.evaluation.lpips import Lpips
from taichi_avatars.evaluation.scores import write_scores
from taichi_avatars.files.atomic import writing
from taichi_avatars.files.json import read_json, write_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion.motion import own_motion
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.stages import lower_case, rows_of, score_shown, train_shown
from taichi_avatars.tracking.capture_files import REPORT
from taichi_avatars.tracking.job import refine_model
from taichi_avatars.tracking.refine import LANDMARK_ERRORS, Fitted
from taichi_avatars.tracking.source import open_source
from taichi_avatars.tracking.track import Settings, track, work_folder
from taichi_avatars.training.checkpoint import kept
from taichi_avatars.training.folder import LOCK, refuse_earlier_run, remove_earlier_run
from taichi_avatars.video.reenact import Panel, reenact, stage
from taichi_avatars.video.turntable import Turn, write_turntable
from taichi_avatars.video.viewpoints import facing

MARK = "create.json"
CAPTURE, FIRST, REFINED = "capture", ".first", "refined"  # inside the model folder
COMPARISON, REENACTMENT, TURNTABLE = "comparison.png", "reenactment.mp4", "turntable.mp4"
WHITE = (1.0, 1.0, 1.0)
ROWS_AT = (0.0, 0.34, 0.67, 0.99)  # places in the held-out part that the comparison shows
TURN_FRAMES = 150
LEAST_TURN, MOST_TURN = 5.0, 60.0  # degrees: of the whole swing of the turntable, and to each side


@dataclass(frozen=True)
class Work:
    """How much work is done; by counts, so that the result does not depend on the machine's speed.

    Attributes:
        size: longer side of the pictures, pixels.
        first: steps of the first training, whose avatar only refines the tracking, on pictures of half that size.
        iterations: steps of the second.
        max_gaussians: of both.
    """

    size: int = 512
    first: int = 800
    iterations: int = 2_500
    max_gaussians: int = 50_000


def create(
    videos: Sequence[Path | str],
    model: Path | str,
    tracking: Settings,
    work: Work,
    open_bar: OpenBar,
    *,
    resume: bool = False,
    overwrite: bool = False,
    aside: float | None = None,
    label: str | None = None,
    perceptual: Sequence[Lpips] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Makes an avatar of the person in some videos and measures it on the end of each, which training never sees.

    Every stage leaves its result whole in `model` or not at all; `resume` continues after the last one that was finished, and
    inside most stages.

    Args:
        videos: files, or folders of pictures, of one person.
        model: folder for everything: the avatar as `train` writes it, the capture, the films, `create.json`.
        tracking: its size is that of `work`.
        open_bar: makes a bar for a stage.
        overwrite: replace an avatar that `model` holds.
        aside: degrees to each side that the turntable swings; None: as far as the videos saw.
        label: a mark on the films.
        perceptual: LPIPS, where its weights are there.
        seed: of the trainings.

    Returns:
        What `create --json` prints; also written to `create.json`.

    Raises:
        UserError: one line that says what to film or give instead.
        KeyboardInterrupt: after what can be kept was saved.
    """
    model, began, seconds = Path(model), time.perf_counter(), dict[str, float]()
    tracking = replace(tracking, size=work.size)
    for video in videos:
        open_source(video)  # what is no video is said before anything is replaced
    _take(model, _stamp(videos, tracking, work, seed), resume, overwrite)

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        since = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - since, 1)

    head = FlameModel.builtin()
    config = TrainConfig(max_gaussians=work.max_gaussians, white_background=True, sh_degree=0, seed=seed)
    try:
        with clock("track"), _tidy(model):
            report = _track(videos, model / CAPTURE, tracking, open_bar)
        with clock("first training"):
            _first(model, head, config, work, open_bar)
        with clock("refine"):
            _refine_tracking(model, open_bar, seed)
        with clock("train"):
            _train(model, model / REFINED, head, config, work.iterations, "train", open_bar)
        with clock("refine held-out"):
            _refine_held_out(model, open_bar, seed)
        with clock("measure and film"):
            trained = load_model(model, parameters="refined")
            result = _measure(model, trained, head, perceptual, open_bar)
            result["turntable"] = _film(model, trained, report, _turn(report, aside), label, open_bar)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted: continue with the same command and --resume") from None
    shutil.rmtree(model / FIRST, ignore_errors=True)
    seconds["total"] = round(time.perf_counter() - began, 1)
    result |= {
        "gaussians": len(trained.avatar.gaussians),
        "videos": report["videos"],
        "seconds": seconds,
        "files": {
            "model": str(model),
            "capture": str(model / CAPTURE),
            "comparison": str(model / COMPARISON),
            "reenactment": str(model / REENACTMENT),
            "turntable": str(model / TURNTABLE),
            "results": str(model / MARK),
        },
    }
    write_json(model / MARK, {**_read_mark(model), "finished": True, **result})
    return result


def _stamp(videos: Sequence[Path | str], tracking: Settings, work: Work, seed: int) -> dict[str, Any]:
    """What has to be the same for a run to be continued."""
    paths = [str(Path(video).resolve()) for video in videos]
    return {"of": paths, "tracking": asdict(tracking), "work": asdict(work), "seed": seed}


def _read_mark(model: Path) -> dict[str, Any]:
    known = read_json(model / MARK)
    return {key: known[key] for key in ("of", "tracking", "work", "seed")} if isinstance(known, dict) else {}


def _take(model: Path, stamp: dict[str, Any], resume: bool, overwrite: bool) -> None:
    """Makes the model folder this run's own."""
    begun = (model / MARK).is_file()
    if resume:
        if not begun:
            raise UserError(f"{model}: --resume: `create` was not begun here; leave it out")
        if _read_mark(model) != json.loads(json.dumps(stamp)):
            raise UserError(f"{model}: --resume: was begun with another video or other options; give the same, or --overwrite")
        return
    if begun and not overwrite:
        raise UserError(
            f"{model}: was begun or made before; continue it with --resume, replace it with --overwrite, or give another -m"
        )
    if not overwrite:
        refuse_earlier_run(model)
    if model.is_dir() and any(model.iterdir()) and not begun and not iterations(model):
        raise UserError(f"{model}: holds something else; give a new folder with -m")
    remove_earlier_run(model)
    with writing(model):
        for name in (CAPTURE, FIRST, REFINED, work_folder(model / CAPTURE).name):
            shutil.rmtree(model / name, ignore_errors=True)
        for name in (COMPARISON, REENACTMENT, TURNTABLE):
            (model / name).unlink(missing_ok=True)
    write_json(model / MARK, stamp)


@contextmanager
def _tidy(model: Path) -> Iterator[None]:
    """Leaves no folder behind where a video cannot be tracked."""
    try:
        yield
    except UserError:
        shutil.rmtree(work_folder(model / CAPTURE), ignore_errors=True)
        for name in (MARK, LOCK):
            (model / name).unlink(missing_ok=True)
        if not any(model.iterdir()):
            model.rmdir()
        raise


def _track(videos: Sequence[Path | str], out: Path, settings: Settings, open_bar: OpenBar) -> dict[str, Any]:
    if not (out / REPORT).is_file():
        track(videos, out, settings, open_bar, resume=work_folder(out).is_dir())
    report = read_json(out / REPORT)
    assert isinstance(report, dict)
    return report


def _first(model: Path, head: FlameModel, config: TrainConfig, work: Work, open_bar: OpenBar) -> None:
    """The avatar that refines the tracking; half the size is enough for that, and costs a third."""
    if not (model / REFINED).is_dir():
        config = config.model_copy(update={"resolution": 2})
        _train(model / FIRST, model / CAPTURE, head, config, work.first, "first avatar", open_bar)


def _train(model: Path, capture: Path, head: FlameModel, config: TrainConfig, steps: int, what: str, open_bar: OpenBar) -> None:
    if steps in iterations(model):
        return
    config = config.model_copy(update={"iterations": steps, "interval": steps})
    read = load_capture(capture, head=head, resolution=config.resolution)
    train_shown(config, read, head, model, open_bar, what=what, resume=bool(kept(model)))


def _refine_tracking(model: Path, open_bar: OpenBar, seed: int) -> None:
    if (model / REFINED).is_dir():
        return
    trained = load_model(model / FIRST, parameters="trained")
    with open_bar("refine tracking", 0, "timesteps") as bar:
        refine_model(
            trained,
            load_source(trained),
            model / REFINED,
            LANDMARK_ERRORS,
            resume=None,
            seed=seed,
            on_progress=_shown(bar.update),
        )


def _refine_held_out(model: Path, open_bar: OpenBar, seed: int) -> None:
    trained = load_model(model, parameters="trained")
    if (iteration_folder(model, trained.iteration) / REFINED_NAME).is_file():
        return
    with open_bar("refine held-out", 0, "timesteps") as bar:
        refine_model(
            trained,
            load_source(trained),
            None,
            LANDMARK_ERRORS,
            splits=("test",),
            resume=None,
            seed=seed,
            on_progress=_shown(bar.update),
        )


def _shown(update: Callable[..., None]) -> Callable[[int, int, Fitted], None]:
    def on_progress(done: int, total: int, fitted: Fitted) -> None:
        figures = {"PSNR": f"{fitted.before:.1f} to {fitted.after:.1f}"} if fitted.after else {}
        update(done, total, **figures)

    return on_progress


def _measure(
    model: Path, trained: TrainedModel, head: FlameModel, perceptual: Sequence[Lpips], open_bar: OpenBar
) -> dict[str, Any]:
    """Scores of the held-out frames with parameters from landmarks alone and refined ones, and the picture of both."""
    capture = load_capture(model / CAPTURE, head=head)
    if not capture.test:
        return {}
    held = {"tracked": (_as_tracked(trained.avatar, capture), capture.test), "refined": (trained.avatar, capture.test)}
    scores = score_shown(held, WHITE, open_bar, perceptual)
    methods = {"tracked": f"ours_{trained.iteration}", "refined": trained.method}
    for name, found in scores.items():
        write_scores(model / "test", methods[name], found)
    rows: list[Row] = rows_of(capture.test, "held-out\nframe", ROWS_AT)
    write_comparison(model / COMPARISON, trained.avatar, rows, WHITE)
    return {"held_out": {name: lower_case(found.mean) for name, found in scores.items()} | {"frames": len(capture.test)}}


def _as_tracked(avatar: Avatar, capture: Capture) -> Avatar:
    """The avatar with the parameters that landmarks alone gave; the identity is its own."""
    assert avatar.sequence is not None and capture.flame is not None
    own = avatar.sequence
    return Avatar(
        avatar.gaussians, avatar.head, replace(capture.flame, shape=own.shape, static_offset=own.static_offset), avatar.origin
    )


def _film(
    model: Path, trained: TrainedModel, report: dict[str, Any], turn: Turn, label: str | None, open_bar: OpenBar
) -> dict[str, float]:
    """The held-out part beside its truth, and a turn round the head; says how far that goes."""
    avatar, capture = trained.avatar, load_source(trained)
    assert avatar.sequence is not None
    if capture.test:
        motion = own_motion(avatar, capture.test, "held-out")
        camera = facing(capture.test, stage(avatar, motion)[1].place)
        actor, staging = stage(avatar, motion, camera_id=camera, background=WHITE)
        driver = {view.timestep: view for view in capture.test if view.timestep is not None and view.camera_id == camera}
        with open_bar("reenactment", len(motion.sequence), "frames") as bar:
            rate = _rate(report, motion.sequence.timesteps)
            path = model / REENACTMENT
            panels: tuple[Panel, ...] = ("driver", "avatar")
            reenact(actor, staging, path, fps=rate, panels=panels, driver=driver, label=label, on_frame=bar.update)
    seen = [view.timestep for view in capture.train if view.timestep is not None]
    with open_bar("turntable", turn.frames, "frames") as bar:
        write_turntable(model / TURNTABLE, avatar, seen, turn, WHITE, bar.update, label)
    return {"left": round(math.degrees(turn.left), 1), "right": round(math.degrees(turn.right), 1)}


def _turn(report: dict[str, Any], aside: float | None) -> Turn:
    """As far as any of the videos saw, from the height they saw it from: a head that turns to its left shows its right side."""
    shows = [video["shows"] for video in report["videos"]]
    left, right = -min(one["yaw"][0] for one in shows), max(one["yaw"][1] for one in shows)
    # A head that looks up is seen from below.
    below = -0.5 * (min(one["pitch"][0] for one in shows) + max(one["pitch"][1] for one in shows))
    if aside is not None:
        left = right = aside
    else:
        wider = max(LEAST_TURN - left - right, 0.0) / 2
        left, right = (min(angle + wider, MOST_TURN) for angle in (left, right))
    return Turn(math.radians(left), math.radians(right), math.radians(below), TURN_FRAMES)


def _rate(report: dict[str, Any], timesteps: Sequence[int]) -> float:
    """Pictures a second of the held-out ones."""
    at = {frame["timestep"]: frame["seconds"] for frame in report["frames"]}
    gaps = sorted(b - a for a, b in zip(map(at.__getitem__, timesteps), map(at.__getitem__, timesteps[1:]), strict=False))
    gap = gaps[len(gaps) // 2] if gaps else 0.0
    return min(max(1.0 / gap, 1.0), 60.0) if gap > 0.0 else 25.0
