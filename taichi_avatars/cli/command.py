"""What all commands share: common options, output as text or JSON, and one-line errors with an exit code."""

from __future__ import annotations

import inspect
import json as json_format
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from taichi_avatars import ranks
from taichi_avatars.cli.compiling import say_what_is_compiled
from taichi_avatars.cli.progress import Progress
from taichi_avatars.cli.scripts import ScriptCommand
from taichi_avatars.errors import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILED, INTERRUPTED = 1, 130
COMMON = "Every command"
CAPTURE = "Reading the capture"
SMALLEST_PICTURE = 16  # pixels

# Options that mean the same wherever they occur.
Model = Annotated[
    Path,
    typer.Option("--model", "-m", help="Model folder that `train` wrote, or one point_cloud.ply.", metavar="MODEL"),
]
Source = Annotated[
    Path | None,
    typer.Option(
        "--source",
        "-s",
        metavar="DATA",
        help="Capture folder, if not the one that the model was trained on.",
    ),
]
# What the configuration of the model says unless it is given.
Resolution = Annotated[
    int | None,
    typer.Option(
        "--resolution",
        "-r",
        rich_help_panel=CAPTURE,
        help="1, 2, 4, 8 divide the image size; -1 caps the width at 1600; any other value is the width.",
        show_default="as trained",
    ),
]
White = Annotated[
    bool | None,
    typer.Option(
        "--white-background/--black-background", "-w", rich_help_panel=CAPTURE, help="Background.", show_default="as trained"
    ),
]
Images = Annotated[
    str | None,
    typer.Option("--images", "-i", rich_help_panel=CAPTURE, help="Folder of a COLMAP scene.", show_default="as trained"),
]
Label = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Text in a corner of the images, such as: made by a computer.", show_default="none"),
]
Iteration = Annotated[int | None, typer.Option(min=1, help="Saved iteration to use.", show_default="the newest")]
Head = Annotated[
    str | None,
    typer.Option(
        metavar="builtin|FILE",
        help="Head model: the one that ships with the package, a FLAME file (.pkl, .npz) or GNM's npz.",
        show_default="what head.json beside the data names, then $TAICHI_AVATARS_FLAME",
    ),
]


@dataclass(frozen=True)
class Session:
    """Input and output of one command; of several processes, only the first prints.

    Attributes:
        json: print one JSON object on stdout and nothing else there.
        quiet: no progress; always so in all processes but the first.
        seed: of all random numbers; None if not given, which means 0.
        threads: CPU threads to use, None for all.
        stdout: where results go.
    """

    json: bool
    quiet: bool
    seed: int | None
    threads: int | None
    stdout: TextIO

    def progress(self, what: str, total: int, unit: str) -> Progress:
        """A progress bar, or progress lines, on stderr."""
        return Progress(what, total, unit, quiet=self.quiet)

    def say(self, line: str) -> None:
        """A line for the waiting user, on stderr."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)

    def result(self, values: Mapping[str, object], text: RenderableType) -> None:
        """The result: `values` as JSON, or `text` for reading."""
        if not ranks.is_first():
            return
        if self.json:
            print(json_format.dumps(values, indent=2, default=str), file=self.stdout, flush=True)
            return
        from rich.console import Console
        from rich.text import Text

        shown = Text(text) if isinstance(text, str) else text  # file names may contain what rich would take for markup
        Console(file=self.stdout, highlight=False, soft_wrap=True).print(shown)


def common_parameters() -> list[inspect.Parameter]:
    """The options of every command."""

    def options(
        *,
        device: Annotated[
            str, typer.Option(rich_help_panel=COMMON, metavar="auto|cpu|cuda|vulkan", help="Where kernels run.")
        ] = "auto",
        threads: Annotated[
            int | None, typer.Option(rich_help_panel=COMMON, min=1, help="CPU threads.", show_default="all cores")
        ] = None,
        seed: Annotated[
            int | None,
            typer.Option(
                rich_help_panel=COMMON,
                help=r"Seed of all random numbers: same seed, same result. [dim]\[default: 0][/dim]",
                show_default=False,
            ),
        ] = None,
        json: Annotated[
            bool, typer.Option("--json", rich_help_panel=COMMON, help="Print one JSON object and nothing else.")
        ] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=COMMON, help="Show no progress.")] = False,
        debug: Annotated[bool, typer.Option("--debug", rich_help_panel=COMMON, help="Show the traceback of an error.")] = False,
    ) -> None: ...

    return _parameters(options)


def command(
    app: typer.Typer, panel: str, name: str | None = None, *, shared: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a function as a command of the app: its keyword parameters are options, its docstring the help.

    The function's first parameter is the `Session`; the common options are added after its own.

    Args:
        shared: whether the processes that torchrun starts can share its work.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = _parameters(function)[1:]
        added = [parameter for parameter in common_parameters() if parameter.name not in {p.name for p in own}]

        def run(**values: Any) -> None:
            common = {parameter.name: values.pop(parameter.name) for parameter in added}
            _run(function, values, shared=shared, **common)

        run.__name__, run.__doc__, run.__module__ = function.__name__, _paragraphs(function), function.__module__
        run.__signature__ = inspect.Signature([*own, *added])  # pyright: ignore[reportFunctionMemberAccess]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *added]}
        app.command(name, cls=ScriptCommand, rich_help_panel=panel)(run)
        return function

    return register


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Ends the command with one line on stderr."""
    line = " ".join(message.split())
    print(line if code == INTERRUPTED else f"error: {line}", file=sys.stderr, flush=True)
    raise typer.Exit(code)


