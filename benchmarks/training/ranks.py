"""How much faster two processes train than one: the same run, with as many views per step, of the built-in subject.

Each process has one thread. The two kinds of run alternate; a run's rate is that of its steps after the first tenth, without
evaluation and saving. Prints every run, then the medians and the gain from the second process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from taichi_avatars.synthetic.capture import write_capture


def rate(processes: int, options: list[str], steps: int, capture: Path, model: Path) -> tuple[float, float]:
    """Steps per second of one run, and its last loss."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = ["train", "-s", str(capture), "-m", str(model), "--head", "builtin", "--threads", "1", "--overwrite", "-q", "-w"]
    command += ["--iterations", str(steps), "--interval", str(steps), *options]
    subprocess.run([sys.executable, *several, "-m", "taichi_avatars", *command], check=True, capture_output=True)
    events = [json.loads(line) for line in (model / "log.jsonl").read_text().splitlines()]
    told = [event for event in events if event["event"] == "progress" and event["iteration"] > steps // 10]
    return (told[-1]["iteration"] - told[0]["iteration"]) / (told[-1]["seconds"] - told[0]["seconds"]), told[-1]["loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gaussians", type=int, default=30_000)
    parser.add_argument("--size", type=int, nargs=2, default=(275, 401), metavar=("WIDTH", "HEIGHT"))
    given = parser.parse_args()
    options = ["--views-per-step", str(given.processes), "--start-gaussians", str(given.gaussians)]
    with tempfile.TemporaryDirectory() as folder:
        capture, model = Path(folder, "subject"), Path(folder, "model")
        width, height = given.size
        write_capture(capture, width=width, height=height, timesteps=6, test_timesteps=1, cameras=8, supersample=1)
        found: dict[int, list[float]] = {1: [], given.processes: []}
        for _ in range(given.repeats):
            for processes, rates in found.items():
                per_second, loss = rate(processes, options, given.steps, capture, model)
                rates.append(per_second)
                print(f"{processes} process(es)  {per_second:.2f} steps/s  last loss {loss:.7f}", flush=True)
    medians = {processes: statistics.median(rates) for processes, rates in found.items()}
    for processes, median in medians.items():
        print(f"{processes} process(es): median {median:.2f} steps/s, {median * given.processes:.2f} images/s")
    print(f"faster by a factor of {medians[given.processes] / medians[1]:.2f}")


if __name__ == "__main__":
    main()
