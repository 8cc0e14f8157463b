"""One image of a capture, and what every reader of captures needs: sizes, paths, and the handling of problems."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.lens import Lens

LARGEST_DEFAULT_WIDTH = 1600
DIVISORS = (1, 2, 4, 8)
TEST_EVERY = 8


@dataclass(frozen=True)
class View:
    """One image of a capture and the camera that took it.

    Attributes:
        camera: at the size in which the image is used; frames of one fixed camera share one object.
        timestep: the dataset's own index (it need not start at 0), None in a static scene.
        camera_index: the dataset's index of the camera.
        camera_id: the dataset's name of the camera.
        name: unique in the capture, as in file names: "00012_08".
        image: the image file, of any size with the camera's aspect ratio.
        mask: foreground mask to apply, None if not requested.
        lens: of the image and the mask, whose distortion is removed when they are read; None if there is none.
    """

    camera: Camera
    timestep: int | None
    camera_index: int
    camera_id: str
    name: str
    image: Path
    mask: Path | None
    lens: Lens | None = None


OnProblem = Callable[[UserError], None]


def of_camera(views: list[View], camera: str | None) -> list[View]:
    """The views of one camera, by its name or index; all if `camera` is None."""
    return [view for view in views if camera is None or camera in (view.camera_id, str(view.camera_index))]


def is_test(position: int) -> bool:
    """Whether the image at `position` in the order of names is held out for testing, if a scene does not say."""
    return position % TEST_EVERY == 0


def in_order(views: Sequence[View]) -> list[View]:
    """Camera by camera, in temporal order: as the files of rendered views are numbered."""
    return sorted(views, key=lambda view: (view.camera_index, view.timestep or 0, view.name))


def stop(problem: UserError) -> None:
    """The strict handler of problems in a capture: raises them. `info` passes a list's `append` instead to collect them all."""
    raise problem


def target_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """Width and height in pixels at which to use an image of `width` x `height`.

    Args:
        resolution: 1, 2, 4 or 8 divide the size; -1 keeps it up to a width of 1600 pixels; any other number is the width.

    Raises:
        UserError: if `resolution` is none of these.
    """
    if resolution == -1:
        wanted = min(width, LARGEST_DEFAULT_WIDTH)
    elif resolution in DIVISORS:
        return max(1, round(width / resolution)), max(1, round(height / resolution))
    elif resolution > 0:
        wanted = resolution
    else:
        raise UserError(f"resolution: got {resolution}; give 1, 2, 4 or 8 to divide the size, a width in pixels, or -1")
    return wanted, max(1, round(height * wanted / width))


def resolve(folder: Path, name: str, within: Path | None = None) -> Path:
    """The file that a capture calls `name`, which may lead out of the folder, as in united sets of several sequences.

    Args:
        within: the folder that it must not lead out of, symbolic links followed; None for no such limit.

    Raises:
        UserError: if it leads out of `within`.
    """
    path = _found(folder, name)
    if within is not None and not path.resolve().is_relative_to(within.resolve()):
        raise UserError(f"{name!r} leads out of {within}, to {path.resolve()}; copy the file there, or omit --strict-paths")
    return path


def _found(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists() and "\\" in name:  # written on Windows, where it is the separator
        return _found(folder, name.replace("\\", "/"))
    if not path.exists():
        # After a symbolic link ".." is the parent of the link's target; if that is missing, the link's own parent was meant.
        unlinked = Path(os.path.normpath(folder.absolute() / name))
        if unlinked.exists():
            return unlinked
        return _alike(path) or path
    return path


def _alike(path: Path) -> Path | None:
    """The only file whose name differs in case or in how accents are composed: other systems take both for the same.

    Windows heeds no capitals, and a Mac takes an e and its accent apart.
    """
    folder = path.parent if path.parent.is_dir() else _alike(path.parent) if path.parent != path else None
    if folder is None:
        return None
    wanted = _plain(path.name)
    found = [entry for entry in folder.iterdir() if _plain(entry.name) == wanted]
    return found[0] if len(found) == 1 else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
