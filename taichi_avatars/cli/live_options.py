"""What `live` and `view` share: options of live motion, and the viewer that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Session

if TYPE_CHECKING:
    from taichi_avatars.avatar.avatar import Avatar
    from taichi_avatars.avatar.model_folder import TrainedModel
    from taichi_avatars.motion.live.performer import Performer
    from taichi_avatars.motion.live.source import Source
    from taichi_avatars.viewer.subject import Subject

MOTION = "Motion"
SOURCES = "webcam[:N]|VIDEO|livelink[:PORT]|ifacialmocap:PHONE|vmc[:PORT]|websocket[:PORT]"

From = Annotated[
    str | None,
    typer.Option("--from", metavar=SOURCES, rich_help_panel=MOTION, help="Where live motion comes from.", show_default=False),
]
Sender = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        rich_help_panel=MOTION,
        help="The only address that may send; of web pages, their origin.",
        show_default="the first to send, until it falls silent",
    ),
]
Smoothing = Annotated[
    float,
    typer.Option(min=0, max=10, rich_help_panel=MOTION, help="More is steadier and slower; 0 leaves the motion as received."),
]
Relative = Annotated[
    bool, typer.Option("--relative", rich_help_panel=MOTION, help="Take the first second of a sender as its neutral face.")
]
Clamp = Annotated[
    bool,
    typer.Option("--clamp", rich_help_panel=MOTION, help="Keep expression and jaw in the range seen in training."),
]
Blendshapes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz",
        rich_help_panel=MOTION,
        help="For FLAME heads: each ARKit weight in expression components, see docs/live.md.",
    ),
]


def prepared(
    session: Session, trained: TrainedModel, avatar: Avatar, source: str, *, clamp: bool, **options: Any
) -> tuple[Performer, Source]:
    """Opens a source for an avatar, and prints its warnings and notes."""
    from taichi_avatars.avatar.model_folder import load_source
    from taichi_avatars.motion.live.setup import prepare

    seen = None
    if clamp:
        seen = {view.timestep for view in load_source(trained, None).train if view.timestep is not None}
    performer, opened = prepare(avatar, source, seen=seen, **options)
    if opened.warning:
        session.say(f"warning: {opened.warning}")
    if performer.rig.face_map.remark:
        session.say(f"note: {performer.rig.face_map.remark}")
    return performer, opened


def serve(session: Session, subject: Subject, films: Path, *, browser: bool = False, **options: Any) -> None:
    """Runs a viewer until Ctrl-C, and prints its address."""
    from taichi_avatars.viewer.viewer import Viewer

    viewer = Viewer(subject, films, **options)
    viewer.warm_up()
    session.result({"address": viewer.address}, f"{viewer.address}  (Ctrl-C ends the viewer)")
    if browser:
        typer.launch(viewer.address)
    try:
        viewer.run()
    except KeyboardInterrupt:  # the way to end it
        pass
    finally:
        viewer.close()