def one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Wrong usage, unless an option's value is one of its choices."""
    if value not in choices:
        raise typer.BadParameter(f"{option}: got {value!r}, want {' or '.join(choices)}")


def pixels(option: str, text: str) -> tuple[int, int]:
    """Width and height from "550x802"."""
    match = re.fullmatch(r"(\d{1,4})[xX](\d{1,4})", text)
    if not match or min(int(match[1]), int(match[2])) < SMALLEST_PICTURE:
        raise typer.BadParameter(f"{option}: got {text!r}, want width x height in pixels, such as 550x802")
    return int(match[1]), int(match[2])


def file_name(text: str) -> str:
    """A name that is valid on every file system."""
    return re.sub(r"[^\w.-]+", "_", text)


def _paragraphs(function: Callable[..., None]) -> str:
    """The docstring with one line per paragraph, so that the help fits any terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (inspect.getdoc(function) or "").split("\n\n"))


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    # get_type_hints of Python 3.10 wraps an option's annotation in an Optional where its default is None
    hints = inspect.get_annotations(function, eval_str=True)
    signature = inspect.signature(function)
    return [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in signature.parameters.values()]


def _run(
    function: Callable[..., None],
    values: dict[str, Any],
    *,
    shared: bool,
    device: str,
    threads: int | None,
    seed: int | None,
    json: bool,
    quiet: bool,
    debug: bool,
) -> None:
    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr) if json else nullcontext():  # libraries may print; stdout is reserved for the result
            if ranks.launched() and not shared:
                raise UserError(
                    "torchrun: processes can share the work of train, render, eval and reenact; start this without it"
                )
            with ranks.started(device):
                session = Session(json, quiet or not ranks.is_first(), seed, threads, stdout)
                say_what_is_compiled(function.__name__, session.say)
                _prepare(device, threads)
                function(session, **values)
    except KeyboardInterrupt as interrupt:
        if not ranks.is_first():
            raise typer.Exit(INTERRUPTED) from None
        fail(str(interrupt) or "interrupted", INTERRUPTED)
    except ranks.AgreedError as error:
        if not ranks.is_first():
            raise typer.Exit(FAILED) from None
        fail(str(error))
    except UserError as error:
        if debug:
            raise
        fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        if debug:
            raise
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except Exception as error:
        if debug or isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "exit_code"):
            raise
        fail(f"unexpected {type(error).__name__}: {error} (a bug of this program: --debug shows where)")


def _prepare(device: str, threads: int | None) -> None:
    """Starts the backend if one was chosen; otherwise the first kernel does."""
    if device == "auto" and threads is None:
        return
    from taichi_avatars import runtime

    runtime.init(device, threads)
