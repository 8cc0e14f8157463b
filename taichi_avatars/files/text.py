"""Text files of any origin: any line endings, with or without a byte order mark."""

from __future__ import annotations

import codecs
from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import damaged

ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",  # Windows PowerShell redirects into this
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path, remedy: str = "export it again") -> str:
    """The content of a text file, lines ending in "\\n".

    Raises:
        UserError: if it cannot be read or is not text; `remedy` says what to do about the latter.
    """
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that the file is there and readable") from error
    except UnicodeDecodeError as error:
        raise damaged(path, f"not a text file in UTF-8 (byte {error.start})", remedy) from error


def decoded(content: bytes) -> str:
    """Text of bytes: UTF-8, or UTF-16 if a byte order mark says so; lines ending in "\\n", without the mark.

    Raises:
        UnicodeDecodeError: if they are not text.
    """
    encoding = next((name for mark, name in ENCODINGS.items() if content.startswith(mark)), "utf-8")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path, remedy: str = "export it again") -> list[str]:
    """The lines of a text file, stripped of surrounding white space, empty ones included.

    Raises:
        UserError: as `read_text`.
    """
    return [line.strip() for line in read_text(path, remedy).split("\n")]
