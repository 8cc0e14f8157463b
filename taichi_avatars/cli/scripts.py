"""Command lines written for the reference: its spellings, several values per option, options without an effect."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

import typer
from typer.core import TyperCommand

NUMBER = re.compile(r"-?\d")
# The reference's names of options, beside those that the help shows.
SPELLINGS = {
    "--model-path": "--model",
    "--model-paths": "--model",
    "--source-path": "--source",
    "--target-path": "--target",
    "--select-camera-id": "--camera-id",
}


class NoMeaning(NamedTuple):
    """An option of the reference that does nothing here.

    names: as written, with hyphens.  takes_value: whether a value follows.  why: reason for the note.
    """

    names: tuple[str, ...]
    takes_value: bool
    why: str


AS_TRAINED = "the avatar is rendered as it was trained"
EVERYWHERE = (
    NoMeaning(("--data-device",), True, "images are kept in main memory and decoded ahead"),
    NoMeaning(("--convert-SHs-python", "--convert-shs-python"), False, "there is one way to evaluate colours"),
    NoMeaning(("--compute-cov3D-python", "--compute-cov3d-python"), False, "there is one way to compute covariances"),
)
NO_MEANING = {
    "train": (
        *EVERYWHERE,
        NoMeaning(("--ip",), True, "training opens no port of its own"),
        NoMeaning(("--port",), True, "training opens no port of its own"),
        NoMeaning(("--debug-from",), True, "--debug holds from the first step"),
        NoMeaning(("--detect-anomaly",), False, "a loss that is not finite always stops the run"),
        NoMeaning(("--position-lr-delay-mult",), True, "the learning rate of the positions has no delay"),
        NoMeaning(("--target-path", "--target", "-t"), True, "a target is for `render`"),
    ),
    "render": (
        *EVERYWHERE,
        NoMeaning(("--eval",), False, "splits are always kept apart"),
        NoMeaning(("--bind-to-mesh",), False, AS_TRAINED),
        NoMeaning(("--sh-degree",), True, AS_TRAINED),
        NoMeaning(("--disable-flame-static-offset",), False, AS_TRAINED),
        NoMeaning(("--not-finetune-flame-params",), False, AS_TRAINED),
    ),
}


class ScriptCommand(TyperCommand):
    """A command that also takes the reference's options: their spellings, `--split val test`, and those without an effect."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        known = {name for parameter in self.params for name in parameter.opts}
        repeatable = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        args = respelled(args, known)
        args = without_meaningless(args, [o for o in NO_MEANING.get(self.name or "", ()) if not known & set(o.names)])
        if not any(parameter.param_type_name == "argument" for parameter in self.params):  # else it could be meant for them
            args = spread(args, repeatable)
        return super().parse_args(ctx, args)  # pyright: ignore[reportArgumentType]


def respelled(arguments: list[str], known: set[str]) -> list[str]:
    """The arguments with the names of options that this command knows."""
    result: list[str] = []
    for argument in arguments:
        name, equals, value = _normal(argument).partition("=")
        ours = SPELLINGS.get(name)
        result.append(f"{ours}{equals}{value}" if ours in known and name not in known else argument)
    return result


def without_meaningless(arguments: list[str], options: Iterable[NoMeaning]) -> list[str]:
    """The arguments without these options and their values; each one found is noted in a line on stderr."""
    by_name = {name: option for option in options for name in option.names}
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, given, _ = _normal(argument).partition("=")
        option = by_name.get(name)
        if option is None:
            kept.append(argument)
            continue
        if option.takes_value and not given:
            next(rest, None)
        print(f"note: {name} has no effect: {option.why}", file=sys.stderr, flush=True)
    return kept


def spread(arguments: list[str], repeatable: set[str]) -> list[str]:
    """`--option a b` as `--option a --option b`, for options that may be repeated."""
    result: list[str] = []
    option, first = None, False
    for argument in arguments:
        if argument.startswith("-") and not NUMBER.match(argument):
            option, first = (argument if _normal(argument) in repeatable else None), True
            result.append(argument)
        elif option is None or first:
            result.append(argument)
            first = False
        else:
            result += [option, argument]
    return result


def _normal(argument: str) -> str:
    """An option's name with hyphens; values after "=" and anything that is not an option stay as they are."""
    name, equals, value = argument.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("-") else argument
