"""Ablation of the fast schedule: PSNR against CPU seconds, on the built-in subject.

    python benchmarks/training/run.py [--steps 1500] [--seeds 0 1 2] [--only NAME ...] [--out FILE.json]

Every variant is a set of options of `taichi-avatars train`. Seeds vary the order of images and all random numbers of a run; the
capture stays the same. One thread, so that two of these may run side by side. CPU seconds leave out evaluation: of some views
after every tenth of the run, for the curves that `plot.py` draws, and of all that are held out at its end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from taichi_avatars import runtime
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.config import PAPER, TrainConfig
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.training.run import Run
from taichi_avatars.training.trainer import train

WHITE = (1.0, 1.0, 1.0)
CURVE_POINTS, CURVE_VIEWS = 10, 24  # per run; of each split
VARIANTS: dict[str, dict[str, object]] = {
    "paper": {"schedule": "paper"},
    "fast": {},
    "20,000 Gaussians at the start": {"start_gaussians": 20_000},
    "one Gaussian per triangle at the start": {"start_gaussians": 1},
    "the paper's rate of the colour": {"feature_lr": PAPER["feature_lr"]},
    "the paper's rates of the positions": {name: PAPER[name] for name in ("position_lr_init", "position_lr_final")},
    "the paper's rate of the scales": {"scaling_lr": PAPER["scaling_lr"]},
    "the paper's rate of the expressions": {"flame_expr_lr": PAPER["flame_expr_lr"]},
    "tracked expressions as they are": {"not_finetune_flame_params": True},
    "the paper's threshold of densification": {"densify_grad_threshold": PAPER["densify_grad_threshold"]},
    "40,000 Gaussians at most": {"max_gaussians": 40_000},
}


def measure(options: dict[str, object], steps: int, seed: int, capture: Capture, head: FlameModel) -> dict[str, object]:
    """Trains once: PSNR of both held-out splits, CPU seconds, number of Gaussians, and the curve of these over the run."""
    values = {**options, "iterations": steps, "interval": steps, "seed": seed, "white_background": True}
    unseen = replace(capture, val=[], test=[])
    curve: list[dict[str, float]] = []
    not_training = 0.0

    def look(run: Run) -> None:
        nonlocal not_training
        if run.iteration and run.iteration % max(1, steps // CURVE_POINTS) == 0:
            began = time.process_time()
            point = {"iteration": run.iteration, "cpu_seconds": began - start - not_training}
            curve.append(point | scores(run.avatar, capture, CURVE_VIEWS))
            not_training += time.process_time() - began

    with tempfile.TemporaryDirectory() as model:
        start = time.process_time()
        config = TrainConfig(**values)  # pyright: ignore[reportArgumentType]
        avatar = train(config, unseen, head, Path(model), between_steps=look)
        seconds = time.process_time() - start - not_training
    curve.append({"iteration": steps, "cpu_seconds": seconds} | scores(avatar, capture, CURVE_VIEWS))
    return scores(avatar, capture) | {"cpu_seconds": seconds, "seed": seed, "curve": curve}


def scores(avatar: Avatar, capture: Capture, views: int | None = None) -> dict[str, float]:
    """PSNR of the held-out camera (val) and of the held-out expressions (test), over so many views of each or over all."""
    found = {"gaussians": float(len(avatar.gaussians))}
    for split in ("val", "test"):
        held_out = getattr(capture, split)
        found[split] = evaluate(avatar, held_out[:: max(1, len(held_out) // (views or len(held_out)))], WHITE).mean["PSNR"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--capture", type=Path, help="created first if missing")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    runtime.init("cpu", threads=1)
    head = FlameModel.builtin()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.capture or Path(temporary) / "subject"
        if not folder.exists():
            write_capture(folder, width=275, height=401, timesteps=40, test_timesteps=8, cameras=16)
        capture = load_capture(folder, head=head)
        results: dict[str, list[dict]] = {}
        print(
            f"{'':40} novel view   self-reenactment   CPU s   Gaussians   ({given.steps} steps, median of {len(given.seeds)})"
        )
        for name in given.only:
            runs = results.setdefault(name, [])
            for seed in given.seeds:
                runs.append(measure(VARIANTS[name], given.steps, seed, capture, head))
                if given.out:
                    given.out.write_text(json.dumps(results, indent=1))
            middle = {key: statistics.median(run[key] for run in runs) for key in ("val", "test", "cpu_seconds", "gaussians")}
            spread = max(run["val"] for run in runs) - min(run["val"] for run in runs)
            print(
                f"{name:40} {middle['val']:6.2f} +-{spread / 2:.2f}   {middle['test']:12.2f}   {middle['cpu_seconds']:8.0f}"
                f"   {middle['gaussians']:9.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
