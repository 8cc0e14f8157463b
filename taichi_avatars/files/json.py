"""JSON files: reading foreign ones, writing our own."""

from __future__ import annotations

import json
from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.files.damaged import told_apart
from taichi_avatars.files.text import decoded


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
        UserError: if it cannot be read, with the line of a syntax error.
    """
    with told_apart(path):
        return parse_json(path.read_bytes(), str(path))


def parse_json(content: bytes, origin: str) -> object:
    """The same for content in memory; errors begin with its origin."""
    try:
        return json.loads(decoded(content))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{origin}: line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}); repair it or export it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{origin}: not a text file (byte {error.start}); export it again") from error
    except ValueError as error:
        raise UserError(f"{origin}: holds a number that is too large ({error}); export it again") from error
    except RecursionError as error:
        raise UserError(f"{origin}: nested too deeply for a capture; export it again") from error


def write_json(path: Path | str, content: object, *, indent: int | None = 1) -> None:
    """Writes a JSON file atomically.

    Args:
        indent: spaces per level; None puts everything on one line, for files that only programs read.

    Raises:
        UserError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")
