"""Resident memory over a training with a constant number of Gaussians.

    python benchmarks/robustness/memory.py --steps 10000 --work /tmp/memory
    python benchmarks/robustness/memory.py --steps 10000 --work /tmp/memory --views 16000 --width 550 --height 802

Prints one line of JSON: the resident memory every 500 steps, MiB, its growth after the first 500, and the peak.
With --views, the images of a small capture are linked under so many names that the bound of the image cache is reached.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

from taichi_avatars import FlameModel, runtime
from taichi_avatars.config import TrainConfig
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.training.events import Event, Progress
from taichi_avatars.training.trainer import train

EVERY = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=45)
    parser.add_argument("--height", type=int, default=60)
    parser.add_argument("--views", type=int, default=0, help="training views; those of the capture under other names")
    parser.add_argument("--work", type=Path, required=True, help="folder that is emptied first")
    given = parser.parse_args()
    runtime.init("cpu", 1)
    shutil.rmtree(given.work, ignore_errors=True)
    folder = given.work / "capture"
    write_capture(folder, width=given.width, height=given.height, timesteps=4, test_timesteps=1, cameras=4, supersample=1)
    head = FlameModel.builtin()
    capture = load_capture(folder, head=head)
    if given.views:
        views = capture.train
        many = [replace(views[i % len(views)], name=f"view{i}") for i in range(given.views)]
        capture = replace(capture, train=many, val=[], test=[])
    resident: dict[int, float] = {}

    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.iteration % EVERY == 0:
            resident[event.iteration] = _resident()

    config = TrainConfig(iterations=given.steps, start_gaussians=12_000, densify_until_iter=0, white_background=True)
    gaussians = len(train(config, capture, head, given.work / "model", watch).gaussians)
    growth = max(resident.values()) - resident[EVERY]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    values = {"gaussians": gaussians, "views": len(capture.train), "growth_after_500_MiB": round(growth, 1)}
    print(json.dumps({**values, "peak_MiB": round(peak, 1), "resident_MiB": {k: round(v, 1) for k, v in resident.items()}}))


def _resident() -> float:
    """MiB, as Linux counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
