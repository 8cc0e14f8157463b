"""`create`: from a video of a face to an avatar, measured and filmed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Label, Session, command
from taichi_avatars.cli.endings import decibels, facts
from taichi_avatars.cli.track import Face, Focal, Fps, Test, Videos

if TYPE_CHECKING:
    from rich.console import RenderableType

WORK = "Avatar and films"
CONSENT = "Film only people who agree. The video stays on this machine: nothing is sent, nothing is downloaded."


def add_to(app: typer.Typer) -> None:
    command(app, "Your own face")(create)


def create(
    session: Session,
    *,
    videos: Videos,
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="MODEL", help="Folder for the avatar and everything about it."),
    ],
    face: Face = 1,
    fps: Fps = 30.0,
    focal: Focal = None,
    test: Test = 0.1,
    size: Annotated[int, typer.Option(rich_help_panel=WORK, min=64, help="Longer side of the pictures, pixels.")] = 512,
    iterations: Annotated[int, typer.Option(rich_help_panel=WORK, min=1, help="Steps of the training.")] = 2_500,
    turntable: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=WORK,
            min=0,
            max=180,
            metavar="DEGREES",
            help="How far turntable.mp4 goes to each side.",
            show_default="as far as the video saw",
        ),
    ] = None,
    label: Label = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where the same command was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the avatar that MODEL holds.")] = False,
) -> None:
    """An avatar from a video of a face: track, train, refine the tracking by the pictures, train again, measure, film.

    Half a minute of one person is enough, see docs/filming.md; `info VIDEO` says before what a video lacks. MODEL then holds
    the avatar, the capture it was trained on, comparison.png, reenactment.mp4 (the end of the video, which training never saw,
    beside the avatar), turntable.mp4 and create.json. Nothing is downloaded and nothing is sent. Film only people who agree.

    Example: taichi-avatars create me.mp4 -m output/me
    """
    from taichi_avatars.create import Work
    from taichi_avatars.create import create as run
    from taichi_avatars.evaluation.lpips import load_lpips
    from taichi_avatars.evaluation.lpips_weights import MissingWeights
    from taichi_avatars.tracking.track import Settings

    session.say(CONSENT)
    try:
        perceptual = [load_lpips("alex")]
    except MissingWeights:
        perceptual = []
    result = run(
        videos,
        model,
        Settings(rate=fps, focal=focal, face=face, test=test),
        Work(size=size, iterations=iterations),
        session.progress,
        resume=resume,
        overwrite=overwrite,
        aside=turntable,
        label=label,
        perceptual=perceptual,
        seed=session.seed or 0,
    )
    session.result(result, _story(result, model))


def _story(result: dict[str, Any], model: Path) -> RenderableType:
    """The table and the paths that it ends with, what the videos lack, and what to do next."""
    from rich.console import Group
    from rich.table import Table

    parts: list[RenderableType] = []
    if held := result.get("held_out"):
        title = f"{held['frames']} frames at the end of the video, which training never saw"
        table = Table(title=title, title_justify="left")
        table.add_column("FLAME parameters")
        for heading in ("PSNR", "SSIM", "LPIPS", "PSNR of the mouth", "of the eyes"):
            table.add_column(heading, justify="right")
        for name, words in (("tracked", "tracked by landmarks"), ("refined", "refined by the pictures")):
            of = held[name]
            lpips = f"{of['lpips']:.4f}" if "lpips" in of else "-"
            mouth, eyes = decibels(of.get("psnr_mouth")), decibels(of.get("psnr_eyes"))
            table.add_row(words, decibels(of["psnr"]), f"{of['ssim']:.4f}", lpips, mouth, eyes)
        parts.append(table)
    seconds, files, turn = result["seconds"], result["files"], result["turntable"]
    shown = f"{files['turntable']} ({_swing(**turn)})"
    where = shlex.quote(str(model))
    rows = [("time", f"{seconds['total']:.0f} s"), ("Gaussians", f"{result['gaussians']}"), ("look around", shown)]
    if held:
        rows[2:2] = [("watch", files["reenactment"]), ("look at", files["comparison"])]
    rows += [("tracking", f"{files['capture']}/tracking.mp4"), ("numbers", files["results"])]
    rows += [("better", text) for text in dict.fromkeys(t for video in result["videos"] for t in video["shows"]["lacks"])]
    rows += [
        ("next", f"taichi-avatars view {where}"),
        ("", f"taichi-avatars export -m {where} --format web -o site"),
        ("", f"taichi-avatars reenact -m {where} --motion ANOTHER"),
    ]
    return Group(*parts, facts(rows))


def _swing(left: float, right: float) -> str:
    if left > 0 and right > 0:
        return f"{left:.0f} degrees to the left, {right:.0f} to the right"
    near, far, side = (-right, left, "left") if right <= 0 else (-left, right, "right")
    return f"{near:.0f} to {far:.0f} degrees to the {side}"
