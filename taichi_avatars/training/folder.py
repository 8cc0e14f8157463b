"""The model folder before a run: what an earlier run left in it is continued, replaced, or kept safe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from taichi_avatars.avatar.iterations import CLOUDS, iterations
from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import writing
from taichi_avatars.training import checkpoint, log

BOARD_FILES = "events.out.tfevents.*"  # TensorBoard's
LOCK = "train.lock"


@contextmanager
def locked(model: Path) -> Iterator[None]:
    """A model folder for one training alone; what a killed one left half written is removed. The system frees its lock.

    Raises:
        UserError: where another training is writing into it, or it cannot be written.
    """
    lock = FileLock(model / LOCK)
    with writing(model / log.NAME):
        model.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{model}: another training is writing into this folder; wait for it, or give another folder with -m"
            ) from None
    try:
        for orphan in (*model.glob(checkpoint.TEMPORARY), *model.glob(f"{CLOUDS}/*/.*-*")):
            with suppress(OSError):
                orphan.unlink()
        yield
    finally:
        lock.release()


def refuse_earlier_run(model: Path) -> None:
    """Raises UserError where a folder holds an avatar: its later iterations would pass for the newest of a shorter run."""
    if model.exists() and not model.is_dir():
        raise UserError(f"{model}: is a file; give a folder with -m")
    saved = iterations(model)
    if saved or checkpoint.kept(model):
        which = f"an avatar (iteration {max(saved)})" if saved else f"the {checkpoint.NAME} of another run"
        raise UserError(
            f"{model}: holds {which}; continue it with --resume, replace it with --overwrite, or give another folder with -m"
        )


def remove_earlier_run(model: Path) -> None:
    """Removes avatars, checkpoint and log of an earlier run; whatever else lies in the folder stays."""
    with locked(model), writing(model):
        if (model / CLOUDS).is_dir():
            shutil.rmtree(model / CLOUDS)
        for file in (
            *checkpoint.kept(model),
            model / log.NAME,
            *model.glob(checkpoint.KEPT.format("*")),
            *model.glob(BOARD_FILES),
        ):
            file.unlink(missing_ok=True)
