"""Capture folders of every kind: their kind, splits, FLAME parameters or points, and extent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError
from taichi_avatars.scene import blender, colmap, head_capture
from taichi_avatars.scene.georeference import NOWHERE, Origin
from taichi_avatars.scene.transforms import PrincipalPoint
from taichi_avatars.scene.views import OnProblem, View, is_test, of_camera, stop, target_size

if TYPE_CHECKING:
    from taichi_avatars.head.flame import FlameModel
    from taichi_avatars.head.sequence import FlameSequence

__all__ = ["Capture", "View", "capture_kind", "load_capture", "scene_extent"]

Kind = Literal["head", "blender", "colmap"]
REFINED = "refined.json"  # in a head capture whose FLAME parameters `refine` fitted to its images, held-out ones too
EXTENT_FACTOR = 1.1
HEAD_RADII = 5.0
TYPICAL_HEAD_RADIUS = 0.1  # RMS distance of a head's vertices from their mean, metres
ONE_PLACE = 1e-3  # of the points' radius: cameras closer together than this count as one place


@dataclass(frozen=True)
class Capture:
    """A capture or static scene.

    Attributes:
        path: its folder.
        kind: "head" (dynamic, FLAME parameters), "blender" or "colmap" (static).
        train: views to train on.
        val: held-out cameras at training timesteps (novel view).
        test: held-out timesteps, or held-out images of a static scene.
        flame: tracked FLAME parameters of all timesteps of all splits; None in a static scene or if no head was given.
        points: initial positions (P,3) and colours (P,3) in [0,1] of a static scene; None for a head capture.
        extent: size of the scene, metres (paper's unit); the unit of learning rates and density control.
        origin: of all coordinates here, in those of the capture's files; (0, 0, 0) unless those are far from their origin.
    """

    path: Path
    kind: Kind
    train: list[View]
    val: list[View]
    test: list[View]
    flame: FlameSequence | None
    points: tuple[Tensor, Tensor] | None
    extent: float
    origin: Origin = NOWHERE

    def remarks(self) -> list[str]:
        """Changes made to the capture while reading it, one line each, for its users."""
        views = [*self.train, *self.val, *self.test]
        bent = {view.lens: view for view in views if view.lens is not None}
        lines = []
        if bent:
            count = sum(view.lens is not None for view in views)
            zoom = max(view.camera.fx * lens.width / (view.camera.width * lens.fx) for lens, view in bent.items())
            closer = f", and shown {100 * (zoom - 1):.1f} % closer at most, so that no border is empty" if zoom > 1.0005 else ""
            lines.append(f"lens distortion is removed from {count} of {len(views)} images as they are read{closer}")
        if any(self.origin):
            place = ", ".join(f"{value:.15g}" for value in self.origin)
            lines.append(
                f"the coordinates are far from their origin: ({place}) is subtracted on reading, and added where positions are "
                "exported"
            )
        return lines


def capture_kind(path: Path | str) -> Kind | None:
    """The kind of capture that a folder is; None if it is none."""
    path = Path(path)
    if colmap.holds_model(path):
        return "colmap"
    if (path / head_capture.MARKER).is_file():
        return "head"
    return "blender" if any((path / name).is_file() for name in (blender.TRAIN, blender.ALL)) else None


def where_instead(folder: Path) -> str:
    """What to do about a folder that is no capture: the one inside that is, as archives unpack to, where there is one."""
    inside = next((entry for entry in sorted(folder.iterdir()) if entry.is_dir() and capture_kind(entry)), None)
    return f"{inside} is one: give that" if inside else "give the folder that holds one of these"


def load_configured(
    path: Path | str, config: TrainConfig, head: FlameModel | None, *, evaluation: bool = True, origin: Origin | None = None
) -> Capture:
    """`load_capture` with the options of a run's configuration."""
    return load_capture(
        path,
        head=head,
        evaluation=evaluation,
        use_mask=config.use_mask,
        principal_point=config.principal_point,
        resolution=config.resolution,
        images=config.images,
        camera=config.camera,
        strict_paths=config.strict_paths,
        origin=origin,
    )


def load_capture(
    path: Path | str,
    *,
    head: FlameModel | None = None,
    evaluation: bool = True,
    use_mask: bool = False,
    principal_point: PrincipalPoint = "bottom",
    resolution: int = -1,
    images: str = colmap.IMAGES,
    camera: str | None = None,
    strict_paths: bool = False,
    origin: Origin | None = None,
    on_problem: OnProblem = stop,
) -> Capture:
    """Reads a capture folder. Images are located here and opened when they are used.

    Args:
        path: a head capture (has `canonical_flame_param.npz`), a COLMAP scene (`sparse/0/`) or a Blender scene.
        head: the head model of the FLAME parameters; without it they are not read.
        evaluation: keep val and test apart; otherwise their views join the training views.
        use_mask: replace everything outside the captured foreground masks by background (head captures).
        principal_point: where a head capture's `cy` is measured from: "bottom" as current VHAP writes it, "top" in sets
            exported before November 2024. A centred principal point is the same in both.
        resolution: 1, 2, 4 or 8 divide the image size; -1 keeps it up to a width of 1600; any other number is the width.
        images: the folder of a COLMAP scene that holds its images; other captures name every file.
        strict_paths: refuse files outside the folder, symbolic links followed.
        camera: train only on the views of this camera, by its name or index.
        origin: of a COLMAP scene, see `colmap.read_colmap`.
        on_problem: called with each problem; if it returns, the affected item is skipped.

    Raises:
        UserError: a line with the file, what is wrong and what to do, unless `on_problem` handles it.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: {'is a file' if path.is_file() else 'there is no such folder'}; give the folder of a capture")
    if principal_point not in ("bottom", "top"):
        raise UserError(f"principal point: got {principal_point!r}; say where cy is measured from: bottom or top")
    target_size(1, 1, resolution)
    kind = capture_kind(path)
    if kind is None:
        raise UserError(
            f"{path}: not a capture: it has neither sparse/0/ (COLMAP), nor canonical_flame_param.npz (head capture), "
            "nor transforms_train.json (Blender) or transforms.json (nerfstudio); "
            f"{where_instead(path)}"
        )
    flame, points, moved_to = None, None, NOWHERE
    if kind == "head":
        frames = head_capture.read_head_frames(
            path,
            use_mask=use_mask,
            principal_point=principal_point,
            resolution=resolution,
            strict_paths=strict_paths,
            on_problem=on_problem,
        )
        splits = frames.splits
        flame = _read_flame(frames.flame_files, head)
    elif use_mask:
        raise UserError(f"{path}: masks were asked for, but a static scene has none; omit the option")
    elif kind == "blender":
        splits = {
            **blender.read_blender_frames(path, resolution=resolution, strict_paths=strict_paths, on_problem=on_problem),
            "val": [],
        }
        points = blender.starting_points(path, [view for views in splits.values() for view in views])
    else:
        scene = colmap.read_colmap(
            path, images=images, resolution=resolution, strict_paths=strict_paths, origin=origin, on_problem=on_problem
        )
        splits = {"train": [], "val": [], "test": []}
        for position, view in enumerate(scene.views):
            splits["test" if is_test(position) else "train"].append(view)
        points, moved_to = scene.points, scene.origin
    train, val, test = splits["train"], splits["val"], splits["test"]
    if not evaluation:
        train, val, test = [*train, *val, *test], [], []
    if not train:
        listing = "the images file in sparse/0/" if kind == "colmap" else head_capture.listings(path)[0]
        on_problem(UserError(f"{path}: the training split is empty: {listing} is missing or lists nothing; export it again"))
    elif camera is not None:
        known = ", ".join(dict.fromkeys(view.camera_id for view in train))
        train = of_camera(train, camera)
        if not train:
            on_problem(UserError(f"{path}: no training view is of the camera {camera}; there are {known}"))
    extent = _head_extent(train, head, flame) if points is None else _static_extent(train, points[0])
    return Capture(path, kind, train, val, test, flame, points, extent, moved_to)


def scene_extent(views: list[View]) -> float:
    """1.1 times the largest distance of a camera from the mean of all, metres; 0 if all are in one place."""
    if not views:
        return 0.0
    # Static cameras are shared objects: a capture of many timesteps costs no more than one of few.
    cameras = {id(view.camera): view.camera for view in views}
    counts = dict.fromkeys(cameras, 0.0)
    for view in views:
        counts[id(view.camera)] += 1.0
    weights = torch.tensor(list(counts.values()), dtype=torch.float64)[:, None]
    centers = torch.stack([camera.center.detach().double() for camera in cameras.values()])
    mean = (weights * centers).sum(0) / weights.sum()
    return EXTENT_FACTOR * (centers - mean).norm(dim=1).max().item()


def _head_extent(views: list[View], head: FlameModel | None, flame: FlameSequence | None) -> float:
    """A single fixed camera would make every length of the optimisation 0, so the head sets a minimum (docs/method.md, 11)."""
    radius = TYPICAL_HEAD_RADIUS if head is None or flame is None else _radius(flame.mesh(head, 0).canonical)
    return max(scene_extent(views), HEAD_RADII * radius)


def _static_extent(views: list[View], points: Tensor) -> float:
    extent, radius = scene_extent(views), _radius(points)
    return extent if extent > ONE_PLACE * radius else radius


def _read_flame(files: dict[int, Path], head: FlameModel | None) -> FlameSequence | None:
    if head is None or not files:
        return None
    from taichi_avatars.head.sequence import FlameSequence

    return FlameSequence.from_frames(files, head)


def _radius(points: Tensor) -> float:
    """RMS distance of points (P,3) from their mean."""
    return (points - points.mean(0)).square().sum(1).mean().sqrt().item()
