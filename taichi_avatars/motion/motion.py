"""Motions from anywhere, put onto an avatar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.head.assets import read_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.motion.arkit import read_arkit
from taichi_avatars.scene.capture import capture_kind
from taichi_avatars.scene.head_capture import read_head_frames
from taichi_avatars.scene.transforms import PrincipalPoint
from taichi_avatars.scene.views import View

WANTED = (
    "a motion is an .npz with FLAME parameters, a folder of one .npz per timestep, a head capture, or ARKit weights (.json, "
    "or .csv of Live Link Face)"
)
FPS = 25  # of a motion that does not say its own, as the public viewers play it


@dataclass(frozen=True, eq=False)
class Motion:
    """A performance to drive an avatar with.

    Attributes:
        name: for file names.
        sequence: its expressions and poses, fitted to the avatar's head; the performer's shape and offsets are left out.
        fps: frames per second to show it at.
        views: images of it, where it is a capture.
        remark: one line that its user should see, if any.
    """

    name: str
    sequence: FlameSequence
    fps: float
    views: list[View]
    remark: str | None = None


def load_motion(
    path: Path | str,
    head: FlameModel,
    *,
    splits: Sequence[str] | None = None,
    principal_point: PrincipalPoint = "bottom",
    resolution: int = -1,
) -> Motion:
    """Reads a motion and fits it to a head: fewer expression or shape coefficients than the head's are padded with zeros.

    Args:
        path: an npz (a capture's, an avatar's `flame_param.npz`, VHAP's tracked output), a folder with one npz per timestep,
            a head capture, or ARKit weights as JSON or as the CSV of Live Link Face.
        head: the head of the avatar to drive.
        splits: of a capture, "train", "val" and "test"; None for all.
        principal_point: where a capture's `cy` is measured from, see `scene.capture.load_capture`.
        resolution: of a capture's views, see there.

    Raises:
        UserError: where it is none of these, is broken, or belongs to another kind of head.
    """
    path = Path(path)
    name = path.resolve().name if path.is_dir() else path.stem
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder; {WANTED}")
    _check_head(path, head)
    if splits is not None and (path.is_file() or capture_kind(path) != "head"):
        raise UserError(f"{path}: is no capture and has no splits; leave --split out")
    if path.is_file():
        if path.suffix.lower() in (".json", ".csv"):
            return Motion(name, *read_arkit(path, head), views=[])
        if path.suffix.lower() == ".npz":
            return _performed(name, FlameSequence.load_npz(path, parts=head.parts), head, path, [])
        raise UserError(f"{path}: cannot drive an avatar; {WANTED}")
    if capture_kind(path) == "head":
        frames = read_head_frames(path, principal_point=principal_point, resolution=resolution)
        views = [view for split, held in frames.splits.items() if splits is None or split in splits for view in held]
        if not views:
            raise UserError(f"{path}: holds no views in {', '.join(splits or frames.splits)}; choose another --split")
        timesteps = {view.timestep for view in views}
        files = {timestep: file for timestep, file in frames.flame_files.items() if timestep in timesteps}
        return _performed(name, FlameSequence.from_frames(files, parts=head.parts), head, path, views)
    files = sorted(path.glob("*.npz"))
    if not files:
        raise UserError(f"{path}: holds no .npz files; {WANTED}")
    return _performed(name, FlameSequence.from_frames(dict(enumerate(files)), parts=head.parts), head, path, [])


def own_motion(avatar: Avatar, views: list[View], name: str) -> Motion:
    """What an avatar's own capture shows in some of its views, for self-reenactment: as the avatar's file has it.

    Args:
        views: of a split of the capture.
        name: for file names.
    """
    if avatar.sequence is None:
        raise UserError("this scene is not bound to a head: there is nothing that a motion could drive")
    if not views:
        raise UserError("the avatar's capture holds no such views; choose another --split, or give a --motion")
    timesteps = sorted({view.timestep for view in views if view.timestep is not None})
    rows = torch.tensor([avatar.sequence.row(timestep) for timestep in timesteps])
    moving = {key: values[rows] for key, values in avatar.sequence.moving().items()}
    sequence = replace(avatar.sequence, timesteps=timesteps, dynamic_offset=None, **moving)
    return Motion(name, sequence, float(FPS), views)


def drive(avatar: Avatar, motion: Motion) -> Avatar:
    """The avatar performing a motion: its own shape and offsets, the motion's expressions and poses, the motion's timesteps."""
    if avatar.head is None or avatar.sequence is None:
        raise UserError("this scene is not bound to a head: there is nothing that a motion could drive")
    own = avatar.sequence
    driven = replace(motion.sequence, shape=own.shape, static_offset=own.static_offset, dynamic_offset=None)
    return Avatar(avatar.gaussians, avatar.head, driven)


def _performed(name: str, sequence: FlameSequence, head: FlameModel, path: Path, views: list[View]) -> Motion:
    """Expressions and poses alone: who performed them may have a shape or offsets that this head cannot hold."""
    bare = replace(sequence, shape=torch.zeros(head.n_shape), static_offset=None, dynamic_offset=None)
    try:
        fitted = bare.fit(head)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    names, given = head.expression_names, sequence.expr.shape[1]
    remark = None
    if names is not None and 0 < given < head.n_expr:
        remark = (
            f"{path}: has {given} expression coefficients, the head {head.n_expr} named ones: taken for {names[0]} to "
            f"{names[given - 1]}, the others are 0; the face is wrong if they come from another head"
        )
    return Motion(name, fitted, float(FPS), views, remark)


def _check_head(path: Path, head: FlameModel) -> None:
    """A motion that says which head it was tracked with must mean the avatar's: expressions of another mean nothing."""
    stated = read_head_json(path)
    if stated is None:
        return
    own = head.identity
    same_kind = stated["head"] == own["head"] or (stated["head"] == "builtin" and str(own["head"]).startswith("builtin"))
    if same_kind and len({stated.get("sha256"), own.get("sha256")} - {None}) < 2:
        return
    remedy = " (or delete that head.json if both files are the same model)" if same_kind else ""
    raise UserError(
        f"{path}: was tracked with the head {_head_name(stated)} as head.json beside it says, the avatar has "
        f"{_head_name(own)}: their expressions are not the same; give a motion for the avatar's head{remedy}"
    )


def _head_name(identity: Mapping[str, Any]) -> str:
    digest = identity.get("sha256")
    parts = [identity["head"], identity.get("file"), digest and f"(sha256 {str(digest)[:12]}...)"]
    return " ".join(str(part) for part in parts if part)
