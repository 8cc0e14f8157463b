"""Atomic writing: no partial file is ever visible under its final name."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from taichi_avatars.errors import UserError


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Context for writing a file: a full disk or a folder without permission becomes a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); make room or choose another folder") from error


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block succeeds, and is removed when it fails.

    Raises:
        UserError: if it cannot be written.
    """
    with writing(path), _atomic_path(Path(path)) as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder beside `path` that replaces it as a whole when the block succeeds, and is removed when it fails.

    The former contents of `path` are renamed away in one step and only then removed.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{path.name}-unfinished-", dir=path.parent))
        try:
            new = work / "new"
            new.mkdir()  # with the usual permissions; mkdtemp's are private
            yield new
            if path.exists():
                os.replace(path, work / "before")
            os.replace(new, path)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on disk: a power failure could otherwise undo a rename."""
    if os.name == "nt":  # folders cannot be opened there, and the journal preserves the order
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems do not support this
            raise
    finally:
        os.close(handle)


@contextmanager
def _atomic_path(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's permissions are private
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
