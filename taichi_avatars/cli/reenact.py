"""`reenact`: an avatar performs what somebody else did."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Model, Session, Source, command, file_name, pixels

WHAT, CAMERA, OUTPUT = "What", "Camera", "Output"


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(reenact)


def reenact(
    session: Session,
    *,
    model: Model,
    motion: Annotated[
        Path,
        typer.Option(
            metavar="FILE|DIR",
            rich_help_panel=WHAT,
            help="FLAME parameters (.npz), a folder of one .npz per timestep, another capture, or ARKit weights (.json).",
        ),
    ],
    source: Source = None,
    camera_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            rich_help_panel=CAMERA,
            help="A camera of the motion's capture, or else of the avatar's.",
            show_default="in front of the head",
        ),
    ] = None,
    orbit: Annotated[bool, typer.Option("--orbit", rich_help_panel=CAMERA, help="Swing the camera around the head.")] = False,
    orbit_angle: Annotated[
        float, typer.Option(rich_help_panel=CAMERA, min=0, max=180, help="How far to each side, degrees.")
    ] = 30.0,
    size: Annotated[
        str, typer.Option(metavar="WxH", rich_help_panel=CAMERA, help="Pixels, where it is not a capture's camera.")
    ] = "550x802",
    white: Annotated[
        bool | None, typer.Option("--white/--black", rich_help_panel=OUTPUT, help="Background.", show_default="as trained")
    ] = None,
    side_by_side: Annotated[
        bool, typer.Option(rich_help_panel=OUTPUT, help="Show the driver's images on the left, where there are any.")
    ] = True,
    fps: Annotated[
        float | None,
        typer.Option(rich_help_panel=OUTPUT, min=1, max=240, help="Frames per second.", show_default="the motion's, else 25"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            rich_help_panel=OUTPUT,
            metavar="FILE.mp4",
            help="The video.",
            show_default="MODEL/reenactment_<motion>.mp4",
        ),
    ] = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Drive an avatar with somebody's motion and film it: cross-reenactment.

    The avatar keeps its own shape; expressions and poses are the motion's. Motions may have any length and fewer expression
    coefficients than the head (EMOCA's 50). ARKit weights work on the built-in head, whose expressions have ARKit's names.

    Example: taichi-avatars reenact -m output/me --motion friend/flame_param.npz --orbit --white
    """
    shape = pixels("--size", size)
    from taichi_avatars.errors import UserError
    from taichi_avatars.outputs.model import load_model, load_source
    from taichi_avatars.outputs.motion import load_motion
    from taichi_avatars.outputs.reenact import driver_images, stage
    from taichi_avatars.outputs.reenact import reenact as film

    trained = load_model(model, head=head, iteration=iteration)
    if trained.avatar.head is None:
        raise UserError(
            f"{model}: a static scene has no head that a motion could drive; give a model trained on a head capture"
        )
    if out is not None and out.suffix.lower() != ".mp4":
        raise UserError(f"{out}: the video is an mp4; end the name in .mp4")
    performed = load_motion(motion, trained.avatar.head, principal_point=trained.config.principal_point)
    if performed.remark:
        session.say(performed.remark)
    own_views = None
    if camera_id is not None and not performed.views:
        capture = load_source(trained, source)
        own_views = [*capture.train, *capture.val, *capture.test]
    background = trained.background if white is None else (1.0, 1.0, 1.0) if white else (0.0, 0.0, 0.0)
    actor, shot = stage(
        trained.avatar,
        performed,
        size=shape,
        camera_id=camera_id,
        own_views=own_views,
        orbit=math.radians(orbit_angle) if orbit else 0.0,
        background=background,
    )
    driver = driver_images(performed, camera_id, actor) if side_by_side else {}
    path = out or trained.folder / f"reenactment_{file_name(performed.name)}.mp4"
    rate = fps or performed.fps
    with session.progress("reenact", len(performed.sequence), "frames") as shown:
        frames = film(actor, shot, path, fps=rate, driver=driver, on_frame=shown.update)
    values = {"video": str(path), "frames": frames, "fps": rate, "side_by_side": bool(driver)}
    session.result(values, f"{path}: {frames} frames, {frames / rate:.1f} s")
