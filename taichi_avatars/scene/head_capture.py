"""Dynamic head captures as VHAP exports them: images of several cameras over time, tracked FLAME parameters per timestep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.scene.transforms import IMAGE_SUFFIXES, CameraReader, Frame, PrincipalPoint, read_transforms
from taichi_avatars.scene.views import TEST_EVERY, OnProblem, View, stop

SPLITS = ("train", "val", "test")
FLAME_FOLDER = "flame_param"
MARKER = "canonical_flame_param.npz"
TRAIN, ALL = "transforms_train.json", "transforms.json"


@dataclass
class HeadFrames:
    """The contents of a head capture's split files.

    Attributes:
        splits: views of "train", "val" and "test"; a missing or empty file is an empty list.
        flame_files: timestep -> file of its FLAME parameters, over all splits.
    """

    splits: dict[str, list[View]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    flame_files: dict[int, Path] = field(default_factory=dict)


def read_head_frames(
    folder: Path,
    *,
    use_mask: bool = False,
    principal_point: PrincipalPoint = "bottom",
    resolution: int = -1,
    strict_paths: bool = False,
    on_problem: OnProblem = stop,
) -> HeadFrames:
    """Reads the split files of a head capture; images and FLAME parameters are located, not opened.

    Args:
        folder: holds `transforms_{train,val,test}.json`.
        use_mask: read `fg_mask_path` as well; every frame must then have one.
        principal_point: where `cy` is measured from: "bottom" as current VHAP writes it, "top" in sets exported before
            November 2024. A centred principal point is the same in both.
        resolution: as `taichi_avatars.scene.views.target_size` takes it.
        strict_paths: refuse frames whose files lie outside the folder.
        on_problem: called with each problem; if it returns, the frame is skipped and reading continues.

    Raises:
        UserError: for any problem, unless `on_problem` handles it.
    """
    found = HeadFrames()
    cameras = CameraReader(resolution, principal_point)
    names = listings(folder)
    for split, name in zip(SPLITS, names, strict=False):
        path = folder / name
        if not path.is_file():
            continue
        try:
            frames = read_transforms(path, folder if strict_paths else None)
        except UserError as problem:
            on_problem(problem)
            continue
        for frame in frames:
            try:
                view, flame_file = _read_frame(frame, cameras, use_mask)
                assert view.timestep is not None
                _note_flame_file(found.flame_files, frame, view.timestep, flame_file)
                found.splits[split].append(view)
            except UserError as problem:
                on_problem(problem)
    if names == [ALL]:
        _hold_out(found.splits)
    _make_names_unique(found.splits)
    return found


def read_flame_files(folder: Path, splits: Sequence[str] | None = None) -> dict[int, Path]:
    """Timestep -> file of its FLAME parameters, regardless of images and cameras.

    Args:
        splits: whose files are returned; None for all, or those in `flame_param/` if the capture lists none.

    Raises:
        UserError: if a frame names no existing file.
    """
    files: dict[int, Path] = {}
    names = listings(folder)
    for split, name in zip(SPLITS, names, strict=False):
        path = folder / name
        if not path.is_file() or (splits is not None and names != [ALL] and split not in splits):
            continue
        for frame in read_transforms(path):
            timestep, file = frame.integer("timestep_index"), frame.file("flame_param_path")
            if timestep is None or file is None:
                raise frame.error("has no timestep_index or no flame_param_path; export it again")
            _note_flame_file(files, frame, timestep, file)
    if not any((folder / name).is_file() for name in names) and splits is None:
        return dict(enumerate(timestep_files(folder / FLAME_FOLDER)))
    return dict(sorted(files.items()))


def timestep_files(folder: Path) -> list[Path]:
    """The files of a folder of one npz per timestep, in the order of the numbers in their names: 10 after 9.

    Those that begin with a dot are no timesteps: a Mac leaves `._00000.npz` beside each on foreign disks.
    """
    files = (file for file in folder.glob("*.npz") if not file.name.startswith("."))
    return sorted(files, key=lambda file: [(len(part), part) if part.isdigit() else (0, part) for part in _numbers(file)])


def _numbers(file: Path) -> list[str]:
    """A name in turns of text and digits, these without zeros in front."""
    return [part.lstrip("0") if part.isdigit() else part for part in re.split(r"([0-9]+)", file.name)]


def lacks_pictures(folder: Path) -> bool:
    """Whether a capture names images that are missing."""
    for path in filter(Path.is_file, (folder / name for name in listings(folder))):
        for frame in read_transforms(path):
            try:
                frame.file("file_path", IMAGE_SUFFIXES)
            except UserError:
                return True
    return False


def listings(folder: Path) -> list[str]:
    """The names of the files that list the frames of the splits; the single file that lists all, if a folder has only that."""
    together = (folder / ALL).is_file() and not (folder / TRAIN).is_file()
    return [ALL] if together else [f"transforms_{split}.json" for split in SPLITS]


def _hold_out(splits: dict[str, list[View]]) -> None:
    """Splits a single list of all frames: the last eighth of the timesteps, the end of a video, is for testing."""
    timesteps = sorted({view.timestep for view in splits["train"] if view.timestep is not None})
    last = set(timesteps[len(timesteps) - len(timesteps) // TEST_EVERY :])
    splits["test"] = [view for view in splits["train"] if view.timestep in last]
    splits["train"] = [view for view in splits["train"] if view.timestep not in last]


def _read_frame(frame: Frame, cameras: CameraReader, use_mask: bool) -> tuple[View, Path]:
    timestep = frame.integer("timestep_index")
    if timestep is None:
        raise frame.error("no timestep_index; number the timesteps (any whole numbers) and export again")
    image = frame.file("file_path", IMAGE_SUFFIXES)
    if image is None:
        raise frame.error("no file_path; name the image of this frame")
    flame_file = frame.file("flame_param_path")
    if flame_file is None:
        raise frame.error("no flame_param_path; name the npz with this timestep's FLAME parameters")
    mask = frame.file("fg_mask_path") if use_mask else None
    if use_mask and mask is None:
        raise frame.error("masks were asked for but the frame has no fg_mask_path; export masks or train without them")
    camera_index = frame.integer("camera_index") or 0
    name = frame.values.get("camera_id")
    camera_id = str(camera_index if name in (None, "") else name)
    camera, lens = cameras.camera(frame, image)
    return View(camera, timestep, camera_index, camera_id, image.stem, image, mask, lens), flame_file


def _note_flame_file(known: dict[int, Path], frame: Frame, timestep: int, flame_file: Path) -> None:
    other = known.setdefault(timestep, flame_file)
    if other != flame_file and not other.samefile(flame_file):
        raise frame.error(
            f"timestep_index {timestep} has two FLAME files, {other} and {flame_file}; "
            "give every timestep of a united set its own index"
        )


def _make_names_unique(splits: dict[str, list[View]]) -> None:
    """United sets hold an image "00012_08" of every sequence: the timestep's own index tells them apart."""
    names = Counter(view.name for views in splits.values() for view in views)
    if all(count == 1 for count in names.values()):
        return
    for views in splits.values():
        views[:] = [replace(view, name=f"{view.timestep:05d}_{view.camera_index:02d}") for view in views]
