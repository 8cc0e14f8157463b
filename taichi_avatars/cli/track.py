"""`track`: from a video of a face to a capture that can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Session, command

if TYPE_CHECKING:
    from rich.console import RenderableType

VIDEO, CAPTURE = "Video", "Capture"
# Options that `create` has too.
Videos = Annotated[
    list[Path], typer.Argument(metavar="VIDEO...", help="Videos of one person, or folders of pictures.", show_default=False)
]
Face = Annotated[
    int, typer.Option(rich_help_panel=VIDEO, min=1, help="Of several faces: 1 moves, is large and seen longest, 2 is next.")
]
Fps = Annotated[float, typer.Option(rich_help_panel=VIDEO, min=1, help="Pictures a second that are used at most.")]
Focal = Annotated[
    float | None,
    typer.Option(
        rich_help_panel=VIDEO, min=1, help="Focal length in pixels of the video.", show_default="the file's, or estimated"
    ),
]
Test = Annotated[float, typer.Option(rich_help_panel=CAPTURE, min=0, max=0.9, help="Share at the end that is held out.")]


def add_to(app: typer.Typer) -> None:
    command(app, "Your own face")(track)


def track(
    session: Session,
    *,
    videos: Videos,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="CAPTURE", help="Folder to write.")],
    face: Face = 1,
    fps: Fps = 30.0,
    focal: Focal = None,
    test: Test = 0.1,
    size: Annotated[int, typer.Option(rich_help_panel=CAPTURE, min=64, help="Longer side of the pictures, pixels.")] = 720,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where the same command was interrupted.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever CAPTURE is.")] = False,
) -> None:
    """Track the face in a video: a capture of the built-in head that `train` takes.

    CAPTURE holds the head cut out of the pictures, its parameters in every frame (motion.npz drives avatars), tracking.json
    (what was found, how well, what the video lacks) and tracking.mp4 (mesh and landmarks over the video: look at it).
    Nothing is downloaded and nothing is sent. Film only people who agree.

    Example: taichi-avatars track me.mp4 -o output/me/capture
    """
    from taichi_avatars.tracking.track import Settings, track

    settings = Settings(rate=fps, focal=focal, face=face, test=test, size=size)
    report = track(videos, out, settings, session.progress, resume=resume, force=force)
    session.result(report | {"capture": str(out)}, _table(report, out))


def _table(report: dict[str, Any], out: Path) -> RenderableType:
    lines = []
    for video in report["videos"]:
        used, focal, shows = video["used"], video["focal"], video["shows"]
        doubt = f", give or take {focal['doubt']:.0%}: give --focal if you know it" if focal["doubt"] else ""
        lines += [
            f"{video['path']}: {video['pictures']} pictures, {used['train']} to train, {used['test']} held out, "
            f"{used['dropped']} dropped",
            f"  landmarks fit to {video['residual']} pixels; focal length {focal['pixels']} pixels ({focal['from']}{doubt})",
            f"  seen from {shows['yaw'][0]:.0f} to {shows['yaw'][1]:.0f} degrees to the sides, "
            f"{shows['pitch'][0]:.0f} to {shows['pitch'][1]:.0f} up and down",
            *(f"  better: {text}" for text in shows["lacks"]),
        ]
    lines += [f"{out / 'tracking.mp4'}: see whether the mesh sits", f"next: taichi-avatars train -s {out} -m MODEL"]
    return "\n".join(lines)
