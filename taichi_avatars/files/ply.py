"""Foreign PLY files, read by plyfile once their header has been validated."""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.damaged import told_apart
from taichi_avatars.files.pickles import BROKEN, plain

if TYPE_CHECKING:
    from plyfile import PlyData

MOST_HEADER_LINES = 1000


def read_ply(path: Path) -> PlyData:
    """All elements of a PLY, in memory.

    Raises:
        UserError: if the file is missing, not a PLY or damaged.
    """
    with told_apart(path), path.open("rb") as file:
        return parse_ply(file, path.stat().st_size, str(path))


def parse_ply(file: BinaryIO, size: int, origin: str) -> PlyData:
    """The same from an open, seekable file of `size` bytes; errors begin with its origin."""
    from plyfile import PlyParseError

    try:
        _check_header(file, size, origin)
        return _read_tables(_plain_header(file))
    except UserError:
        raise
    except (PlyParseError, OSError, *BROKEN) as error:
        raise UserError(f"{origin}: cannot be read as a PLY ({plain(error)}); copy it again") from None


def _check_header(file: BinaryIO, size: int, origin: str) -> None:
    """Raises UserError if the header claims more elements than the file has bytes: memory would be allocated first."""
    for line in itertools.islice(file, MOST_HEADER_LINES):
        words = line[:200].split()
        if words[:1] == [b"element"] and words[-1:] and words[-1].isdigit() and int(words[-1]) > size:
            raise UserError(f"{origin}: claims to hold {int(words[-1][:20])} elements, more than it has bytes; copy it again")
        if words == [b"end_header"]:
            return
    raise UserError(f"{origin}: cannot be read as a PLY (its header does not end); copy it again")


def _plain_header(file: BinaryIO) -> BinaryIO:
    """The file from its beginning; a copy without byte order mark, blank lines and non-ASCII comments if the header has any,
    which plyfile cannot read."""
    file.seek(0)
    lines: list[bytes] = []
    for line in itertools.islice(file, MOST_HEADER_LINES):
        lines.append(line)
        if line.split() == [b"end_header"]:
            break
    kept = [line for line in lines if line.strip() and not _odd_comment(line)]
    kept[0] = kept[0].removeprefix(codecs.BOM_UTF8)
    if kept == lines:
        file.seek(0)
        return file
    return io.BytesIO(b"".join(kept) + file.read())


def _odd_comment(line: bytes) -> bool:
    return line.split()[0] in (b"comment", b"obj_info") and not line.isascii()


def _read_tables(file: BinaryIO) -> PlyData:
    """Reads a PLY by memory-mapping it, table by table; other files plyfile would read number by number, in Python."""
    from plyfile import PlyData

    with contextlib.ExitStack() as stack:
        try:
            file.fileno()
        except OSError:  # in memory
            copy = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            file = copy
        ply = PlyData.read(file)
        for element in ply:
            element.data = np.array(element.data)  # later changes of the file would change, or truncate, a mapped table
    return ply
