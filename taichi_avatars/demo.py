"""Everything on the built-in subject: capture, train, evaluate, reenact."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bars import OpenBar
from taichi_avatars.bench import bench_avatar
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.comparison import Row, write_comparison
from taichi_avatars.evaluation.scores import write_scores
from taichi_avatars.files.json import write_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion.sources import load_motion
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.stages import lower_case, rows_of, score_shown, train_shown
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.synthetic.defaults import SUPERSAMPLE
from taichi_avatars.synthetic.motion import performance
from taichi_avatars.video.reenact import reenact, stage

MARK = "demo.json"
SPLITS = {"val": "novel_view", "test": "self_reenactment"}
KINDS = {"val": "novel view", "test": "self-\nreenactment"}
ROWS_AT = (0.29, 0.7)  # positions in each held-out split of the views in the comparison: both sides of the face
MOTION_SECONDS, MOTION_FPS, MOTION_SEED = 10.0, 25.0, 1
ORBIT = 0.5  # radians to each side
WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Quality:
    """Amount of work of the demonstration; in counts, so the result does not depend on the machine's speed.

    Attributes:
        width, height: of the captured images, pixels.
        timesteps, test_timesteps, cameras: of the capture.
        supersample: of its images.
        iterations, max_gaussians: of the training.
        video: width and height of the reenactment, pixels.
    """

    width: int
    height: int
    timesteps: int
    test_timesteps: int
    cameras: int
    supersample: int
    iterations: int
    max_gaussians: int
    video: tuple[int, int]


QUALITIES = {
    "fast": Quality(275, 401, 40, 8, 16, SUPERSAMPLE, 1_500, 60_000, (480, 640)),
    "full": Quality(550, 802, 80, 16, 16, SUPERSAMPLE, 30_000, 100_000, (720, 960)),
}


def run_demo(out: Path | str, quality: str, open_bar: OpenBar, *, seed: int = 0) -> dict[str, object]:
    """Captures the built-in subject, trains an avatar of it, measures it, and drives it with another motion.

    Args:
        out: a new or empty folder, or one that an earlier demonstration made, whose contents are replaced.
        quality: "fast" or "full".
        open_bar: called with each stage's name, number of units and unit.
        seed: of the subject, its performance and the training.

    Returns:
        What `demo --json` prints; also written to `demo.json`.

    Raises:
        UserError: if `out` holds something else, or `quality` is unknown.
    """
    if quality not in QUALITIES:
        raise UserError(f"quality {quality!r} is not known: use {' or '.join(QUALITIES)}")
    chosen, out, began = QUALITIES[quality], Path(out), time.perf_counter()
    _take(out)
    seconds: dict[str, float] = {}

    def clock(stage_name: str, since: float) -> None:
        seconds[stage_name] = round(time.perf_counter() - since, 1)

    since = time.perf_counter()
    _capture(out / "capture", chosen, seed, open_bar)
    clock("capture", since)

    since = time.perf_counter()
    head = FlameModel.builtin()
    capture = load_capture(out / "capture", head=head)
    avatar = _train(out / "model", capture, head, chosen, seed, open_bar)
    clock("train", since)

    since = time.perf_counter()
    scores = _evaluate(out / "model", avatar, capture, chosen, open_bar)
    comparison = write_comparison(out / "comparison.png", avatar, _rows(capture), WHITE)
    clock("evaluate", since)

    since = time.perf_counter()
    video = _reenact(out, avatar, head, chosen, open_bar)
    clock("video", since)

    fps = bench_avatar(avatar, capture.train[0].camera)["fps"]
    clock("total", began)
    result: dict[str, object] = {
        "quality": quality,
        **scores,
        "seconds": seconds,
        "fps": fps,
        "gaussians": len(avatar.gaussians),
        "files": {
            "comparison": str(comparison),
            "reenactment": str(video),
            "capture": str(out / "capture"),
            "model": str(out / "model"),
            "motion": str(out / "motion.npz"),
            "results": str(out / MARK),
        },
    }
    write_json(out / MARK, result)
    return result


def _take(out: Path) -> None:
    """Prepares the folder for this demonstration; removes what an earlier one left in it."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise UserError(f"{out}: holds something that no demonstration made; give another folder with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / MARK, {"unfinished": True})
    shutil.rmtree(out / "model", ignore_errors=True)
    for name in ("comparison.png", "reenactment.mp4", "motion.npz"):
        (out / name).unlink(missing_ok=True)


def _capture(folder: Path, chosen: Quality, seed: int, open_bar: OpenBar) -> None:
    total = (chosen.timesteps + chosen.test_timesteps) * chosen.cameras
    with open_bar("capture", total, "images") as shown:
        write_capture(
            folder,
            seed=seed,
            width=chosen.width,
            height=chosen.height,
            timesteps=chosen.timesteps,
            test_timesteps=chosen.test_timesteps,
            cameras=chosen.cameras,
            supersample=chosen.supersample,
            force=True,
            progress=lambda done, total: shown.update(done, total),
        )


def _train(model: Path, capture: Capture, head: FlameModel, chosen: Quality, seed: int, open_bar: OpenBar) -> Avatar:
    config = TrainConfig(
        iterations=chosen.iterations,
        interval=chosen.iterations,
        max_gaussians=chosen.max_gaussians,
        white_background=True,
        seed=seed,
    )
    return train_shown(config, capture, head, model, open_bar)


def _evaluate(model: Path, avatar: Avatar, capture: Capture, chosen: Quality, open_bar: OpenBar) -> dict[str, object]:
    """Scores of both held-out splits under the names of the JSON output."""
    held = {name: (avatar, getattr(capture, split)) for split, name in SPLITS.items()}
    scores = score_shown(held, WHITE, open_bar)
    for split, name in SPLITS.items():
        write_scores(model / split, f"ours_{chosen.iterations}", scores[name])
    return {name: lower_case(found.mean) for name, found in scores.items()}


def _rows(capture: Capture) -> list[Row]:
    """A few views of each held-out split, spread over it."""
    rows = []
    for split, kind in KINDS.items():
        rows += rows_of(getattr(capture, split), kind, ROWS_AT)
    return rows


def _reenact(out: Path, avatar: Avatar, head: FlameModel, chosen: Quality, open_bar: OpenBar) -> Path:
    performance(head, MOTION_SECONDS, MOTION_FPS, MOTION_SEED, "test").save_npz(out / "motion.npz")
    motion = load_motion(out / "motion.npz", head)
    actor, shot = stage(avatar, motion, size=chosen.video, orbit=ORBIT, background=WHITE)
    with open_bar("reenact", len(motion.sequence), "frames") as shown:
        reenact(actor, shot, out / "reenactment.mp4", fps=motion.fps, on_frame=shown.update)
    return out / "reenactment.mp4"
