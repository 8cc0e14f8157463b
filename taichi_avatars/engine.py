"""The engine that compiles and runs the kernels: Taichi, or its fork Quadrants, which has wheels where Taichi has none.

Whatever needs the engine imports it from here: `from taichi_avatars.engine import ti`. It is loaded on first access; its name
and version are available without loading it.
"""

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
from typing import TYPE_CHECKING, Any

from taichi_avatars import frontend, machine
from taichi_avatars.errors import UserError

if TYPE_CHECKING:
    import taichi as ti
    import taichi.math as tm
    from taichi.lang.kernel_impl import Kernel

    lang: Any  # its internals, which differ between engines and versions

ENGINES = ("taichi", "quadrants")  # in order of preference
VARIABLE = "TAICHI_AVATARS_ENGINE"

__all__ = ["ENGINES", "VARIABLE", "Kernel", "lang", "name", "ti", "tm", "version"]


def name() -> str:
    """The engine that this process uses: the one that the environment variable names, else the first that is installed.

    Raises:
        UserError: if the variable names no engine or one that is not installed, or if none is installed.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted and wanted not in ENGINES:
        raise UserError(f"{VARIABLE}={wanted}: no such engine: use {' or '.join(ENGINES)}")
    for engine in (wanted,) if wanted else ENGINES:
        if importlib.util.find_spec(engine) is not None:
            return engine
    if wanted:
        raise UserError(f"{VARIABLE}={wanted}: {wanted} is not installed: pip install {wanted}, or unset the variable")
    raise UserError(
        "no engine for the kernels is installed: pip install taichi, or, from Python 3.14 on, pip install quadrants"
    )


def version() -> str:
    """Name and version, as in "taichi 1.7.4"."""
    return f"{name()} {importlib.metadata.version(name())}"


def __getattr__(attribute: str) -> object:
    """Loads the engine when one of its parts is first imported from here."""
    if attribute not in ("ti", "tm", "lang", "Kernel"):
        raise AttributeError(f"module {__name__!r} has no attribute {attribute!r}")
    machine.give_home()
    with frontend.short_frames():  # its own kernels are decorated as it is imported
        module = importlib.import_module(name())
    frontend.lighten(module)
    lang = importlib.import_module(f"{module.__name__}.lang")
    math = importlib.import_module(f"{module.__name__}.math")
    by_source = module.__name__ == "quadrants" and "fastcache" in inspect.signature(module.kernel).parameters
    globals().update(
        ti=frontend.KnownBySource(module) if by_source else module, tm=math, lang=lang, Kernel=lang.kernel_impl.Kernel
    )
    return globals()[attribute]
