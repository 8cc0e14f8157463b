"""This installation: versions, engine, processor, and the user's own head file."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform

from taichi_avatars import __version__, engine, machine
from taichi_avatars.head.assets import own_head_files
from taichi_avatars.timing.calls import processor


def installation() -> dict[str, object]:
    """Facts about this installation, by name, in order of display.

    Raises:
        UserError: if no engine is installed, or the environment names another one.
    """
    others = [name for name in engine.ENGINES if name != engine.name() and importlib.util.find_spec(name) is not None]
    facts: dict[str, object] = {
        "taichi-avatars": __version__,
        "python": platform.python_version(),
        "engine": engine.version(),
    }
    if others:
        held = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in others)
        facts["also installed"] = f"{held}: {engine.VARIABLE}={others[0]} chooses it"
    files = own_head_files()
    return facts | {
        "torch": importlib.metadata.version("torch"),
        "processor": processor(),
        "threads": machine.cores(),
        "head file": str(files[0]) if files else "none; the built-in head needs none",
    }
