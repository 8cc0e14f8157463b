"""`export`: an avatar for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Label, Model, Session, command, one_of

FORMATS = ("ply", "compressed", "splat", "zip", "glb", "obj", "npz", "web")
ANIMATED = ("zip", "web")
# Options without a meaning for some formats.
WITHOUT = {
    "--y-down": ("glb", "obj", "web"),
    "--sh-degree": ("glb", "obj", "splat"),
    "--timestep": ANIMATED,
    "--label": FORMATS[:-1],
}
POSE, OUTPUT = "Which pose", "Output"


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(export)


def export(
    session: Session,
    *,
    model: Model,
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", metavar="|".join(FORMATS), help="See above.", show_default="the suffix of -o"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE|DIR", help="Where to.", show_default="MODEL/export_<pose>, MODEL/web"),
    ] = None,
    timestep: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel=POSE, help="Of the avatar's motion, or of --motion.", show_default="neutral"),
    ] = None,
    motion: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            rich_help_panel=POSE,
            help="Anything that `reenact` takes.",
            show_default="the motion that the avatar was trained on",
        ),
    ] = None,
    every: Annotated[int, typer.Option(min=1, metavar="N", rich_help_panel=POSE, help="zip, web: only every Nth frame.")] = 1,
    sh_degree: Annotated[
        int | None,
        typer.Option(min=0, max=3, rich_help_panel=OUTPUT, help="Omit higher SH bands: smaller.", show_default="all"),
    ] = None,
    y_down: Annotated[
        bool,
        typer.Option(
            "--y-down/--y-up",
            rich_help_panel=OUTPUT,
            help="Turn Gaussians upside down for viewers that expect y down, such as SuperSplat; --y-up keeps the axes.",
        ),
    ] = False,
    white: Annotated[
        bool | None, typer.Option("--white/--black", rich_help_panel=OUTPUT, help="web: background.", show_default="as trained")
    ] = None,
    title: Annotated[
        str | None, typer.Option(rich_help_panel=OUTPUT, help="web: title of the page.", show_default="the model folder's name")
    ] = None,
    label: Label = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Write an avatar for other programs: at one pose, or a whole animation.

    At a pose: ply (3D Gaussians in the world, as every viewer reads them), compressed (PlayCanvas' compressed PLY), splat
    (small, without view-dependent colour), glb and obj (the head's mesh), npz (everything as arrays).

    An animation: web (a folder for any web server: the avatar, moving, drawn by the visitor's browser), zip (one ply
    per frame).

    Example: taichi-avatars export -m output/me --format web -o site
    """
    from taichi_avatars.avatar.model_folder import first_camera, load_model
    from taichi_avatars.errors import UserError
    from taichi_avatars.export import SUFFIXES, Choice, format_of, sampled
    from taichi_avatars.export import export as write
    from taichi_avatars.export.world import turned
    from taichi_avatars.motion.motion import FPS, drive
    from taichi_avatars.motion.sources import load_motion

    kind = format or (format_of(out) if out else None)
    if kind is None:
        raise typer.BadParameter(f"--format: want one of {', '.join(FORMATS)}")
    one_of("--format", kind, FORMATS)
    ending = SUFFIXES[kind].rpartition(".")[2]
    if out is not None and not out.name.lower().endswith(f".{ending}" if ending else ""):
        raise UserError(f"{out}: the format {kind} needs a file name ending in {SUFFIXES[kind]}")
    told = {
        "--y-down": y_down,
        "--sh-degree": sh_degree is not None,
        "--timestep": timestep is not None,
        "--label": bool(label),
    }
    for option, given in told.items():
        if given and kind in WITHOUT[option]:
            raise typer.BadParameter(f"{option}: has no meaning for the format {kind}; omit it")
    trained = load_model(model, head=head, iteration=iteration)
    actor, fps, name = trained.avatar, float(FPS), None
    if motion is not None:
        if actor.head is None:
            raise UserError(f"{model}: a static scene has no head that a motion could drive; omit --motion")
        performed = load_motion(motion, actor.head, principal_point=trained.config.principal_point)
        if performed.remark:
            session.say(performed.remark)
        if timestep is None and kind not in ANIMATED:
            raise typer.BadParameter(
                f"--timestep: say which of the motion's {len(performed.sequence)} timesteps to write as {kind}"
            )
        actor, fps, name = drive(actor, performed), performed.fps, performed.name
    if timestep is not None and actor.head is None:
        raise UserError(f"{model}: a static scene has no timesteps; omit --timestep")
    pose = [part for part in (name, None if timestep is None else f"{timestep:05d}") if part] or ["neutral"]
    path = out or trained.folder / ("web" if kind == "web" else f"export_{'_'.join(pose)}{SUFFIXES[kind]}")
    if path.exists() and model.exists() and path.samefile(model):
        raise UserError(f"{path}: is the avatar itself, which would be overwritten; choose another name with -o")
    background = trained.background if white is None else (1.0, 1.0, 1.0) if white else (0.0, 0.0, 0.0)
    played = sampled(actor, every).sequence if kind in ANIMATED else None
    frames = len(played) if played else 1
    with session.progress(f"export {kind}", frames, "frames") as shown:
        choice = Choice(
            timestep=timestep,
            every=every,
            degree=sh_degree,
            turn=y_down,
            fps=fps,
            background=background,
            camera=first_camera(trained.folder, trained.avatar.origin) if actor.head is None else None,
            title=title or trained.folder.resolve().name,
            label=label,
            on_frame=shown.update,
        )
        write(actor, kind, path, choice)
    if kind == "web" and actor.head is not None and actor.head.identity["head"] == "flame":
        session.say("the page contains components of your FLAME model: check what FLAME's licence allows before you publish it")
    if any(actor.origin) and kind in ("compressed", "splat", "web"):
        origin = ", ".join(f"{value:.15g}" for value in (turned(actor.origin) if y_down else actor.origin))
        session.say(f"note: {kind} has 32-bit coordinates: add ({origin}) to get the scene's own")
    values = {"file": str(path), "format": kind, "frames": frames, "megabytes": round(_size(path) / 1e6, 2)}
    if kind not in ("glb", "obj"):
        values["gaussians"] = len(actor.gaussians)
    session.result(values, f"{path}: {values['megabytes']} MB" + _remark(kind, path, frames))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def _remark(kind: str, path: Path, frames: int) -> str:
    if kind == "web":
        return f", {frames} frames; to look at it: python -m http.server -d {path}"
    return f", {frames} frames" if kind == "zip" else ""
