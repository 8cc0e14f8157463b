"""`demo` and `synth`: the built-in subject."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Session, command, one_of
from taichi_avatars.cli.endings import decibels, facts
from taichi_avatars.errors import UserError
from taichi_avatars.synthetic.defaults import (
    CAMERAS,
    HEIGHT,
    SELFIE_FPS,
    SELFIE_SECONDS,
    SELFIE_SIZE,
    SUPERSAMPLE,
    TEST_TIMESTEPS,
    TIMESTEPS,
    WIDTH,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

DEMO_OUT = Path("output/demo")
SCENE, PICTURES, TRACKING, SELFIE = "Who and what", "Pictures", "Tracking", "One camera in a hand"


def add_to(app: typer.Typer) -> None:
    command(app, "Start here")(demo)
    command(app, "Start here")(synth)


def demo(
    session: Session,
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for everything; that of an earlier demo is replaced.")
    ] = DEMO_OUT,
    quality: Annotated[
        str, typer.Option(metavar="fast|full", help="fast: minutes, small images; full: an hour or two, NeRSemble's size.")
    ] = "fast",
) -> None:
    """Everything in one run: film the built-in subject, train its avatar, measure it, drive it.

    Needs nothing but this package: no data, no GPU, no FLAME file. Ends with a table (PSNR and SSIM on cameras and on
    expressions that training never saw), reenactment.mp4 (another motion, an orbiting camera) and comparison.png
    (truth, avatar, error, mesh).
    """
    one_of("--quality", quality, ("fast", "full"))
    from taichi_avatars.demo import run_demo

    result = run_demo(out, quality, session.progress, seed=session.seed or 0)
    session.result(result, _story(result))


def synth(
    session: Session,
    *,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; an earlier one of this kind is replaced.")],
    timesteps: Annotated[int, typer.Option(rich_help_panel=SCENE, min=1, help="Timesteps for training.")] = TIMESTEPS,
    test_timesteps: Annotated[
        int, typer.Option(rich_help_panel=SCENE, min=0, help="Held-out timesteps, with other expressions.")
    ] = TEST_TIMESTEPS,
    cameras: Annotated[int, typer.Option(rich_help_panel=SCENE, min=1, help="Cameras; the frontal one is held out.")] = CAMERAS,
    width: Annotated[
        int | None,
        typer.Option(rich_help_panel=PICTURES, min=1, help="Pixels.", show_default=f"{WIDTH}, of a selfie {SELFIE_SIZE[0]}"),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(rich_help_panel=PICTURES, min=1, help="Pixels.", show_default=f"{HEIGHT}, of a selfie {SELFIE_SIZE[1]}"),
    ] = None,
    supersample: Annotated[
        int, typer.Option(rich_help_panel=PICTURES, min=1, help="Samples per pixel along each axis.")
    ] = SUPERSAMPLE,
    rgba: Annotated[
        bool, typer.Option("--rgba", rich_help_panel=PICTURES, help="Transparent images instead of white behind the head.")
    ] = False,
    tracking_error: Annotated[
        bool, typer.Option(rich_help_panel=TRACKING, help="Write FLAME parameters with the small errors of a real tracker.")
    ] = True,
    selfie: Annotated[
        bool, typer.Option("--selfie", rich_help_panel=SELFIE, help="Write video.mp4 and truth/ instead of a capture.")
    ] = False,
    seconds: Annotated[float, typer.Option(rich_help_panel=SELFIE, min=0, help="Of the video.")] = SELFIE_SECONDS,
    fps: Annotated[int, typer.Option(rich_help_panel=SELFIE, min=1, help="Frames per second.")] = SELFIE_FPS,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT, whatever it is.")] = False,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="builtin|FILE",
            help="Head of the subject: a FLAME file (.pkl, .npz) or GNM's npz.",
            show_default="builtin",
        ),
    ] = None,
) -> None:
    """Film the built-in subject: a capture as a tracker such as VHAP exports it, or a selfie video.

    OUT holds images, masks, cameras (transforms_train/val/test.json) and FLAME parameters per timestep, and beside them
    hair masks and, in truth/, a capture of the same images without tracking errors. Another --seed is another person.

    With --selfie, one hand-held camera films the subject at home: OUT holds video.mp4, as a tracker would be given, and in
    truth/ the capture that a perfect tracker would make of it.

    With --head, the same subject has another head: its face, hair, skin and performance are carried over.

    Example: taichi-avatars synth capture --seed 3

    Example: taichi-avatars synth me --selfie
    """
    if selfie:
        if head not in (None, "builtin"):
            raise UserError("--head: a selfie is filmed on the built-in head; leave --head or --selfie out")
        chosen = (width or SELFIE_SIZE[0], height or SELFIE_SIZE[1])
        return _selfie(session, out, chosen, seconds, fps, supersample, force)
    from taichi_avatars.head.assets import resolve_head
    from taichi_avatars.synthetic.capture import write_capture

    model = resolve_head(head or "builtin")
    with session.progress("capture", (timesteps + test_timesteps) * cameras, "images") as shown:
        write_capture(
            out,
            head=model,
            seed=session.seed or 0,
            width=width or WIDTH,
            height=height or HEIGHT,
            timesteps=timesteps,
            test_timesteps=test_timesteps,
            cameras=cameras,
            tracking_error=tracking_error,
            rgba=rgba,
            supersample=supersample,
            force=force,
            progress=lambda done, total: shown.update(done, total),
        )
    images = (timesteps + test_timesteps) * cameras
    of_head = "" if head in (None, "builtin") else f" --head {shlex.quote(head)}"
    train = f"taichi-avatars train -s {shlex.quote(str(out))} -m output/subject{'' if rgba else ' -w'}{of_head}"
    values = {"capture": str(out), "images": images, "cameras": cameras, "timesteps": timesteps + test_timesteps}
    session.result(values, f"{out}: {images} images; train on it with: {train}")


def _selfie(
    session: Session, out: Path, size: tuple[int, int], seconds: float, fps: int, supersample: int, force: bool
) -> None:
    from taichi_avatars.video.selfie import write_selfie

    frames = max(1, round(seconds * fps))
    with session.progress("selfie", frames, "frames") as shown:
        write_selfie(
            out,
            seed=session.seed or 0,
            width=size[0],
            height=size[1],
            seconds=seconds,
            fps=fps,
            supersample=supersample,
            force=force,
            progress=lambda done, total: shown.update(done, total),
        )
    video, truth = out / "video.mp4", out / "truth"
    values = {"video": str(video), "truth": str(truth), "frames": frames, "fps": fps}
    mine = f"taichi-avatars create {shlex.quote(str(video))} -m output/selfie"
    train = f"taichi-avatars train -s {shlex.quote(str(truth))} -m output/truth"
    session.result(values, f"{video}: {frames} frames\nan avatar from it: {mine}\none of the true parameters: {train}")


def _story(result: dict[str, Any]) -> RenderableType:
    """The table and the paths at the end of the demonstration."""
    from rich.console import Group
    from rich.table import Table

    table = Table(title="Avatar of the built-in subject, on views that training never saw", title_justify="left")
    table.add_column("")
    for heading in ("PSNR", "SSIM", "PSNR in the hair", "of the mouth", "of the eyes"):
        table.add_column(heading, justify="right")
    for name, words in (
        ("novel_view", "novel views (held-out camera)"),
        ("self_reenactment", "self-reenactment (held-out expressions)"),
    ):
        scores = result[name]
        parts = [scores.get(f"psnr_{part}") for part in ("hair", "mouth", "eyes")]
        table.add_row(words, decibels(scores["psnr"]), f"{scores['ssim']:.4f}", *map(decibels, parts))
    seconds, files = result["seconds"], result["files"]
    rows = [
        ("training", f"{seconds['train']:.0f} s (capture {seconds['capture']:.0f} s, everything {seconds['total']:.0f} s)"),
        ("rendering", f"{result['fps']:.1f} frames per second, FLAME included"),
        ("Gaussians", f"{result['gaussians']}"),
        ("watch", files["reenactment"]),
        ("look at", files["comparison"]),
        ("avatar", files["model"]),
        ("capture", files["capture"]),
        ("motion", files["motion"]),
        ("numbers", files["results"]),
    ]
    return Group(table, facts(rows))
