"""`reenact`: drives an avatar with somebody else's motion."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Label, Model, Session, Source, command, file_name, one_of, pixels

WHAT, CAMERA, OUTPUT = "What", "Camera", "Output"


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars", shared=True)(reenact)


def reenact(
    session: Session,
    *,
    model: Model,
    motion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            rich_help_panel=WHAT,
            help="FLAME parameters (.npz), a folder of one .npz per timestep, another capture, or ARKit weights (.json, .csv).",
            show_default="the avatar's own held-out timesteps: self-reenactment",
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            metavar="train|val|test",
            rich_help_panel=WHAT,
            help="Of a capture, only this split; may be repeated.",
            show_default="all; for the avatar's own, test",
        ),
    ] = None,
    relative: Annotated[
        bool,
        typer.Option(
            "--relative", rich_help_panel=WHAT, help="Subtract the driver's neutral face from expression, jaw and eyes."
        ),
    ] = False,
    neutral: Annotated[
        str,
        typer.Option(
            metavar="median|first|N",
            rich_help_panel=WHAT,
            help="What --relative takes as neutral: N is a timestep of the motion.",
        ),
    ] = "median",
    clamp: Annotated[
        bool,
        typer.Option("--clamp", rich_help_panel=WHAT, help="Keep expression and jaw in the range seen in training."),
    ] = False,
    source: Source = None,
    camera_id: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            rich_help_panel=CAMERA,
            help="A camera of the motion's capture, or else of the avatar's.",
            show_default="in front of the head; the most frontal one for the avatar's own motion",
        ),
    ] = None,
    camera_path: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", rich_help_panel=CAMERA, help="Key frames of a moving camera, see docs/formats.md."),
    ] = None,
    orbit: Annotated[bool, typer.Option("--orbit", rich_help_panel=CAMERA, help="Swing the camera around the head.")] = False,
    orbit_angle: Annotated[
        float, typer.Option(rich_help_panel=CAMERA, min=0, max=180, help="How far to each side, degrees.")
    ] = 30.0,
    size: Annotated[
        str, typer.Option(metavar="WxH", rich_help_panel=CAMERA, help="Pixels, if not rendered from a camera of a capture.")
    ] = "550x802",
    white: Annotated[
        bool | None, typer.Option("--white/--black", rich_help_panel=OUTPUT, help="Background.", show_default="as trained")
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PANEL",
            rich_help_panel=OUTPUT,
            help="Panels side by side: driver, avatar, mesh, overlay (mesh over avatar), novel (another view); may repeat.",
            show_default="driver, if it has images, and avatar",
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Sound for the video: an audio file, or a video with sound."),
    ] = None,
    label: Label = None,
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
            show_default="in MODEL, named after the motion",
        ),
    ] = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Drive an avatar with somebody's motion and film it.

    Without --motion the avatar performs the held-out timesteps of its own capture (self-reenactment), with it another person's
    (cross-reenactment): it keeps its own shape; expressions and poses are those of the motion. Motions may have any length and
    fewer expression coefficients than the head (EMOCA's 50). ARKit weights work on the built-in head and on GNM's.
    --relative and --clamp help if the other face does not fit.

    Example: taichi-avatars reenact -m output/me --motion friend/flame_param.npz --relative --clamp --show avatar mesh novel
    """
    for name in split or ():
        one_of("--split", name, ("train", "val", "test"))
    if camera_path is not None and (orbit or camera_id is not None):
        raise typer.BadParameter("--camera-path cannot be combined with --camera-id or --orbit; give one of them")
    if neutral != "median" and not relative:
        raise typer.BadParameter("--neutral says what --relative subtracts; give --relative too")
    shape = pixels("--size", size)
    from taichi_avatars.avatar.model_folder import load_model, load_source
    from taichi_avatars.avatar.place import place
    from taichi_avatars.errors import UserError
    from taichi_avatars.motion.motion import own_motion
    from taichi_avatars.motion.retarget import clamped_to, relative_to_neutral
    from taichi_avatars.motion.sources import load_motion
    from taichi_avatars.video.audio import check_sound
    from taichi_avatars.video.camera_path import read_camera_path
    from taichi_avatars.video.reenact import PANELS, Panel, driver_images, stage
    from taichi_avatars.video.reenact import reenact as film
    from taichi_avatars.video.viewpoints import facing

    for name in show or ():
        one_of("--show", name, PANELS)
    trained = load_model(model, head=head, iteration=iteration)
    avatar = trained.avatar
    if avatar.head is None or avatar.sequence is None:
        raise UserError(
            f"{model}: a static scene has no head that a motion could drive; give a model trained on a head capture"
        )
    if out is not None and out.suffix.lower() != ".mp4":
        raise UserError(f"{out}: the video is an mp4; give a name ending in .mp4")
    if audio is not None:
        check_sound(audio)
    route = None if camera_path is None else read_camera_path(camera_path)
    config = trained.config
    performed = None
    if motion is not None:
        performed = load_motion(
            motion, avatar.head, splits=split, principal_point=config.principal_point, resolution=config.resolution
        )
    own = None
    if performed is None or clamp or (camera_id is not None and not performed.views):
        own = load_source(trained, source)
    if performed is None:
        assert own is not None
        performed = own_motion(avatar, [view for name in split or ("test",) for view in getattr(own, name)], "self")
        if route is None and not orbit:
            camera_id = camera_id or facing(performed.views, place(avatar))
    if performed.remark:
        session.say(performed.remark)
    if relative:
        performed = replace(performed, sequence=relative_to_neutral(performed.sequence, neutral))
    if clamp and own is not None:
        seen = {view.timestep for view in own.train if view.timestep is not None}
        performed = replace(performed, sequence=clamped_to(performed.sequence, avatar.sequence, seen))
    actor, staging = stage(
        avatar,
        performed,
        size=shape,
        camera_id=camera_id,
        own_views=None if own is None else [*own.train, *own.val, *own.test],
        orbit=math.radians(orbit_angle) if orbit else 0.0,
        path=route,
        background=trained.background if white is None else (1.0, 1.0, 1.0) if white else (0.0, 0.0, 0.0),
    )
    driver = driver_images(performed, camera_id, actor)
    shown_names = show or [*(["driver"] if driver else []), "avatar"]
    panels: list[Panel] = [panel for name in dict.fromkeys(shown_names) for panel in PANELS if panel == name]
    path = out or trained.folder / f"reenactment_{file_name(performed.name)}.mp4"
    rate = fps or performed.fps
    with session.progress("reenact", len(performed.sequence), "frames") as shown:
        frames = film(
            actor, staging, path, fps=rate, panels=panels, driver=driver, audio=audio, label=label, on_frame=shown.update
        )
    values = {"video": str(path), "frames": frames, "fps": rate, "panels": panels}
    session.result(values, f"{path}: {frames} frames, {frames / rate:.1f} s")
