"""The state of a run on disk: everything that a step depends on, so that a resumed run goes on bit by bit."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from taichi_avatars import runtime
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.errors import UserError
from taichi_avatars.files import atomic_path

if TYPE_CHECKING:
    from taichi_avatars.training.trainer import Run

NAME = "checkpoint.pt"  # of the last save, for --resume
KEPT = "chkpnt{}.pth"  # of the steps in checkpoint_iterations, for --start-checkpoint
VERSION = 2
# Options that a resumed run may change: none of its steps depends on them, or, as `iterations`, not on those done.
FREE = ("iterations", "interval", "test_iterations", "save_iterations", "checkpoint_iterations", "full_flame_param")


def save(path: Path, run: Run) -> None:
    """Writes the run's state into a file, atomically."""
    optimizer, tuner = run.optimizer, run.tuner
    state: dict[str, Any] = {
        "version": VERSION,
        "iteration": run.iteration,
        "config": run.config.model_dump(),
        "views": [view.name for view in run.capture.train],
        "gaussians": {name: values.detach() for name, values in optimizer.gaussians.parameters().items()},
        "binding": optimizer.gaussians.binding,
        "adam": optimizer.adam.state_dict()["state"],
        "density": {"gradient": run.density.gradient, "seen": run.density.seen},
        "flame": None if tuner is None else {"table": tuner.table, "moments": tuner.moments, "steps": tuner.steps},
        "was_reset": run.was_reset,
        "random": run.generator.get_state(),
        "stream": tuple(run.stream.state()),
    }
    buffer = io.BytesIO()  # torch's own writer does not say that a disk is full, but something about positions
    torch.save(state, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load(path: Path, run: Run) -> None:
    """Puts a run back where a checkpoint was written.

    Raises:
        UserError: where there is no checkpoint, it is damaged, or it belongs to another capture or configuration.
    """
    state = _read(path)
    held = {k: v for k, v in state["config"].items() if k not in FREE}
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
    from taichi_avatars.training.optimizer import GaussianAdam

    run.optimizer = GaussianAdam(Gaussians(**state["gaussians"], binding=state["binding"]), run.config)
    run.optimizer.adam.load_state_dict(
        {"state": state["adam"], "param_groups": run.optimizer.adam.state_dict()["param_groups"]}
    )
    run.density.gradient, run.density.seen = (state["density"][name].to(runtime.device()) for name in ("gradient", "seen"))
    if run.tuner is not None:
        run.tuner.table.copy_(state["flame"]["table"])  # in place: the sequence views this table
        run.tuner.moments, run.tuner.steps = state["flame"]["moments"], state["flame"]["steps"]
    run.iteration, run.was_reset = state["iteration"], state["was_reset"]
    run.generator.set_state(state["random"])
    run.stream.restore(state["stream"])


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no checkpoint here to go on from; train without --resume and --start-checkpoint") from None
    except pickle.UnpicklingError:  # torch's text is a page about trust
        raise UserError(f"{path}: the checkpoint is damaged (not torch's); train anew with --overwrite") from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path}: the checkpoint is damaged ({str(error).split(chr(10))[0] or 'empty file'}); train anew with --overwrite"
        ) from None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise UserError(f"{path}: not a checkpoint of this version; train anew with --overwrite")
    return state
