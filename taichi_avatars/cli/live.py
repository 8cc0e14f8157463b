"""`live`: a face in front of a phone, a webcam or a program moves the avatar."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Session, command, pixels
from taichi_avatars.cli.live_options import (
    MOTION,
    SOURCES,
    Blendshapes,
    Clamp,
    From,
    Relative,
    Sender,
    Smoothing,
    prepared,
    serve,
)

if TYPE_CHECKING:
    from taichi_avatars.avatar.model_folder import TrainedModel
    from taichi_avatars.motion.live.performer import Performer
    from taichi_avatars.motion.live.source import Source

OUTPUT = "Output"


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(live)


def live(
    session: Session,
    *,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder that `train` wrote, or one point_cloud.ply.")],
    source: From = None,
    host: Annotated[
        str, typer.Option("--host", rich_help_panel=MOTION, help="Address to listen on; 0.0.0.0 lets phones send.")
    ] = "127.0.0.1",
    sender: Sender = None,
    smoothing: Smoothing = 1.0,
    relative: Relative = False,
    clamp: Clamp = False,
    blendshapes: Blendshapes = None,
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="FILE.mp4|mjpeg[:PORT]|camera",
            rich_help_panel=OUTPUT,
            help="A recording, with the motion as npz beside it; images for OBS and web pages; a virtual camera; may repeat.",
            show_default="the viewer",
        ),
    ] = None,
    to_host: Annotated[str, typer.Option(rich_help_panel=OUTPUT, help="Address to serve images on.")] = "127.0.0.1",
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", rich_help_panel=OUTPUT, help="Pixels.", show_default="550x802 on a GPU, else half of that"),
    ] = None,
    fps: Annotated[int, typer.Option(rich_help_panel=OUTPUT, min=1, max=120, help="Maximum frames per second.")] = 30,
    white: Annotated[
        bool | None, typer.Option("--white/--black", rich_help_panel=OUTPUT, help="Background.", show_default="as trained")
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio", rich_help_panel=OUTPUT, help="Keep the sound of a source video in recordings.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(rich_help_panel=OUTPUT, min=0, help="Stop after this time.", show_default="Ctrl-C")
    ] = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Be the avatar: live motion from a phone, a face-tracking program, or a program of your own.

    webcam, or a video instead of one, tracks the face itself; livelink is Epic's Live Link Face, ifacialmocap the app of that
    name, vmc what VTuber programs send, websocket JSON from anything else. Without --to, the viewer opens. Listens on this
    machine only unless --host is given. Enter makes the current face the neutral one. Ctrl-C ends it.

    Example: taichi-avatars live output/me --from livelink --host 0.0.0.0 --to me.mp4 --to mjpeg
    """
    if source is None:
        raise typer.BadParameter(f"--from: where does the motion come from? {SOURCES}")
    shape = None if size is None else pixels("--size", size)
    sound = Path(source) if audio else None
    from taichi_avatars import runtime
    from taichi_avatars.avatar.avatar import on_device
    from taichi_avatars.avatar.model_folder import load_model
    from taichi_avatars.avatar.place import place
    from taichi_avatars.video.audio import check_sound
    from taichi_avatars.video.live.broadcast import Broadcast
    from taichi_avatars.video.live.outputs import open_output
    from taichi_avatars.video.viewpoints import frontal_camera

    if sound is not None:
        check_sound(sound)
    trained = load_model(model, head=head, iteration=iteration)
    performer, opened = prepared(
        session, trained, trained.avatar, source, host=host, sender=sender, smoothing=smoothing, relative=relative,
        clamp=clamp, blendshapes=blendshapes,
    )  # fmt: skip
    if not to:
        show(session, trained, (performer, opened))
        return
    avatar = on_device(trained.avatar)
    assert avatar.sequence is not None
    width, height = shape or ((550, 802) if runtime.on_gpu() else (275, 401))
    background = trained.background if white is None else (1.0, 1.0, 1.0) if white else (0.0, 0.0, 0.0)
    name = trained.folder.resolve().name or "avatar"
    camera = frontal_camera(place(avatar), width, height)
    avatar.render(camera, background=background)  # compiles the kernels before somebody waits for an image
    outputs = [
        open_output(
            text, avatar, performer.rig, (width, height), fps, host=to_host, background=background, title=name,
            sound=sound,
        )
        for text in dict.fromkeys(to)
    ]  # fmt: skip
    broadcast = Broadcast(avatar, performer, opened, camera, outputs, fps=fps, background=background)
    for output in outputs:
        session.say(f"to {output.name}")
    session.say(f"from {opened.name}  (Enter: neutral face, Ctrl-C: end)")
    listen_to_keys(session, performer)
    shown = broadcast.run(seconds)
    middle, most = shown.latency(0.5), shown.latency(0.95)
    values = {
        "outputs": [output.name for output in outputs],
        "pictures": shown.pictures,
        "seconds": shown.seconds,
        "faces": opened.traffic.faces,
        "latency_ms": {"median": middle and 1000.0 * middle, "p95": most and 1000.0 * most},
    }
    text = f"{shown.pictures} pictures in {shown.seconds:.1f} s of {opened.traffic.faces} faces"
    if middle is not None and most is not None:
        text += f"; from packet to picture {1000.0 * middle:.0f} ms, 95 % within {1000.0 * most:.0f} ms"
    session.result(values, "\n".join([text, *(output.name for output in outputs)]))


def show(session: Session, trained: TrainedModel, live: tuple[Performer, Source]) -> None:
    """The viewer of an avatar that moves by itself."""
    from taichi_avatars.viewer.address import HOST, PORT, check_address
    from taichi_avatars.viewer.subject import subject_of

    check_address(HOST, PORT)
    name = trained.folder.resolve().name or "avatar"
    subject = subject_of(trained.avatar, None, None, background=trained.background, name=name)
    session.say(f"from {live[1].name}")
    serve(session, subject, trained.folder / "viewer", live=live)


def listen_to_keys(session: Session, performer: Performer) -> None:
    """Enter, in a terminal, makes the current face the neutral one."""
    if sys.stdin is None or not sys.stdin.isatty():
        return

    def listen(lines: Callable[[], str]) -> None:
        while lines():
            done = performer.calibrate()
            session.say("this face is now neutral" if done else "no face has come yet")

    threading.Thread(target=listen, args=(sys.stdin.readline,), daemon=True, name="live-keys").start()
