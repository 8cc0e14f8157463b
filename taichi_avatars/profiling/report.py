"""A recording as figures: by stage and by kernel, per training step or frame."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from taichi_avatars.profiling.stages import AUTOGRAD, BACKWARD, ORDER, OTHER, Recording

if TYPE_CHECKING:
    from taichi_avatars.profiling.peaks import Peaks

# Arithmetic per pair of a Gaussian and a pixel, counted in `kernels.splat_cpu`: `blend` with its exponent (6) and exp (13);
# `blend_adjoint` with the same, the division as one, and its share of `reduce_sums` (half an operation).
OPERATIONS = {"composite": 33.0, "composite_adjoint": 62.0}


def summary(recording: Recording, pixels: int, peaks: Peaks | None, plain_ms: float | None = None) -> dict[str, object]:
    """Means per unit (training step or frame).

    Args:
        pixels: of the image.
        plain_ms: milliseconds of a unit that was not recorded.

    Returns:
        "units", "ms", "plain_ms", "launches", "kernel_ms" (of all kernels), "pairs", "pairs_per_pixel",
        "stages": in the order of a step, each "stage", "ms" (its own), "share" (of the unit), "kernel_ms", "launches";
        "kernels": the longest first, each "kernel", "stage", "ms", "share", "launches", "gb_per_second" (bytes of the tensors
        that it was given, each counted once), and for compositing "pairs_per_second" and "gflop_per_second"; "of_peak", of
        arithmetic for compositing, else of memory (above 1 where the tensors stay in the caches).
    """
    units = max(len(recording.units), 1)
    whole = 1e3 * sum(end - begin for begin, end in recording.units) / units
    pairs = sum(recording.pairs) / units
    kernels = _kernels(recording, units, whole, pairs, peaks)
    return {
        "units": len(recording.units),
        "ms": whole,
        "plain_ms": plain_ms,
        "launches": len(recording.launches) / units,
        "kernel_ms": sum(kernel["ms"] for kernel in kernels),
        "pairs": pairs,
        "pairs_per_pixel": pairs / pixels,
        "stages": _stages(recording, units, whole),
        "kernels": kernels,
    }


def _stages(recording: Recording, units: int, whole: float) -> list[dict]:
    own, kernel, launches = defaultdict[str, float](float), defaultdict[str, float](float), defaultdict[str, int](int)
    for span in recording.spans:
        own[span.stage] += 1e3 * span.own / units
    for launch, stage in recording.launches:
        kernel[stage] += 1e3 * (launch.end - launch.begin) / units
        launches[stage] += 1
    own[OTHER] += whole - sum(own.values())
    backward = [f"{stage} {BACKWARD}" for stage in reversed(ORDER)]
    order = [*ORDER[: ORDER.index("Adam")], AUTOGRAD, *backward, *ORDER[ORDER.index("Adam") :], OTHER]
    return [
        {
            "stage": stage,
            "ms": own[stage],
            "share": own[stage] / whole,
            "kernel_ms": kernel[stage],
            "launches": launches[stage] / units,
        }
        for stage in order
        if stage in own
    ]


def _kernels(recording: Recording, units: int, whole: float, pairs: float, peaks: Peaks | None) -> list[dict]:
    found = defaultdict[tuple[str, str], list](list)
    for launch, stage in recording.launches:
        found[launch.kernel, stage].append(launch)
    rows = []
    for (kernel, stage), launches in found.items():
        seconds = sum(launch.end - launch.begin for launch in launches) / units
        gb = sum(launch.memory for launch in launches) / units / seconds / 1e9
        row = {
            "kernel": kernel,
            "stage": stage,
            "ms": 1e3 * seconds,
            "share": 1e3 * seconds / whole,
            "launches": len(launches) / units,
            "gb_per_second": gb,
            "of_peak": gb / peaks.memory_gb_s if peaks else None,
        }
        if kernel in OPERATIONS:
            rate = OPERATIONS[kernel] * pairs / seconds / 1e9
            of_peak = rate / peaks.fma_gflop_s if peaks else None
            row |= {"pairs_per_second": pairs / seconds, "gflop_per_second": rate, "of_peak": of_peak}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["ms"])
