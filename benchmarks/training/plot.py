"""Plots the results of `run.py --out`: PSNR of the held-out camera against CPU seconds, a curve per variant, median of seeds.

python benchmarks/training/plot.py FILE.json [FILE.json ...] --out FILE.png [--only NAME ...]     (needs matplotlib)
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt  # pyright: ignore[reportMissingImports]

COLOURS = ("#1f6feb", "#d1495b", "#3a7d44", "#9a6fb0", "#c58b2a", "#4f6d7a")


def median_curve(runs: list[dict]) -> tuple[list[float], list[float]]:
    """CPU seconds and PSNR at the steps that all runs of a variant were evaluated after."""
    points = list(zip(*(run["curve"] for run in runs), strict=True))
    return tuple([statistics.median(point[key] for point in at) for at in points] for key in ("cpu_seconds", "val"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    curves = {}
    for file in given.files:
        for name, runs in json.loads(file.read_text()).items():
            if given.only is None or name in given.only:
                steps = runs[0]["curve"][-1]["iteration"]
                curves[f"{name}, {steps:,} steps"] = median_curve(runs)
    figure, axes = plt.subplots(figsize=(6.4, 3.6), dpi=130)
    for colour, (name, (seconds, psnr)) in zip(COLOURS * len(curves), curves.items(), strict=False):
        axes.plot(seconds, psnr, "o-", color=colour, markersize=3.5, linewidth=1.6, label=name)
    axes.axhline(30.0, color="#999999", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="CPU seconds of training", ylabel="PSNR of the held-out camera, dB")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(given.out)


if __name__ == "__main__":
    main()
