"""Renders views of a capture into the folders that other tools read: frames, ground truth, mesh overlay, a video of each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi_avatars import ranks
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.overlay import MeshStyle, mesh_overlay
from taichi_avatars.files.atomic import writing
from taichi_avatars.files.png import as_uint8
from taichi_avatars.scene.images import Background, load_image
from taichi_avatars.scene.views import View, in_order
from taichi_avatars.video.mp4 import write_mp4

RENDERS, TRUTH, MESHES = "renders", "gt", "renders_mesh"
FAST_PNG = 3  # zlib level: a third of the default's time, a few percent larger


@torch.no_grad()
def render_views(
    avatar: Avatar,
    views: Sequence[View],
    folder: Path | str,
    background: Background = (0.0, 0.0, 0.0),
    *,
    mesh: MeshStyle | None = None,
    on_view: Callable[[int], None] | None = None,
) -> list[Path]:
    """Renders views into `folder`/{renders,gt,renders_mesh}/00000.png ... and one mp4 of each; atomically.

    The views are numbered camera by camera, in temporal order. Within `ranks.started` each process writes its share.

    Args:
        folder: `<model>/<split>/ours_<iteration>`; earlier contents of these names are replaced.
        mesh: the overlay of the mesh; None for none, as for an unbound scene.
        on_view: called with the number of views done, in steps of about the number of processes.

    Returns:
        The videos.

    Raises:
        UserError: if there are no views or an image cannot be read.
    """
    if not views:
        raise UserError(f"{folder}: there are no views to render; choose another split or camera")
    with writing(folder):
        return _render_views(avatar, views, Path(folder), background, mesh, on_view)


def _render_views(
    avatar: Avatar,
    views: Sequence[View],
    folder: Path,
    background: Background,
    mesh: MeshStyle | None,
    on_view: Callable[[int], None] | None,
) -> list[Path]:
    if ranks.is_first():
        folder.mkdir(parents=True, exist_ok=True)
    kinds = [RENDERS, TRUTH, *([MESHES] if mesh is not None and avatar.head is not None else [])]
    behind = (float(background[0]), float(background[1]), float(background[2]))
    work = Path(ranks.from_first(tempfile.mkdtemp(prefix=".unfinished-", dir=folder) if ranks.is_first() else ""))
    try:
        for kind in kinds:
            (work / kind).mkdir(exist_ok=True)
        for index, view in ranks.share(list(enumerate(in_order(views)))):
            image = avatar.render(view.camera, timestep=view.timestep, background=behind).image
            images: dict[str, Tensor | np.ndarray] = {RENDERS: image, TRUTH: (truth := load_image(view, background))}
            if mesh is not None and MESHES in kinds:
                below = image.clamp(0.0, 1.0) if mesh.over == "avatar" else truth
                images[MESHES] = mesh_overlay(avatar, view.camera, view.timestep, below, mesh)
            for kind, pixels in images.items():
                Image.fromarray(as_uint8(pixels)).save(work / kind / f"{index:05d}.png", compress_level=FAST_PNG)
            if on_view is not None:
                on_view(index + 1)
        ranks.wait()
        for kind in ranks.share(kinds):
            write_mp4(work / f"{kind}.mp4", _frames(work / kind))
        ranks.wait()
        for kind in kinds if ranks.is_first() else ():
            shutil.rmtree(folder / kind, ignore_errors=True)
            (work / kind).replace(folder / kind)
            (work / f"{kind}.mp4").replace(folder / f"{kind}.mp4")
    finally:
        if ranks.is_first():
            shutil.rmtree(work, ignore_errors=True)
    return [folder / f"{kind}.mp4" for kind in kinds]


def _frames(folder: Path) -> Iterator[np.ndarray]:
    """The images of a folder, all at the size of the first."""
    size = None
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            size = size or image.size
            yield np.asarray(image if image.size == size else image.resize(size))
