"""Figures of a release, so that the next one can be compared with them.

    python benchmarks/history.py           # measures, and writes benchmarks/history/VERSION.json
    python benchmarks/history.py --show    # all that were written, side by side

Figures of different machines are not comparable; the file names the machine. Takes a minute or two of all cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import taichi_avatars

HISTORY = Path(__file__).parent / "history"
LIBRARIES = ("torch", "numpy")
BENCH = ("bench", "--protocol", "--kernels", "--frames", "100", "-n", "10000", "-n", "86000", "--size", "550x802")
PROFILE = ("profile", "--steps", "10")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--show", action="store_true", help="print the stored figures, measure nothing")
    if parser.parse_args().show:
        print(table({path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(HISTORY.glob("*.json"))}))
        return
    measured, profile = told(*BENCH), told(*PROFILE)
    content = {
        "version": taichi_avatars.__version__,
        "machine": measured["machine"],
        "libraries": {name: version(name) for name in LIBRARIES},
        "figures": figures(measured, profile),
    }
    HISTORY.mkdir(exist_ok=True)
    path = HISTORY / f"{taichi_avatars.__version__}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(table({path.stem: content}))


def told(*command: str) -> dict[str, Any]:
    """The JSON output of a command of the package."""
    done = subprocess.run([sys.executable, "-m", "taichi_avatars", *command, "--json"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def figures(measured: dict[str, Any], profile: dict[str, Any]) -> dict[str, float]:
    """Name with unit -> value."""
    found = {}
    for row in measured["protocol"]:
        found[f"frames of {row['gaussians']} Gaussians, per second"] = round(row["fps"], 2)
    for row in measured["kernels"]:
        what = f"dense scene of {row['gaussians']} Gaussians"
        found[f"{what}: forward, ms"] = round(row["forward"]["median_ms"], 2)
        found[f"{what}: forward and backward, ms"] = round(row["forward_backward"]["median_ms"], 2)
        if row["peak_memory_bytes"] is not None:
            found[f"{what}: peak memory, MiB"] = round(row["peak_memory_bytes"] / 2**20, 1)
    for name, unit in profile.items():
        if isinstance(unit, dict) and "stages" in unit:
            found[f"profile: {name}, ms"] = round(unit["plain_ms"] or unit["ms"], 2)
    return found


def table(releases: dict[str, dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for release in releases.values() for name in release["figures"]))
    width = max(map(len, names), default=0)
    lines = [f"{version:12} {json.dumps(release['machine'])}" for version, release in releases.items()]
    lines += ["", " ".join([f"{'':{width}}", *(f"{version:>10}" for version in releases)])]
    for name in names:
        values = [release["figures"].get(name) for release in releases.values()]
        lines.append(" ".join([f"{name:{width}}", *(f"{'' if value is None else value:>10}" for value in values)]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
