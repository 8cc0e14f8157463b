"""`render`: an avatar on the views of a capture, as images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taichi_avatars.cli.command import (
    Head,
    Images,
    Iteration,
    Model,
    Resolution,
    Session,
    Source,
    White,
    command,
    file_name,
    one_of,
)

MESH = "Mesh"
SPLITS = ("train", "val", "test")
ALL_CAMERAS = "-1"  # the spelling of the reference's scripts


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars", shared=True)(render)


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
    skip_train: Annotated[bool, typer.Option("--skip-train", help="Omit the training views.")] = False,
    skip_val: Annotated[bool, typer.Option("--skip-val", help="Omit the novel views.")] = False,
    skip_test: Annotated[bool, typer.Option("--skip-test", help="Omit the self-reenactment views.")] = False,
    camera_id: Annotated[
        str | None,
        typer.Option("--camera-id", metavar="ID", help="Only this camera.", show_default="all"),
    ] = None,
    render_mesh: Annotated[
        bool,
        typer.Option("--render-mesh/--no-render-mesh", rich_help_panel=MESH, help="Also show the mesh, in separate images."),
    ] = True,
    mesh_over: Annotated[
        str, typer.Option(metavar="avatar|truth", rich_help_panel=MESH, help="What to draw the mesh over.")
    ] = "avatar",
    mesh_colors: Annotated[
        str,
        typer.Option(
            metavar="parts|gaussians",
            rich_help_panel=MESH,
            help="gaussians: their number on each triangle; triangles with none are grey.",
        ),
    ] = "parts",
    mesh_shading: Annotated[
        str, typer.Option(metavar="smooth|flat", rich_help_panel=MESH, help="flat: one normal per triangle.")
    ] = "smooth",
    mesh_opacity: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, rich_help_panel=MESH, help="1 hides what is behind the mesh.", show_default="0.6, gaussians: 0.85"
        ),
    ] = None,
    resolution: Resolution = None,
    white_background: White = None,
    images: Images = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Render the views of a capture: frames, ground truth, mesh overlay, and a video of each.

    They go to MODEL/<split>/ours_<iteration>/{renders,gt,renders_mesh}/00000.png and .mp4, numbered camera by camera.
    With -t the folder is named after the target. Options not given here are taken from the model's configuration.

    Example: taichi-avatars render -m output/me --skip-train
    """
    one_of("--mesh-over", mesh_over, ("avatar", "truth"))
    one_of("--mesh-colors", mesh_colors, ("parts", "gaussians"))
    one_of("--mesh-shading", mesh_shading, ("smooth", "flat"))
    skipped = {"train": skip_train, "val": skip_val, "test": skip_test}
    wanted = [name for name in splits(split) if not skipped[name]]
    from taichi_avatars.avatar.model_folder import load_model, load_source
    from taichi_avatars.errors import UserError
    from taichi_avatars.evaluation.overlay import MeshStyle
    from taichi_avatars.motion.motion import drive
    from taichi_avatars.motion.sources import load_motion
    from taichi_avatars.scene.views import of_camera
    from taichi_avatars.video.rendering import render_views

    mesh = MeshStyle(
        colors="gaussians" if mesh_colors == "gaussians" else "parts",
        smooth=mesh_shading == "smooth",
        opacity=mesh_opacity,
        over="truth" if mesh_over == "truth" else "avatar",
    )

    trained = load_model(
        model, head=head, iteration=iteration, resolution=resolution, white_background=white_background, images=images
    )
    avatar, config = trained.avatar, trained.config
    camera_id = None if camera_id == ALL_CAMERAS else camera_id
    if target is not None and avatar.head is not None:
        motion = load_motion(target, avatar.head, principal_point=config.principal_point, resolution=config.resolution)
        if motion.remark:
            session.say(motion.remark)
        avatar, views = drive(avatar, motion), {motion.name: of_camera(motion.views, camera_id)}
        if not motion.views:
            raise UserError(f"{target}: has no cameras to render from; use `reenact --motion` for a motion without images")
    else:
        capture = load_source(trained, source or target)
        held = {name: getattr(capture, name) for name in wanted}
        views = {name: of_camera(held[name], camera_id) for name in wanted if held[name]}
    if not any(views.values()):
        raise UserError(
            f"{trained.folder}: nothing to render: the splits {', '.join(wanted) or '(all skipped)'} hold no such views"
        )
    made: dict[str, object] = {}
    for name, chosen in views.items():
        if not chosen:
            continue
        folder = trained.folder / (name if camera_id is None else f"{name}_{file_name(camera_id)}") / trained.method
        with session.progress(f"render {name}", len(chosen), "views") as shown:
            videos = render_views(
                avatar, chosen, folder, trained.background, mesh=mesh if render_mesh else None, on_view=shown.update
            )
        made[name] = {"folder": str(folder), "views": len(chosen), "videos": [str(video) for video in videos]}
    text = "\n".join(f"{name}: {entry['views']} views in {entry['folder']}" for name, entry in made.items())  # pyright: ignore[reportIndexIssue]
    session.result({"model": str(trained.folder), "iteration": trained.iteration, "splits": made}, text)


def splits(chosen: list[str] | None) -> list[str]:
    for name in chosen or ():
        one_of("--split", name, SPLITS)
    return list(dict.fromkeys(chosen or SPLITS))
