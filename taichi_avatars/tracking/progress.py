"""The state of a refinement on disk, from which an interrupted one continues."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.files.atomic import atomic_path
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.views import View
from taichi_avatars.tracking.refine import STAGES, STAGES_OF_ONE_CAMERA, Errors, State

ARRAYS = ("corrections", "fitted", "scores", "matrices")


def digest(avatar: Avatar, sequence: FlameSequence, groups: Sequence[Sequence[View]], errors: Errors, seed: int) -> str:
    """What a refinement depends on, in short: it can continue only with the same one."""
    found = hashlib.blake2b(digest_size=16)
    for values in avatar.gaussians.parameters().values():
        found.update(values.detach().cpu().contiguous().numpy().data)
    for values in (sequence.table(), sequence.shape, sequence.static_offset, sequence.dynamic_offset):
        found.update(b"" if values is None else values.detach().contiguous().numpy().data)
    views = [[(view.name, view.camera.width, view.camera.height) for view in group] for group in groups]
    found.update(
        json.dumps([views, asdict(errors), [asdict(stage) for stage in (*STAGES, *STAGES_OF_ONE_CAMERA)], seed]).encode()
    )
    return found.hexdigest()


def save(path: Path, state: State, made_of: str) -> None:
    """made_of: see `digest`."""
    packed = io.BytesIO()
    np.savez(packed, made_of=np.array(made_of), **{name: getattr(state, name).numpy() for name in ARRAYS})
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed.getbuffer())


def load(path: Path, made_of: str) -> State:
    """The state that was saved.

    Raises:
        UserError: where there is none, it is damaged, or it belongs to another avatar, capture or other options.
    """
    try:
        with np.load(path, allow_pickle=False) as held:
            origin, arrays = str(held["made_of"]), {name: torch.from_numpy(held[name]) for name in ARRAYS}
    except FileNotFoundError:
        raise UserError(f"{path}: no refinement here to continue; start it without --resume") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is damaged ({error}); start again without --resume") from None
    if origin != made_of:
        raise UserError(f"{path}: belongs to another avatar, capture or other options; start again without --resume")
    return State(**arrays)
