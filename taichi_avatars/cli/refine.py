"""`refine`: tracked parameters fitted to the images, through a trained avatar."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Head, Iteration, Model, Resolution, Session, Source, White, command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from taichi_avatars.tracking.refine import Fitted

ERRORS = "Errors of the tracker"


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(refine)


def refine(
    session: Session,
    *,
    model: Model,
    source: Source = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="CAPTURE", help="Write a capture with the refined parameters.", show_default="into MODEL"
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue where the same command was interrupted.")] = False,
    pose_sigma: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=ERRORS,
            min=1e-9,
            help="Standard deviation in each number of the angles, radians.",
            show_default="0.003; 0.02 after `track`",
        ),
    ] = None,
    trans_sigma: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=ERRORS,
            min=1e-9,
            help="The same in the translation, metres.",
            show_default="0.0003; 0.002 after `track`",
        ),
    ] = None,
    expr_sigma: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=ERRORS,
            min=1e-9,
            help="The same in the expression coefficients.",
            show_default="0.02; 0.06 after `track`",
        ),
    ] = None,
    neck_sigma: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=ERRORS,
            min=0,
            help="The same in the neck's angles with the head held, radians; 0: as the pose.",
            show_default="0.1 after `track`, else as the pose",
        ),
    ] = None,
    hair_sigma: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=ERRORS,
            min=0,
            help="How far hair sways, metres: a dynamic offset of the scalp; 0: not at all.",
            show_default="0.005 after `track`, else it does not",
        ),
    ] = None,
    evidence: Annotated[
        float,
        typer.Option(
            rich_help_panel=ERRORS, min=1e-9, help="Independent observations that an image counts as, against these sizes."
        ),
    ] = 60.0,
    resolution: Resolution = None,
    white_background: White = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Fit the FLAME parameters of every timestep to its own images, held-out ones too.

    The avatar's Gaussians stay as they are; a held-out image only affects its own parameters. Without -o the
    parameters go into MODEL, and render, eval, reenact and view use them from then on; eval reports their results
    under another name. With -o they become a capture that `train` takes and that refers to the images of the first.
    Ctrl-C keeps what is done; --resume continues.

    Example: taichi-avatars refine -m output/me -o refined
    """
    from taichi_avatars.avatar.model_folder import load_model, load_source
    from taichi_avatars.tracking.capture_files import REPORT
    from taichi_avatars.tracking.job import refine_model
    from taichi_avatars.tracking.refine import LANDMARK_ERRORS, Errors

    trained = load_model(
        model,
        head=head,
        iteration=iteration,
        parameters="trained",
        resolution=resolution,
        white_background=white_background,
    )
    capture = load_source(trained, source)
    given = {"pose": pose_sigma, "translation": trans_sigma, "expression": expr_sigma, "neck": neck_sigma, "hair": hair_sigma}
    usual = LANDMARK_ERRORS if (capture.path / REPORT).is_file() else Errors()
    errors = replace(usual, evidence=evidence, **{name: value or None for name, value in given.items() if value is not None})
    with session.progress("refine", 0, "timesteps") as shown:

        def on_progress(done: int, total: int, fitted: Fitted) -> None:
            figures = {"PSNR": f"{fitted.before:.1f} to {fitted.after:.1f}"} if fitted.after else {}
            shown.update(done, total, **figures)

        try:
            result = refine_model(trained, capture, out, errors, resume=resume, seed=session.seed or 0, on_progress=on_progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: continue with the same command and --resume") from None
    session.result(result, _text(result, out))


def _text(result: dict[str, Any], out: Path | None) -> RenderableType:
    lines = []
    for split, words in (("train", "training"), ("test", "held-out")):
        if split in result:
            of = result[split]
            lines.append(f"{of['timesteps']} {words} timesteps: PSNR {of['psnr_before']:.2f} dB, now {of['psnr_after']:.2f} dB")
    lines.append(f"{result['refined']} in {result['seconds']:.0f} s")
    if out is not None:
        lines.append(f"train on it with: taichi-avatars train -s {shlex.quote(str(out))} -m ...")
    return "\n".join(lines)
