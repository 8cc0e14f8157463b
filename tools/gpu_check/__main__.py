"""Checks the package on a real GPU in one command: kernel tests, training, speed, profile. At most eight minutes, no network.

    python tools/gpu_check [--device cuda] [--wheels FOLDER] [--minutes 8] [--out output/gpu_check]

Needs torch. The package's other requirements come from the environment, or from a folder of wheels:

    pip download --no-deps -d FOLDER taichi==1.7.4 numpy roma plyfile typer pydantic pydantic_core annotated_types \
        typing_inspection pillow scipy filelock pytest pluggy iniconfig rich click shellingham pygments markdown_it_py mdurl

Writes OUT/gpu_check.json and prints a table. What fails is reported and the others still run; the exit status tells. Without a
GPU it is rehearsed on Vulkan's software driver, with less of everything: --device vulkan --quick (Debian: mesa-vulkan-drivers).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = (
    "gpu",
    *(f"kernels/test_{name}.py" for name in ("binding", "frames", "skinning", "splat", "splat_extremes", "ssim", "mesh")),
)
CAPTURE = ("--width", "138", "--height", "200", "--timesteps", "6", "--test-timesteps", "2", "--cameras", "6")
LONGEST_SHARE = 0.5  # of the time, that one stage may take


class Amount(NamedTuple):
    """How much of everything: a GPU does the first in minutes, a software driver the second."""

    steps: str
    start_gaussians: str
    kernel_gaussians: tuple[str, ...]
    kernel_size: str
    frames: str


FULL = Amount("300", "20000", ("10000", "100000", "500000"), "550x802", "100")
QUICK = Amount("20", "2000", ("1000", "10000"), "138x200", "5")
LAST_LINES = 15  # of what a failed stage said


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cuda", "vulkan"), default="cuda")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install from, without network")
    parser.add_argument("--quick", action="store_true", help="less of everything, for a driver without a GPU")
    parser.add_argument("--minutes", type=float, default=8.0, help="what is not begun by then is left out")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "gpu_check")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    check = Check(options.device, options.out.resolve(), 60.0 * options.minutes)
    amount = QUICK if options.quick else FULL
    check.results["machine"] = {"device": options.device, "python": platform.python_version(), **_gpu()}
    if options.wheels:
        check.install(options.wheels.resolve())
    check.stage("kernel tests", "-m", "pytest", "-q", "--device", check.device, *(f"tests/{name}" for name in TESTS))
    capture, model, cuda = check.out / "capture", check.out / "model", ("--device", check.device)
    # the subject's hair is drawn on the CPU alone
    check.command("capture", "synth", str(capture), "--force", "--device", "cpu", *CAPTURE)
    check.command(
        *("training", "train", "-s", str(capture), "-m", str(model), "--overwrite", "--iterations", amount.steps, "--json"),
        *("--head", "builtin", "--start-gaussians", amount.start_gaussians, "-w", *cuda),
    )
    check.command("scores", "eval", "-m", str(model), "--lpips", "none", "--json", *cuda)
    size = "--size", amount.kernel_size
    for count in amount.kernel_gaussians:
        check.command(f"kernels {count}", "bench", "--kernels", "-n", count, *size, "--json", *cuda)
    check.command("frames", "bench", "--protocol", "--frames", amount.frames, *size, "--json", *cuda)
    check.command("profile", "profile", "--steps", "2" if options.quick else "10", *size, "--json", *cuda)
    if not options.quick:
        check.command("baselines", "bench", "--baselines", "--json", *cuda)
    (check.out / "gpu_check.json").write_text(json.dumps(check.results, indent=2) + "\n", encoding="utf-8")
    print(check.table())
    print(f"\n{check.out / 'gpu_check.json'}")
    return 0 if all(stage["ok"] for stage in check.results["stages"].values()) else 1


class Check:
    """Stages in processes of their own, so that one that crashes the driver's process does not end the others.

    Attributes:
        results: what goes into the JSON file.
    """

    def __init__(self, device: str, out: Path, seconds: float) -> None:
        self.device, self.out = device, out
        self._deadline, self._longest = time.monotonic() + seconds, LONGEST_SHARE * seconds
        self.results: dict[str, Any] = {"stages": {}}
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def install(self, wheels: Path) -> None:
        """Unpacks the wheels into a folder of their own, beside the environment and before it."""
        site = self.out / "site"
        files = sorted(map(str, wheels.glob("*.whl")))
        arguments = ("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--upgrade", "--target", str(site), *files)
        self.stage("installation", *arguments)
        self._environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{site}"

    def command(self, name: str, *arguments: str) -> None:
        """A command line of the package; what it prints as JSON is kept."""
        self.stage(name, "-m", "taichi_avatars", *arguments)

    def stage(self, name: str, *arguments: str) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            self.results["stages"][name] = {"ok": False, "seconds": 0.0, "said": "no time was left"}
            return
        left = min(left, self._longest)
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            done = subprocess.run(
                [sys.executable, *arguments], cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=left
            )
            ok, out, said = done.returncode == 0, done.stdout, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            ok, out, said = False, "", f"was stopped after {left:.0f} s"
        found: dict[str, Any] = {"ok": ok, "seconds": round(time.monotonic() - began, 1)}
        try:
            found["values"] = json.loads(out)
        except ValueError:
            found["said"] = "\n".join(said.strip().splitlines()[-LAST_LINES:])
        self.results["stages"][name] = found

    def table(self) -> str:
        """Every stage with its time and its main figures; what failed with its last words."""
        rows = [f"{name:16} {value}" for name, value in self.results["machine"].items()]
        rows.append(f"\n{'stage':16} {'':6} {'s':>6}  figures")
        for name, found in self.results["stages"].items():
            figures = _figures(name, found.get("values", {})) if found["ok"] else ""
            if not figures:
                figures = (found.get("said", "").splitlines() or [""])[-1]
            rows.append(f"{name:16} {'ok' if found['ok'] else 'FAILED':6} {found['seconds']:6.1f}  {figures}")
        return "\n".join(rows)


def _figures(name: str, values: dict[str, Any]) -> str:
    """The line of the table for a stage's values."""
    if name.startswith("kernels"):
        (row,) = values["kernels"]
        rates = [row["compositing"][way]["pairs_per_second"] / 1e9 for way in ("forward", "backward")]
        memory = row["peak_memory_bytes"]
        return (
            f"forward {row['forward']['median_ms']:.2f} ms, with backward {row['forward_backward']['median_ms']:.2f} ms; "
            f"{rates[0]:.2f} and {rates[1]:.2f} G pairs/s" + (f"; {memory / 2**20:.0f} MiB" if memory is not None else "")
        )
    if name == "frames":
        return "; ".join(f"{row['gaussians']} Gaussians {row['fps']:.1f} frames/s" for row in values["protocol"])
    if name == "baselines":
        return "; ".join(
            f"{row['name']}: {row['forward']['ratio']:.1f} and {row['forward_backward']['ratio']:.1f} times our time"
            for row in values["baselines"]
        )
    if name == "scores":
        return "; ".join(f"{split} {found['psnr']:.2f} dB" for split, found in values.items() if isinstance(found, dict))
    if name == "profile":
        return "; ".join(
            f"{what} {found['plain_ms'] or found['ms']:.1f} ms"
            for what, found in values.items()
            if isinstance(found, dict) and "stages" in found
        )
    return ""


def _gpu() -> dict[str, str]:
    """What is there, as far as torch and the driver tell."""
    import torch

    found = {"torch": torch.__version__}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "cuda": torch.version.cuda or "",
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
