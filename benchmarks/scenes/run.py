"""How well static scenes are trained: a still life rendered here, in the Blender and the COLMAP layout, held-out views.

    python benchmarks/scenes/run.py [--steps 2500] [--seeds 1] [--only blender colmap] [--keep FOLDER] [OPTION=VALUE ...]

OPTION=VALUE are options of `taichi-avatars train`, to be tried. CPU seconds (of all threads) leave out evaluation.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from layouts import write_blender, write_colmap

from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.scores import evaluate
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.training.trainer import train

WRITE = {"blender": write_blender, "colmap": write_colmap}


def measure(capture: Capture, config: TrainConfig, model: Path) -> tuple[float, float, float, int]:
    """Trains once; PSNR and SSIM of the held-out views, CPU seconds, number of Gaussians."""
    began = time.process_time()
    avatar = train(config, replace(capture, test=[]), None, model)
    seconds = time.process_time() - began
    mean = evaluate(avatar, capture.test, (1.0, 1.0, 1.0) if config.white_background else (0.0, 0.0, 0.0)).mean
    return mean["PSNR"], mean["SSIM"], seconds, len(avatar.gaussians)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=WRITE, default=list(WRITE))
    parser.add_argument("--keep", type=Path, help="where scenes and models stay; scenes that are there are used again")
    parser.add_argument("options", nargs="*", metavar="OPTION=VALUE")
    given = parser.parse_args()
    options = dict(option.split("=", 1) for option in given.options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        print(f"{'':10} PSNR dB   SSIM    CPU s   Gaussians   ({given.steps} steps, median of {given.seeds})")
        for name in given.only:
            if not (folder / name).exists():
                WRITE[name](folder / name)
            capture = load_capture(folder / name)
            rows = []
            for seed in range(given.seeds):
                values = {"iterations": given.steps, "interval": given.steps, "seed": seed}
                values["white_background"] = name == "blender"
                config = TrainConfig.from_values({**values, **options}, "option")
                rows.append(measure(capture, config, folder / f"{name}-model"))
            psnr, ssim, seconds, count = (statistics.median(column) for column in zip(*rows, strict=True))
            print(f"{name:10} {psnr:7.2f}   {ssim:.4f} {seconds:6.0f}   {count:9.0f}", flush=True)


if __name__ == "__main__":
    main()
