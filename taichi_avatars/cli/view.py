"""`view`: an avatar in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Session, Source, command
from taichi_avatars.cli.live_options import MOTION, Blendshapes, Clamp, From, Relative, Sender, Smoothing, prepared, serve
from taichi_avatars.viewer.address import HOST, PORT
from taichi_avatars.viewer.look import HEIGHT, LARGEST_HEIGHT, SMALLEST_HEIGHT


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(view)


def view(
    session: Session,
    *,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder that `train` wrote, or one point_cloud.ply.")],
    source: Source = None,
    motion: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Play another motion, anything that `reenact` takes.", show_default="its own"),
    ] = None,
    height: Annotated[
        int, typer.Option(min=SMALLEST_HEIGHT, max=LARGEST_HEIGHT, help="Rows of the full image, pixels.")
    ] = HEIGHT,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 opens the viewer to everybody on the network.")
    ] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The next free one if it is taken; 0 for any.")] = PORT,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the address in this machine's browser.")] = False,
    live: From = None,
    from_host: Annotated[
        str, typer.Option(rich_help_panel=MOTION, help="Address to listen on for it; 0.0.0.0 lets phones send.")
    ] = HOST,
    sender: Sender = None,
    smoothing: Smoothing = 1.0,
    relative: Relative = False,
    clamp: Clamp = False,
    blendshapes: Blendshapes = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Look at an avatar in the browser.

    Orbit it, play its motion, move jaw, neck, eyes and expression with sliders; mesh, wireframe, depth and statistics; film it
    along a camera path. With --from, a phone or a face-tracking program moves it, see `live`. Works over ssh too: ssh -L
    8080:localhost:8080 MACHINE. Ctrl-C ends it. To watch a training: train --viewer.

    Example: taichi-avatars view output/me
    """
    from taichi_avatars.avatar.model_folder import first_camera, load_model, load_source
    from taichi_avatars.errors import UserError
    from taichi_avatars.motion.motion import drive
    from taichi_avatars.motion.sources import load_motion
    from taichi_avatars.viewer.address import check_address
    from taichi_avatars.viewer.subject import subject_of

    if warning := check_address(host, port):
        session.say(f"warning: {warning}")
    trained = load_model(model, head=head, iteration=iteration)
    avatar, capture, known = trained.avatar, None, {}
    if motion is not None:
        if avatar.head is None:
            raise UserError(f"{model}: a static scene has no head that a motion could drive; omit --motion")
        performed = load_motion(motion, avatar.head)
        avatar, known = drive(avatar, performed), {"fps": performed.fps}
        if performed.remark:
            session.say(performed.remark)
    elif source is not None or trained.source is not None:
        try:
            capture = load_source(trained, source)
        except UserError as error:
            if source is not None:
                raise
            session.say(f"note: without the capture's cameras: {error}")
    name = trained.folder.resolve().name or "avatar"
    camera = first_camera(trained.folder, trained.avatar.origin)
    subject = subject_of(avatar, capture, camera, background=trained.background, name=name, **known)
    moved = None
    if live is not None:
        moved = prepared(
            session, trained, subject.avatar, live, host=from_host, sender=sender, smoothing=smoothing, relative=relative,
            clamp=clamp, blendshapes=blendshapes,
        )  # fmt: skip
    serve(session, subject, trained.folder / "viewer", host=host, port=port, height=height, live=moved, browser=open_browser)
