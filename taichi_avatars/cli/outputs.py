"""`render`, `reenact` and `eval`: what comes out of a trained avatar."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Model, Session, Source, command, one_of, pixels

WHAT, CAMERA, OUTPUT = "What", "Camera", "Output"
SPLITS = ("train", "val", "test")


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(render)
    command(app, "Avatars")(reenact)
    command(app, "Avatars", "eval")(evaluate)


def render(
    session: Session,
    *,
    model: Model,
    source: Source = None,
    target: Annotated[
        Path | None,
        typer.Option("--target", "-t", metavar="DATA", help="Another capture: its motion and cameras, this avatar."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(metavar="train|val|test", help="Only this split; may be repeated.", show_default="all")
    ] = None,
    skip_train: Annotated[bool, typer.Option("--skip-train", help="Leave the training views out.")] = False,
    skip_val: Annotated[bool, typer.Option("--skip-val", help="Leave the novel views out.")] = False,
    skip_test: Annotated[bool, typer.Option("--skip-test", help="Leave the self-reenactment views out.")] = False,
    camera_id: Annotated[str | None, typer.Option(metavar="ID", help="Only this camera.", show_default="all")] = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Render the views of a capture: frames, ground truth, mesh overlay, and a video of each.

    They go to MODEL/<split>/ours_<iteration>/{renders,gt,renders_mesh}/00000.png and .mp4, numbered camera by camera.
    With -t the folder is named after the target.

    Example: taichi-avatars render -m output/me --skip-train
    """
    skipped = {"train": skip_train, "val": skip_val, "test": skip_test}
    wanted = [name for name in _splits(split) if not skipped[name]]
    from taichi_avatars.errors import UserError
    from taichi_avatars.outputs.model import load_model, load_source
    from taichi_avatars.outputs.motion import drive, load_motion
    from taichi_avatars.outputs.rendering import render_views

    trained = load_model(model, head=head, iteration=iteration)
    avatar = trained.avatar
    if target is not None and avatar.head is not None:
        motion = load_motion(target, avatar.head, principal_point=trained.config.principal_point)
        if motion.remark:
            session.say(motion.remark)
        avatar, views = drive(avatar, motion), {motion.name: _of_camera(motion.views, camera_id)}
        if not motion.views:
            raise UserError(f"{target}: has no cameras to render from; use `reenact --motion` for a motion without images")
    else:
        capture = load_source(trained, source or target)
        held = {name: getattr(capture, name) for name in wanted}
        views = {name: _of_camera(held[name], camera_id) for name in wanted if held[name]}
    if not any(views.values()):
        raise UserError(
            f"{trained.folder}: nothing to render: the splits {', '.join(wanted) or '(all skipped)'} hold no such views"
        )
    made: dict[str, object] = {}
    for name, chosen in views.items():
        if not chosen:
            continue
        folder = trained.folder / (name if camera_id is None else f"{name}_{_safe(camera_id)}") / trained.method
        with session.progress(f"render {name}", len(chosen), "views") as shown:
            videos = render_views(avatar, chosen, folder, trained.background, on_view=shown.update)
        made[name] = {"folder": str(folder), "views": len(chosen), "videos": [str(video) for video in videos]}
    text = "\n".join(f"{name}: {entry['views']} views in {entry['folder']}" for name, entry in made.items())  # pyright: ignore[reportIndexIssue]
    session.result({"model": str(trained.folder), "iteration": trained.iteration, "splits": made}, text)


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
    path = out or trained.folder / f"reenactment_{_safe(performed.name)}.mp4"
    rate = fps or performed.fps
    with session.progress("reenact", len(performed.sequence), "frames") as shown:
        frames = film(actor, shot, path, fps=rate, driver=driver, on_frame=shown.update)
    values = {"video": str(path), "frames": frames, "fps": rate, "side_by_side": bool(driver)}
    session.result(values, f"{path}: {frames} frames, {frames / rate:.1f} s")


def evaluate(
    session: Session,
    *,
    model: Model,
    source: Source = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="train|val|test", help="Only this split; may be repeated.", show_default="val and test"),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(metavar="standard|paper", help="paper adds the mean of the channels' PSNR, as published numbers have it."),
    ] = "standard",
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Measure an avatar on held-out views: PSNR and SSIM, per split and per view.

    val holds cameras that training never saw (novel view), test holds expressions that it never saw (self-reenactment).
    Means go to MODEL/<split>/results.json, single views to per_view.json.

    Example: taichi-avatars eval -m output/me --json
    """
    one_of("--protocol", protocol, ("standard", "paper"))
    wanted = _splits(split)
    from rich.table import Table

    from taichi_avatars.errors import UserError
    from taichi_avatars.outputs import evaluate as measure
    from taichi_avatars.outputs.model import load_model, load_source

    trained = load_model(model, head=head, iteration=iteration)
    capture = load_source(trained, source)
    empty = [name for name in wanted if not getattr(capture, name)]
    if split and empty:
        raise UserError(f"{capture.path}: the split {empty[0]} is empty; choose another with --split")
    wanted = [name for name in wanted if name not in empty and (split or name != "train")]
    if not wanted:
        raise UserError(f"{capture.path}: holds no val or test views; --split train measures the training views")
    values: dict[str, object] = {"model": str(trained.folder), "iteration": trained.iteration}
    table = Table(title=f"{trained.folder}, iteration {trained.iteration}", title_justify="left")
    for heading in ("split", "views", "PSNR", "SSIM", *(["PSNR (paper)"] if protocol == "paper" else []), "PSNR in the hair"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name in wanted:
        views = getattr(capture, name)
        with session.progress(f"evaluate {name}", len(views), "views") as shown:
            done: list[str] = []

            def on_view(*_: object, shown=shown, done=done) -> None:
                done.append("")
                shown.update(len(done))

            scores = measure.evaluate(
                trained.avatar,
                views,
                trained.background,
                protocol="paper" if protocol == "paper" else "standard",
                on_view=on_view,
            )
        files = measure.write_scores(trained.folder / name, trained.method, scores)
        mean = scores.mean
        values[name] = {**{metric.lower(): value for metric, value in mean.items()}, "files": [str(file) for file in files]}
        paper = [f"{mean['PSNR_paper']:.2f} dB"] if protocol == "paper" else []
        hair = f"{mean['PSNR_hair']:.2f} dB" if "PSNR_hair" in mean else "-"
        table.add_row(name, f"{len(views)}", f"{mean['PSNR']:.2f} dB", f"{mean['SSIM']:.4f}", *paper, hair)
    session.result(values, table)


def _splits(chosen: list[str] | None) -> list[str]:
    for name in chosen or ():
        one_of("--split", name, SPLITS)
    return list(dict.fromkeys(chosen or SPLITS))


def _of_camera(views: list, camera_id: str | None) -> list:
    return [view for view in views if camera_id is None or camera_id in (view.camera_id, str(view.camera_index))]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
