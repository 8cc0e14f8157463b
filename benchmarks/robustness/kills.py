"""Kills a training repeatedly at random moments (SIGKILL), resumes it, and compares the result, bit for bit, with that of an
undisturbed run.

    python benchmarks/robustness/kills.py --kills 50 --work /tmp/kills

Most kills come after a run's first save and at a random moment of the time that steps and saves take, so that they fall into
steps, checkpoints, avatars and evaluations alike; one of `--early` comes at any moment since the process began, most of which
is start-up. After each, every file that a reader would look for is read.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from taichi_avatars import Avatar
from taichi_avatars.synthetic.capture import write_capture

START_UP = 6.0  # seconds, longer than a start and some saves
OPTIONS = ["--head", "builtin", "-w", "-q", "--threads", "1", "--start-gaussians", "12000", "--densify-from-iter", "0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--interval", type=int, default=4, help="steps between two saves")
    parser.add_argument("--early", type=int, default=5, help="one of this many kills may fall into the start-up")
    parser.add_argument("--work", type=Path, required=True, help="folder that is emptied first")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    capture = given.work / "capture"
    write_capture(capture, width=45, height=60, timesteps=2, test_timesteps=1, cameras=4, supersample=1)
    command = [
        *(sys.executable, "-m", "taichi_avatars", "train", "-s", str(capture), *OPTIONS),
        *("--iterations", str(given.iterations), "--interval", str(given.interval)),
        *("--test-iterations", str(given.iterations)),
    ]
    whole, killed = given.work / "whole", given.work / "killed"
    subprocess.run([*command, "-m", str(whole)], check=True, stdout=subprocess.DEVNULL)
    chance, kills, runs, fallbacks, where = random.Random(given.seed), 0, 0, 0, []
    left = given.iterations
    while True:
        more = ["--resume"] if (killed / "checkpoint.pt").exists() or list(killed.glob("checkpoint.*.pt")) else ["--overwrite"]
        process = subprocess.Popen([*command, "-m", str(killed), *more], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        runs += 1
        if kills < given.kills:
            if kills % given.early == 0:
                time.sleep(chance.uniform(0.0, START_UP))
            else:
                _await_first_save(killed, process)
                time.sleep(chance.uniform(0.0, 1.2 * given.interval * 0.03))
            if process.poll() is None:
                process.kill()
                kills += 1
        _, errors = process.communicate()
        if process.returncode not in (0, -9):
            sys.exit(f"run {runs} failed with {process.returncode}: {errors.decode()[-500:]}")
        half, step = _inspect(killed)
        fallbacks += half
        where.append(step)
        if kills >= given.kills and process.returncode == 0:
            break
        if process.returncode == 0:
            sys.exit(f"finished after {kills} kills only; give more --iterations")
    left = _differences(whole, killed, given.iterations)
    print(
        json.dumps({"kills": kills, "runs": runs, "resumed_from": where, "temporary_files_met": fallbacks, "different": left})
    )
    sys.exit(bool(left))


def _await_first_save(model: Path, process: subprocess.Popen) -> None:
    """Until this process has saved for the first time: before that there would be nothing new to lose."""
    file = model / "checkpoint.pt"
    before = file.stat().st_mtime_ns if file.exists() else 0
    while process.poll() is None and not (file.exists() and file.stat().st_mtime_ns != before):
        time.sleep(0.002)


def _inspect(model: Path) -> tuple[int, int]:
    """Reads everything that a killed run left under a final name. Returns its number of temporary files, and its last step."""
    states = sorted(model.glob("checkpoint*.pt"), key=lambda path: path.stat().st_mtime_ns)
    steps = [torch.load(path, weights_only=True)["iteration"] for path in states]
    for ply in model.glob("point_cloud/*/point_cloud.ply"):
        Avatar.load(ply)
    for avatar in sorted(model.glob("point_cloud/iteration_*"), key=lambda path: path.stat().st_mtime_ns)[:-1]:
        shutil.rmtree(avatar)  # hundreds of them would fill the disk
    for name in ("cameras.json", "source.json"):
        if states or (model / name).exists():
            json.loads((model / name).read_text())
    return len([*model.rglob(".*-*")]), max(steps, default=0)


def _differences(whole: Path, killed: Path, iterations: int) -> list[str]:
    """Names of what is not bit-identical."""
    states = [torch.load(model / "checkpoint.pt", weights_only=True) for model in (whole, killed)]
    different = [f"checkpoint {name}" for name in _unequal("", *states)]
    folders = [model / "point_cloud" / f"iteration_{iterations}" for model in (whole, killed)]
    if folders[0].joinpath("point_cloud.ply").read_bytes() != folders[1].joinpath("point_cloud.ply").read_bytes():
        different.append("point_cloud.ply")
    with np.load(folders[0] / "flame_param.npz") as first, np.load(folders[1] / "flame_param.npz") as second:
        different += [name for name in first.files if first[name].tobytes() != second[name].tobytes()]
    return different


def _unequal(name: str, a: object, b: object) -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in _unequal(f"{name}/{key}", a[key], b[key])]
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    return [] if a == b else [name]


if __name__ == "__main__":
    main()
