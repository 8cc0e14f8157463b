"""The state of a run on disk: everything that a step depends on, so that a resumed run is bit-exact."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from taichi_avatars import ranks, runtime
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path

if TYPE_CHECKING:
    from taichi_avatars.training.run import Run

NAME = "checkpoint.pt"  # of the last save, for --resume
PREVIOUS = "checkpoint.{}.pt"  # 1 of the save before, 2 of the one before that
TEMPORARY = ".*-*.pt*"  # what `atomic_path` calls one while it is written
KEPT = "chkpnt{}.pth"  # of the steps in checkpoint_iterations, for --start-checkpoint
VERSION = 2
# Options that a resumed run may change: none of its steps depends on them, or, as `iterations`, not on those done.
CHANGEABLE = (
    *("iterations", "interval", "test_iterations", "save_iterations", "checkpoint_iterations", "keep_checkpoints"),
    *("full_flame_param", "strict_paths"),
)


class DamagedError(UserError):
    """A damaged checkpoint, for which an earlier one can stand in."""


def kept(model: Path) -> list[Path]:
    """The states that a model folder holds, the last one first."""
    earlier = [path for path in model.glob(PREVIOUS.format("*")) if path.name.split(".")[1].isdigit()]
    last = [model / NAME] if (model / NAME).is_file() else []
    return last + sorted(earlier, key=lambda path: int(path.name.split(".")[1]))


def save_last(model: Path, run: Run) -> None:
    """Writes the run's state as the last one of its model folder and keeps those before it, as many as were asked for."""
    with atomic_path(model / NAME) as temporary:
        temporary.write_bytes(_packed(run))
        # Only names change from here on. A run that is killed between them leaves the last state under its next name.
        for number in range(run.config.keep_checkpoints - 1, 0, -1):
            younger = model / (PREVIOUS.format(number - 1) if number > 1 else NAME)
            if younger.is_file():
                os.replace(younger, model / PREVIOUS.format(number))


def save(path: Path, run: Run) -> None:
    """Writes the run's state into a file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(_packed(run))


def _packed(run: Run) -> memoryview:
    optimizer, tuner = run.optimizer, run.tuner
    state: dict[str, Any] = {
        "version": VERSION,
        "iteration": run.iteration,
        "config": run.config.model_dump(),
        "views": [view.name for view in run.capture.train],
        "gaussians": {name: values.detach() for name, values in optimizer.gaussians.parameters().items()},
        "binding": optimizer.gaussians.binding,
        "adam": optimizer.state(),
        "density": {"gradient": run.density.gradient, "seen": run.density.seen},
        "flame": None if tuner is None else {"table": tuner.table, "moments": tuner.moments, "steps": tuner.steps},
        "was_reset": run.was_reset,
        "random": run.generator.get_state(),
        "stream": tuple(run.stream.state()),
    }
    buffer = io.BytesIO()  # torch's own writer does not say that a disk is full, but something about positions
    torch.save(state, buffer)
    return buffer.getbuffer()


def load_last(model: Path, run: Run) -> Path:
    """Restores a run to the last complete state in a model folder; returns its file.

    Raises:
        UserError: where there is none, or it belongs to another capture or configuration.
    """
    first: DamagedError | None = None
    for path in kept(model) or [model / NAME]:
        try:
            return load(path, run)
        except DamagedError as error:
            first = first or error
    assert first is not None
    raise UserError(f"{first}, or from a state of --checkpoint-iterations by --start-checkpoint")


def share(run: Run) -> None:
    """Brings the runs of all processes to the state of the first."""
    if not ranks.together():
        return
    packed = ranks.from_first(bytes(_packed(run)) if ranks.is_first() else b"")
    if not ranks.is_first():
        _put_back(torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True), run)


def load(path: Path, run: Run) -> Path:
    """Restores a run to where a checkpoint was written; returns its file.

    Raises:
        UserError: where there is no checkpoint, it is damaged, or it belongs to another capture or configuration.
    """
    state = _read(path)
    try:
        _compare(path, state, run)
        _put_back(state, run)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:  # as a forged one can
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    return path


def _compare(path: Path, state: dict[str, Any], run: Run) -> None:
    held = {k: v for k, v in state["config"].items() if k not in CHANGEABLE}
    now = {k: v for k, v in run.config.model_dump().items() if k in held}
    for name, value in held.items():
        if now.get(name) != value:
            raise UserError(f"{path}: was made with {name} = {value}, now it is {now.get(name)}; resume with the same options")
    if (
        state["views"] != [view.name for view in run.capture.train]
        or (run.tuner is None) != (state["flame"] is None)
        or (run.tuner is not None and run.tuner.table.shape != state["flame"]["table"].shape)
    ):
        raise UserError(f"{path}: belongs to another capture; resume with the capture that it was made from")


def _put_back(state: dict[str, Any], run: Run) -> None:
    from taichi_avatars.training.optimizer import GaussianAdam

    gaussians = Gaussians(**state["gaussians"], binding=state["binding"])
    density = [state["density"][name].to(runtime.device()) for name in ("gradient", "seen")]
    moments = [value for held in state["adam"].values() for name, value in held.items() if name != "step"]
    flame = state["flame"]
    tables = [] if flame is None else [flame["table"], flame["moments"]]
    numbers = [*gaussians.parameters().values(), *moments, *density, *tables]
    per_gaussian = [
        *gaussians.parameters().values(),
        *moments,
        *density,
        *([] if gaussians.binding is None else [gaussians.binding]),
    ]
    if any(len(values) != len(gaussians) for values in per_gaussian) or not all(map(_finite, numbers)):
        raise ValueError("tensors of different lengths, or NaN")
    if gaussians.binding is not None and run.head is not None and len(gaussians):
        lowest, highest = int(gaussians.binding.min()), int(gaussians.binding.max())
        if not 0 <= lowest <= highest < run.head.num_faces:
            raise ValueError("bound to triangles that the head does not have")
    optimizer = GaussianAdam(gaussians, run.config)
    optimizer.restore(state["adam"])
    run.generator.set_state(state["random"])
    run.stream.restore(state["stream"])
    run.optimizer = optimizer
    run.density.gradient, run.density.seen = density
    if run.tuner is not None and flame is not None:
        run.tuner.table.copy_(flame["table"])  # in place: the sequence views this table
        run.tuner.moments, run.tuner.steps = flame["moments"], flame["steps"]
    run.iteration, run.was_reset = state["iteration"], state["was_reset"]


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _damaged(path: Path, what: str) -> DamagedError:
    line = " ".join("".join(c if c.isprintable() else " " for c in what).split())[:200]
    return DamagedError(f"{path}: the checkpoint is damaged ({line}); train again with --overwrite")


def _read(path: Path) -> dict[str, Any]:
    """What a file holds, after its checksums: torch writes one for every tensor and does not look at them again."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > size:  # torch compresses nothing
                raise ValueError("it claims to hold more than its length")
            if broken := archive.testzip():
                raise ValueError(f"the checksum of {broken} does not fit")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no checkpoint here to continue from; train without --resume and --start-checkpoint") from None
    except pickle.UnpicklingError:  # torch's own message is a page about trust
        raise _damaged(path, "not torch's") from None
    except Exception as error:  # a forged archive can fail in any way
        raise _damaged(path, str(error).split("\n")[0] or "empty file") from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise UserError(f"{path}: not a checkpoint of this version; train again with --overwrite")
    return state
