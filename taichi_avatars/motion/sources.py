"""All kinds of motion: the single list of what can drive an avatar, also used by `info`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from taichi_avatars.errors import UserError
from taichi_avatars.files.description import Description
from taichi_avatars.head.assets import read_head_json
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.motion import arkit_json, flame_file, flame_folder, head_capture, live_link
from taichi_avatars.motion.motion import Motion, Reading
from taichi_avatars.scene.transforms import PrincipalPoint


class Source(Protocol):
    """A kind of motion; each is a module of this package.

    Attributes:
        WHAT: a description that completes "a motion is ...".
    """

    @property
    def WHAT(self) -> str: ...

    def recognises(self, path: Path) -> bool:
        """Whether an existing path is one, by its name and contents."""
        ...

    def read(self, path: Path, head: FlameModel, reading: Reading) -> Motion:
        """Reads it for a head. Raises UserError if it is broken or does not fit."""
        ...

    def describe(self, path: Path) -> Description:
        """A description and all problems."""
        ...


SOURCES: tuple[Source, ...] = (head_capture, flame_file, flame_folder, arkit_json, live_link)
WANTED = f"a motion is {', '.join(source.WHAT for source in SOURCES[:-1])}, or {SOURCES[-1].WHAT}"


def source_of(path: Path) -> Source | None:
    """The first that recognises a path."""
    return next((source for source in SOURCES if source.recognises(path)), None)


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
        path: one of `SOURCES`.
        head: the head of the avatar to drive.
        splits: of a capture, "train", "val" and "test"; None for all.
        principal_point: where a capture's `cy` is measured from, see `scene.capture.load_capture`.
        resolution: of a capture's views, see there.

    Raises:
        UserError: if it is none of these, is broken, or belongs to another kind of head.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; {WANTED}")
    _check_head(path, head)
    source = source_of(path)
    if splits is not None and source is not head_capture:
        raise UserError(f"{path}: is not a capture and has no splits; omit --split")
    if source is None:
        lacks = "cannot drive an avatar" if path.is_file() else "holds no .npz files"
        raise UserError(f"{path}: {lacks}; {WANTED}")
    return source.read(path, head, Reading(splits, principal_point, resolution))


def _check_head(path: Path, head: FlameModel) -> None:
    """A motion that names its head must name the avatar's: expressions of another head mean something else."""
    stated = read_head_json(path)
    if stated is None:
        return
    own = head.identity
    same_kind = stated["head"] == own["head"] or (stated["head"] == "builtin" and str(own["head"]).startswith("builtin"))
    if same_kind and len({stated.get("sha256"), own.get("sha256")} - {None}) < 2:
        return
    remedy = " (or delete that head.json if both files are the same model)" if same_kind else ""
    raise UserError(
        f"{path}: was tracked with the head {_head_name(stated)} according to head.json beside it, the avatar has "
        f"{_head_name(own)}: their expressions are not the same; give a motion for the avatar's head{remedy}"
    )


def _head_name(identity: Mapping[str, Any]) -> str:
    digest = identity.get("sha256")
    parts = [identity["head"], identity.get("file"), digest and f"(sha256 {str(digest)[:12]}...)"]
    return " ".join(str(part) for part in parts if part)
