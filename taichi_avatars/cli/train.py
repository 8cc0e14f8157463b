"""`train`: its options are the fields of `TrainConfig`, their help the fields' docstrings."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from taichi_avatars import ranks
from taichi_avatars.cli.command import Head, Session, command
from taichi_avatars.cli.speed import profiled
from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.viewer.address import HOST, PORT

if TYPE_CHECKING:
    from rich.console import RenderableType

    from taichi_avatars.training.events import Evaluated, Event
    from taichi_avatars.viewer.live import LiveViewer

DATA = "Data and results"
VIEWER = "Viewer"
SHORT_NAMES = {"resolution": "-r", "white_background": "-w", "images": "-i"}
COMMON_FIELDS = ("seed",)  # every command has these
# Panel of an option: the first with a word that the name contains.
PANELS = {
    "Data and results": ("resolution", "background", "use_mask", "principal_point", "images", "camera", "strict_paths"),
    "FLAME": ("flame",),
    "Density control": ("dens", "opacity_reset", "max_gaussians", "prune"),
    "Learning rates": ("_lr",),
    "Loss": ("lambda", "threshold", "metric"),
    "Run": ("",),
}


def add_to(app: typer.Typer) -> None:
    command(app, "Avatars", "train", shared=True)(train)


def train(
    session: Session,
    *,
    source: Annotated[Path, typer.Option("--source", "-s", rich_help_panel=DATA, metavar="DATA", help="Capture folder.")],
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            "-m",
            rich_help_panel=DATA,
            metavar="MODEL",
            help="Folder for the avatar, log and results.",
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(rich_help_panel=DATA, metavar="FILE.toml", help="Options from a file; those given here take precedence."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel=DATA, help="Resume the run in MODEL where it stopped.")
    ] = False,
    start_checkpoint: Annotated[
        Path | None,
        typer.Option(rich_help_panel=DATA, metavar="FILE.pth", help="Resume from a kept chkpntN.pth."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", rich_help_panel=DATA, help="Remove the avatar, checkpoint and log that MODEL holds.")
    ] = False,
    profile: Annotated[
        int | None,
        typer.Option("--profile", rich_help_panel=DATA, metavar="N", min=1, help="Profile N warm steps early in the run."),
    ] = None,
    viewer: Annotated[
        bool,
        typer.Option("--viewer", rich_help_panel=VIEWER, help="Watch the run in the browser; pause and resume it there."),
    ] = False,
    viewer_host: Annotated[
        str, typer.Option(rich_help_panel=VIEWER, help="Address to listen on; 0.0.0.0 opens it to everybody on the network.")
    ] = HOST,
    viewer_port: Annotated[
        int, typer.Option(rich_help_panel=VIEWER, min=0, max=65535, help="The next free one if it is taken; 0 for any.")
    ] = PORT,
    evaluation: Annotated[
        bool, typer.Option("--eval/--no-eval", rich_help_panel=DATA, help="Hold out val and test views, or train on them too.")
    ] = True,
    bind_to_mesh: Annotated[
        bool,
        typer.Option(
            "--bind-to-mesh", rich_help_panel=DATA, help="Always on for head captures; accepted for existing scripts."
        ),
    ] = False,
    head: Head = None,
    **options: Any,
) -> None:
    """Train an avatar from a capture of a head.

    The capture is a folder with images, cameras and tracked FLAME parameters, as VHAP exports it, or as `synth` writes it.
    MODEL then holds point_cloud/iteration_N/ (the avatar), cameras.json, config.toml and log.jsonl.
    Ctrl-C and SIGTERM save the run; --resume continues it. torchrun --nproc_per_node=2 -m taichi_avatars train ...
    starts two processes, which share the views of each step.

    Example: taichi-avatars train -s capture -m output/me --iterations 30000
    """
    goes_on = resume or (start_checkpoint is not None and start_checkpoint.parent.resolve() == model.resolve())
    if overwrite and goes_on:
        raise typer.BadParameter("--overwrite removes what --resume and --start-checkpoint need; give one of them")
    if resume and start_checkpoint is not None:
        raise typer.BadParameter("--resume and --start-checkpoint both say where to begin; give one of them")
    chosen = _configuration(config, {**options, "seed": session.seed})
    from taichi_avatars.avatar.iterations import iterations
    from taichi_avatars.head.assets import resolve_head
    from taichi_avatars.scene.capture import capture_kind, load_configured
    from taichi_avatars.scene.coverage import one_sided
    from taichi_avatars.training import folder, trainer

    if not (goes_on or overwrite) and ranks.is_first():
        folder.refuse_earlier_run(model)
    kind = capture_kind(source)
    if bind_to_mesh and kind in ("blender", "colmap"):
        raise UserError(f"{source}: a static scene has no head that Gaussians could be bound to; omit --bind-to-mesh")
    model_head = resolve_head(head, source) if kind == "head" else None
    capture = load_configured(source, chosen, model_head, evaluation=evaluation)
    for remark in capture.remarks():
        session.say(f"note: {remark}")
    if remark := one_sided(capture.train, capture.flame, chosen.sh_degree):
        session.say(f"note: {remark}")
    live = _live_viewer(session, model, viewer_host, viewer_port) if viewer and ranks.is_first() else None
    if overwrite and ranks.is_first():
        folder.remove_earlier_run(model)
    watched = _Watched(session, chosen.iterations, live)
    try:
        profile = profile if ranks.is_first() else None
        with watched.progress, profiled(session, profile, model, capture.train[0].camera, watched) as on_event:
            avatar = trainer.train(
                chosen,
                capture,
                model_head,
                model,
                on_event,
                between_steps=live and live.between_steps,
                resume=resume,
                start_checkpoint=start_checkpoint,
            )
    except KeyboardInterrupt:
        where = (
            f"saved iteration {watched.iteration}; continue with the same command and --resume"
            if watched.saved
            else "nothing saved"
        )
        raise KeyboardInterrupt(f"interrupted: {where}") from None
    finally:
        if live is not None:
            live.close()
    if not ranks.is_first():
        return
    if (resume or start_checkpoint is not None) and watched.saved is None:
        watched.iteration, watched.saved = max(iterations(model).items())
        watched.gaussians = len(avatar.gaussians)
        text = f"already finished at {watched.iteration} steps; a larger --iterations continues it\navatar: {watched.saved}"
        session.result(watched.values(model), text)
        return
    session.result(watched.values(model), watched.text())


def _live_viewer(session: Session, model: Path, host: str, port: int) -> LiveViewer:
    from taichi_avatars.viewer.address import check_address
    from taichi_avatars.viewer.live import LiveViewer

    if warning := check_address(host, port):
        session.say(f"warning: {warning}")
    return LiveViewer(model, host, port, lambda address: session.say(f"viewer: {address}"))


class _Watched:
    """Shows the events of a run as they arrive and keeps what the result needs."""

    def __init__(self, session: Session, iterations: int, live: LiveViewer | None) -> None:
        self.session, self.live = session, live
        self.progress = session.progress("train", iterations, "steps")
        self.scores: dict[str, Evaluated] = {}
        self.saved: Path | None = None
        self.iteration, self.gaussians, self.seconds = 0, 0, 0.0

    def __call__(self, event: Event) -> None:
        from taichi_avatars.training.events import Evaluated, Progress, Resumed, Saved

        if self.live is not None:
            self.live.on_event(event)
        if isinstance(event, Progress):
            self.gaussians, self.seconds = event.gaussians, event.seconds
            self.progress.update(
                event.iteration, loss=f"{event.loss:.4f}", PSNR=f"{event.psnr:.1f}", Gaussians=f"{event.gaussians}"
            )
        elif isinstance(event, Evaluated):
            self.scores[event.split] = event
            self.session.say(f"step {event.iteration}  {event.split}  PSNR {event.psnr:.2f} dB  SSIM {event.ssim:.4f}")
        elif isinstance(event, Resumed):
            self.session.say(f"resumes at step {event.iteration} from {event.path}")
        elif isinstance(event, Saved):
            self.saved, self.iteration = event.path, event.iteration

    def values(self, model: Path) -> dict[str, object]:
        return {
            "model": str(model),
            "avatar": str(self.saved),
            "iteration": self.iteration,
            "gaussians": self.gaussians,
            "seconds": self.seconds,
            **{split: {"psnr": score.psnr, "ssim": score.ssim} for split, score in self.scores.items()},
        }

    def text(self) -> RenderableType:
        lines = [f"{self.gaussians} Gaussians after {self.iteration} steps in {self.seconds:.0f} s"]
        lines += [f"{split}: PSNR {score.psnr:.2f} dB, SSIM {score.ssim:.4f}" for split, score in self.scores.items()]
        return "\n".join([*lines, f"avatar: {self.saved}"])


def _configuration(file: Path | None, given: dict[str, Any]) -> TrainConfig:
    """Defaults, overridden by the file, overridden by the command line."""
    values = {} if file is None else TrainConfig.from_toml(file).model_dump(exclude_unset=True)
    values.update({name: value for name, value in given.items() if value is not None and value != []})
    try:
        return TrainConfig.from_values(values, "option")
    except UserError as error:  # the file's own values were checked when it was read
        raise typer.BadParameter(str(error)) from None


def _option(name: str, field: FieldInfo) -> inspect.Parameter:
    """A field of the configuration as an option; None means that it was not given."""
    flag = f"--{name.replace('_', '-')}"
    is_flag = field.annotation is bool
    names = [
        f"{flag}/--no-{flag[2:]}" if is_flag and field.default else flag,
        *([SHORT_NAMES[name]] if name in SHORT_NAMES else []),
    ]
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else None
    several = get_origin(field.annotation) is list
    shown = "" if is_flag or several else rf" [dim]\[default: {field.default}][/dim]"
    info = typer.Option(
        *names,
        help=(field.description or "").replace("[", r"\[") + shown,
        rich_help_panel=next(panel for panel, words in PANELS.items() if any(word in name for word in words)),
        show_default=False,  # None is the default here; it stands for the configuration's
        metavar="|".join(choices) if choices else "N ..." if several else None,
    )
    kind = str if choices else field.annotation
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info])


def _with_config_options() -> None:
    own = list(inspect.signature(train, eval_str=True).parameters.values())[:-1]
    fields = [_option(name, field) for name, field in TrainConfig.model_fields.items() if name not in COMMON_FIELDS]
    train.__signature__ = inspect.Signature([*own, *fields])  # pyright: ignore[reportFunctionMemberAccess]
    train.__annotations__.update({parameter.name: parameter.annotation for parameter in fields})


_with_config_options()
