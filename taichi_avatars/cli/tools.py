"""`bench`, `info` and `convert-flame`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Head, Session, command, pixels

if TYPE_CHECKING:
    from rich.console import RenderableType


def add_to(app: typer.Typer) -> None:
    command(app, "Tools")(info)
    command(app, "Tools")(bench)
    command(app, "Tools")(convert_flame)


def info(
    session: Session,
    *,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder or file.")],
) -> None:
    """Say what a folder or file is, and whether it is whole: capture, avatar, FLAME file, motion.

    Lists everything that is wrong, each with the file and what to do. Exit code 1 where something is.
    """
    from rich.text import Text

    from taichi_avatars.outputs.info import describe, text

    described = describe(path)
    session.result(described, Text(text(described)))
    if not described["whole"]:
        raise typer.Exit(1)


def bench(
    session: Session,
    *,
    gaussians: Annotated[int, typer.Option(min=1, help="Gaussians of the test scene and of the example avatar.")] = 100_000,
    size: Annotated[str, typer.Option(metavar="WxH", help="Picture, pixels.")] = "550x802",
    repeats: Annotated[int, typer.Option(min=1, help="Runs of which the median is taken.")] = 9,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", metavar="MODEL", help="Time this avatar.", show_default="an example")
    ] = None,
    head: Head = None,
) -> None:
    """Measure speed: the rasterizer on a dense scene of a head's size, and frames per second of an avatar.

    The scene is a shell of random Gaussians that fills the picture, SH degree 3; a pair is one Gaussian at one pixel.
    Frames per second include the update of the FLAME head, as in the published numbers. CPU time counts all threads.
    """
    width, height = pixels("--size", size)
    from taichi_avatars import bench as benches
    from taichi_avatars.outputs.model import load_model

    session.say("timing the kernels (the first run compiles them) ...")
    kernels = benches.bench_kernels(gaussians, width, height, repeats, session.seed or 0)
    session.say("timing an avatar ...")
    avatar = load_model(model, head=head).avatar if model else benches.example_avatar(gaussians, session.seed or 0)
    frames = benches.bench_avatar(avatar, benches.in_front_of(avatar, width, height))
    values = {"machine": benches.machine(), "kernels": kernels, "avatar": {"which": str(model or "example"), **frames}}
    session.result(values, _times(values))


def convert_flame(
    session: Session,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE.pkl", help="FLAME model as its authors distribute it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE.npz", show_default="beside FILE.pkl")] = None,
    landmarks: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="landmark_embedding_with_eyes.npy, to include.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="FILE.pkl", help="FLAME_masks.pkl, to include.")] = None,
) -> None:
    """Write a FLAME pickle as a plain npz, without running what is in the pickle.

    The npz has the same keys and is read everywhere where the pickle is.

    Example: taichi-avatars convert-flame flame2023.pkl
    """
    from taichi_avatars.head.assets import convert_flame as convert

    written = convert(file, out or file.with_suffix(".npz"), landmarks, masks)
    session.result({"file": str(written)}, f"{written}")


def _times(values: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    kernels, avatar, machine = values["kernels"], values["avatar"], values["machine"]
    title = (
        f"{kernels['gaussians']} Gaussians, {kernels['width']} x {kernels['height']}, SH degree 3, "
        f"{kernels['pairs'] / 1e6:.0f} M pairs"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("median", "least", "CPU time", "pairs per second"):
        table.add_column(heading, justify="right")
    rows = (("forward", kernels["forward"]), ("forward and backward", kernels["forward_backward"]))
    for name, timing in rows:
        rate = f"{kernels['pairs'] / timing['median_ms'] / 1e6:.2f} G"
        table.add_row(name, *(f"{timing[key]:.1f} ms" for key in ("median_ms", "min_ms", "cpu_ms")), rate)
    line = (
        f"avatar ({avatar['which']}, {avatar['gaussians']} Gaussians, FLAME update included): "
        f"{avatar['fps']:.1f} frames per second at {avatar['width']} x {avatar['height']}"
    )
    return Group(table, line, f"{machine['processor']}, {machine['threads']} threads")
