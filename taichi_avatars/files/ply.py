"""PLY files that others wrote, read by plyfile once their header is known to be sane."""

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
        UserError: where the file is missing, no PLY or damaged.
    """
    with told_apart(path), path.open("rb") as file:
        return parse_ply(file, path.stat().st_size, str(path))


def parse_ply(file: BinaryIO, size: int, origin: str) -> PlyData:
    """The same from an open file of `size` bytes that can be rewound; errors begin with where it is from."""
    from plyfile import PlyParseError

    try:
        _check_header(file, size, origin)
        return _read_tables(_plain_header(file))
    except UserError:
        raise
    except (PlyParseError, OSError, *BROKEN) as error:
        raise UserError(f"{origin}: cannot be read as a PLY ({plain(error)}); copy it again") from None


def _check_header(file: BinaryIO, size: int, origin: str) -> None:
    """Raises UserError where the header asks for more elements than the file has bytes: room for them would be made first."""
    for line in itertools.islice(file, MOST_HEADER_LINES):
        words = line[:200].split()
        if words[:1] == [b"element"] and words[-1:] and words[-1].isdigit() and int(words[-1]) > size:
            raise UserError(f"{origin}: claims to hold {int(words[-1][:20])} elements, more than it has bytes; copy it again")
        if words == [b"end_header"]:
            return
    raise UserError(f"{origin}: cannot be read as a PLY (its header does not end); copy it again")


def _plain_header(file: BinaryIO) -> BinaryIO:
    """The file from its beginning; where plyfile could not read its header for a mark, a blank line or a comment that is not
    in ASCII, a copy without them."""
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
    """Reads a PLY by mapping it, table by table; from what cannot be mapped plyfile would read number by number, in Python."""
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
            element.data = np.array(element.data)  # whoever changes the file afterwards would change, or end, a mapped table
    return ply
