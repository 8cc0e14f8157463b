"""Diagnosis of an unreadable file, which is often something other than damaged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taichi_avatars.errors import UserError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
BEGINNING = 1024  # bytes needed to tell; an LFS pointer is shorter


def damaged(path: Path, problem: str, remedy: str) -> UserError:
    """The error for a file that cannot be read as what it should be.

    Args:
        problem: what is wrong, if it is the right kind of file.
        remedy: what to do in that case.

    Returns:
        One line with that, or with what the file is instead: a Git LFS pointer, or a web page saved under its name.
    """
    other = mistaken_for(path)
    return UserError(f"{path}: {other}" if other else f"{path}: {problem}; {remedy}")


@contextmanager
def told_apart(path: Path) -> Iterator[None]:
    """Context for reading a file: errors become one line, which says what the file is instead, if that can be told.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except UserError:
        other = mistaken_for(path)
        if other:
            raise UserError(f"{path}: {other}") from None
        raise


def mistaken_for(path: Path) -> str | None:
    """What the file is instead and how to get the real one; None if unknown."""
    try:
        with path.open("rb") as file:
            beginning = file.read(BEGINNING)
    except OSError:
        return None
    if beginning.startswith(LFS_POINTER):
        size = re.search(rb"^size (\d{1,15})\s*$", beginning, re.MULTILINE)
        length = f" of {int(size[1])} bytes" if size else ""
        return f"is a Git LFS pointer, not the file itself{length}; run `git lfs pull` in the repository it came from"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)\b", beginning, re.IGNORECASE):
        return "is a web page, not the file itself: the site asked for a login or has moved it; download it again"
    return None
