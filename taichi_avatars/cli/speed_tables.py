"""Results of `bench` and `profile` as tables."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

SMALLEST_SHARE = 0.002  # of a step: kernels below this share one row


def text(table: RenderableType) -> str:
    """A table as plain text, for a log."""
    file = io.StringIO()
    Console(file=file, width=120).print(table)
    return file.getvalue().rstrip()


def of_bench(values: dict[str, Any]) -> RenderableType:
    machine = values["machine"]
    parts: list[RenderableType] = []
    if "protocol" in values:
        parts.append(_protocol(values["protocol"]))
    if "kernels" in values:
        parts.append(_kernels(values["kernels"]))
    if "baselines" in values:
        parts.append(_baselines(values["baselines"]))
    parts += [_limit(limit) for limit in values.get("limit", [])]
    return Group(*parts, f"{machine['processor']}, {machine['backend']}, {machine['threads']} threads")


def of_profile(values: dict[str, Any]) -> RenderableType:
    peaks, machine = values["peaks"], values["machine"]
    parts: list[RenderableType] = []
    for name in (name for name in values if name not in ("machine", "peaks")):
        parts += [_stages(name, values[name]), _kernel_list(values[name])]
    if peaks:
        parts.append(
            f"peak of all threads together: memory {peaks['memory_gb_s']:.1f} GB/s, arithmetic {peaks['fma_gflop_s']:.0f} "
            f"GFLOP/s; a launch costs {peaks['launch_us']:.0f} us"
        )
    return Group(*parts, f"{machine['processor']}, {machine['backend']}, {machine['threads']} threads")


def _table(texts: Iterable[str], numbers: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _protocol(rows: list[dict[str, Any]]) -> RenderableType:
    title = "Rendering, FLAME update included (published protocol)"
    table = _table(("avatar",), ("Gaussians", "picture", "pairs/pixel", "frames/s", "CPU", "rounds"))
    for row in rows:
        rounds = " ".join(f"{rate:.1f}" for rate in row["rounds"])
        table.add_row(
            row["which"], f"{row['gaussians']}", f"{row['width']}x{row['height']}",
            f"{row['pairs_per_pixel']:.0f}", f"{row['fps']:.1f}", f"{row['cpu_ms']:.0f} ms", f"{rounds} of {row['frames']}",
        )  # fmt: skip
    return Group(title, "", table, "")


def _kernels(rows: list[dict[str, Any]]) -> RenderableType:
    headings = ("Gaussians", "picture", "pairs", "forward", "+ backward", "pairs/s", "backward", "memory")
    title = "Rasterizer on a dense scene, SH degree 3; pairs/s of the compositing kernels alone"
    table = _table((), headings)
    for row in rows:
        memory = row["peak_memory_bytes"]
        rates = (f"{row['compositing'][way]['pairs_per_second'] / 1e9:.2f} G" for way in ("forward", "backward"))
        table.add_row(
            f"{row['gaussians']}", f"{row['width']}x{row['height']}", f"{row['pairs'] / 1e6:.0f} M",
            f"{row['forward']['median_ms']:.1f} ms", f"{row['forward_backward']['median_ms']:.1f} ms", *rates,
            "not known" if memory is None else f"{memory / 1e6:.0f} MB",
        )  # fmt: skip
    return Group(title, "", table, "")


def _baselines(rows: list[dict[str, Any]]) -> RenderableType:
    title = "Against plain torch"
    table = _table(("baseline", ""), ("Gaussians", "picture", "theirs", "ours", "ratio"))
    for row in rows:
        for way, name in (("forward", "forward"), ("forward_backward", "+ backward")):
            found = row[way]
            table.add_row(
                row["name"], name, f"{row['gaussians']}", f"{row['width']}x{row['height']}",
                f"{found['theirs_ms']:.0f} ms", f"{found['ours_ms']:.1f} ms", f"{found['ratio']:.0f}x",
            )  # fmt: skip
    return Group(title, "", table, "")


def _limit(values: dict[str, Any]) -> RenderableType:
    title = (
        f"Compositing against hand-written C++: {values['gaussians']} Gaussians, {values['width']}x{values['height']}, "
        f"{values['pairs'] / 1e6:.0f} M pairs, {values['lanes']} lanes"
    )
    headings = ("ours", "C++", "share", "tile", "one thread, CPU: ours", "C++", "share")
    table = _table(("",), headings)
    for way in ("forward", "backward"):
        ours, best = values[way]["ours"], values[way]["limit"]
        table.add_row(
            way, f"{ours['ms']:.1f} ms", f"{best['ms']:.1f} ms", f"{100 * values[way]['share']:.0f}%", best["tile"],
            f"{ours['cpu_ms']:.1f} ms", f"{best['cpu_ms']:.1f} ms", f"{100 * values[way]['share_one_thread']:.0f}%",
        )  # fmt: skip
    return Group(title, "", table, "")


def _stages(name: str, values: dict[str, Any]) -> RenderableType:
    plain = f", {values['plain_ms']:.1f} ms without recording" if values["plain_ms"] else ""
    title = (
        f"One {name}: {values['ms']:.1f} ms (mean of {values['units']}{plain})\n{values['gaussians']} Gaussians, "
        f"{values['width']}x{values['height']}, {values['pairs_per_pixel']:.0f} pairs per pixel"
    )
    table = _table(("stage",), ("ms", "share", "in kernels", "launches"))
    for row in values["stages"]:
        in_kernels = f"{row['kernel_ms']:.2f}" if row["launches"] else ""
        launches = f"{row['launches']:.0f}" if row["launches"] else ""
        table.add_row(row["stage"], f"{row['ms']:.2f}", f"{100 * row['share']:.1f}%", in_kernels, launches)
    table.add_section()
    table.add_row("all", f"{values['ms']:.2f}", "100%", f"{values['kernel_ms']:.2f}", f"{values['launches']:.0f}")
    return Group(title, "", table, "")


def _kernel_list(values: dict[str, Any]) -> RenderableType:
    headings = ("ms", "share", "runs", "GB/s", "pairs/s", "peak")
    table = _table(("kernel", "stage"), headings)
    small = [row for row in values["kernels"] if row["share"] < SMALLEST_SHARE]
    for row in values["kernels"]:
        if row in small:
            continue
        pairs = row.get("pairs_per_second")
        table.add_row(
            row["kernel"], row["stage"], f"{row['ms']:.2f}", f"{100 * row['share']:.1f}%", f"{row['launches']:.0f}",
            f"{row['gb_per_second']:.1f}", f"{pairs / 1e9:.2f} G" if pairs else "",
            "" if row["of_peak"] is None else f"{100 * row['of_peak']:.0f}%",
        )  # fmt: skip
    if small:
        total, share, launches = (sum(row[key] for row in small) for key in ("ms", "share", "launches"))
        table.add_row(f"{len(small)} others", "", f"{total:.2f}", f"{100 * share:.1f}%", f"{launches:.0f}")
    return Group(table, "")
