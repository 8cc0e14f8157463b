"""The command line: options in, calls out, nothing computed here. Everything heavy is imported when a command runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from taichi_avatars.cli import (
    create,
    evaluate,
    export,
    live,
    outputs,
    reenact,
    refine,
    speed,
    subject,
    tools,
    track,
    train,
    view,
)

__all__ = ["app", "main"]

# Without it, the engine remarks on stderr that --json has redirected stdout.
for _variable in ("TI_ENABLE_PYBUF", "QD_ENABLE_PYBUF"):
    os.environ.setdefault(_variable, "0")

WRONG_USAGE = 2
# typer's errors come from different modules in its versions.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Photorealistic, animatable head avatars: 3D Gaussians that ride on the triangles of a FLAME head.\n\n"
    "Start with [bold]taichi-avatars demo[/bold]: it films the built-in subject, trains an avatar of it, measures it on views "
    "it never saw, and drives it with another motion, in a few minutes and without a GPU.",
    epilog="Exit code: 0 success, 1 failure, 2 wrong usage. Options may be written with - or _.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "token_normalize_func": lambda token: token.replace("_", "-")},
)


def _version(wanted: bool) -> None:
    if wanted:
        from taichi_avatars import __version__, engine

        print(f"taichi-avatars {__version__} ({engine.version()})")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version, and which engine runs the kernels."
        ),
    ] = False,
) -> None:
    pass


for _commands in (subject, create, track, train, refine, outputs, evaluate, reenact, live, view, export, speed, tools):
    _commands.add_to(app)


def main() -> None:
    """Runs the command line of this process and exits: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line; wrong usage is one line on stderr, like every other error."""
    try:
        return app(arguments, prog_name="taichi-avatars", standalone_mode=False) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            return WRONG_USAGE
        print(f"error: {_usage(error)}", file=sys.stderr)
        return WRONG_USAGE


def _usage(error: Exception) -> str:
    """The mistake, the nearest name where there is one, and the command that shows the help."""
    message = getattr(error, "message", "") if hasattr(error, "possibilities") else error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
    nearest = (getattr(error, "possibilities", None) or [None])[0]
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "taichi-avatars"
    line = " ".join(message.split()).rstrip(".")
    return f"{line}{f'; did you mean {nearest}?' if nearest else ''} (see {path} --help)"
