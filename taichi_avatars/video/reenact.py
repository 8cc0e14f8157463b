"""Motion in, video out: an avatar driven by another motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from taichi_avatars import ranks
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.place import Place, moved, place
from taichi_avatars.errors import UserError
from taichi_avatars.evaluation.overlay import mesh_overlay, shaded_head
from taichi_avatars.files.png import as_uint8
from taichi_avatars.motion.motion import Motion, drive
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import Background, load_image
from taichi_avatars.scene.views import View
from taichi_avatars.video.camera_path import CameraPath
from taichi_avatars.video.label import labelled
from taichi_avatars.video.mp4 import write_mp4
from taichi_avatars.video.viewpoints import captured_camera, facing, frontal_camera, orbiting

Panel = Literal["driver", "avatar", "mesh", "overlay", "novel"]
PANELS: tuple[Panel, ...] = ("driver", "avatar", "mesh", "overlay", "novel")
SWING_SECONDS = 8.0  # of one orbit, there and back
ASIDE = math.radians(35.0)  # swing of the second camera if the first is fixed
GAP = 4  # gap between two panels, pixels


@dataclass(frozen=True, eq=False)
class Staging:
    """How a performance is filmed.

    Attributes:
        camera: the camera of the first frame; with a path, only its image size is used.
        place: of the head, which an orbiting camera swings around.
        orbit: angle of the swing to each side, radians; 0 for a fixed camera.
        background: red, green, blue in [0,1].
        path: of the camera, instead of an orbit, see `camera_path.read_camera_path`.
    """

    camera: Camera
    place: Place
    orbit: float
    background: Background
    path: CameraPath | None = None

    def at(self, seconds: float) -> Camera:
        """The camera at a moment."""
        if self.path is not None:
            return self.path.at(seconds, self.place, self.camera.width, self.camera.height)
        return orbiting(self.camera, self.place, seconds / SWING_SECONDS, self.orbit) if self.orbit else self.camera

    def aside(self, seconds: float) -> Camera:
        """A second camera, which swings to the other side."""
        return orbiting(self.camera, self.place, seconds / SWING_SECONDS, -(self.orbit or ASIDE))


def stage(
    avatar: Avatar,
    motion: Motion,
    *,
    size: tuple[int, int] = (550, 802),
    camera_id: str | None = None,
    own_views: list[View] | None = None,
    orbit: float = 0.0,
    path: CameraPath | None = None,
    background: Background = (0.0, 0.0, 0.0),
) -> tuple[Avatar, Staging]:
    """The avatar ready to perform, and the camera that films it.

    Args:
        size: width and height of the picture, pixels; without a `camera_id`.
        camera_id: a camera of the motion's capture, or, if the motion has none, of `own_views`; None for one in
            front of the head.
        own_views: the capture that the avatar was trained on.
        orbit: angle that the camera swings to each side, radians.
        path: of a camera, instead of both.

    Raises:
        UserError: if there is no such camera.
    """
    actor = drive(avatar, motion)
    if camera_id is None:
        where = place(actor)
        return actor, Staging(frontal_camera(where, *size), where, orbit, background, path)
    views = motion.views or own_views
    if not views:
        raise UserError(f"camera {camera_id}: neither the motion nor the avatar has a capture with cameras; omit it")
    camera = captured_camera(views, camera_id)
    if not motion.views:  # the motion was captured at another place
        actor = moved(actor, to=avatar)
    return actor, Staging(camera, place(actor), orbit, background)


def film(
    actor: Avatar, staging: Staging, fps: float, panels: Sequence[Panel] = ("avatar",), driver: Mapping[int, View] | None = None
) -> Iterator[np.ndarray]:
    """Frames (H,W,3) uint8 of a performance, rendered one by one on demand; of those, this process's share.

    Args:
        actor: its sequence is rendered from the first timestep to the last.
        panels: shown side by side, all at the height of the staging's camera.
        driver: images of the performer, by timestep, for the panel of this name.

    Raises:
        UserError: if the driver should be shown and has no images.
    """
    assert actor.sequence is not None
    if "driver" in panels and not driver:
        raise UserError("the motion has no images to show beside the avatar; omit driver from --show")
    background = (float(staging.background[0]), float(staging.background[1]), float(staging.background[2]))
    for index, timestep in ranks.share(list(enumerate(actor.sequence.timesteps))):
        camera, aside = staging.at(index / fps), staging.aside(index / fps)
        image = actor.render(camera, timestep=timestep, background=background).image.clamp(0.0, 1.0)
        columns = []
        for panel in panels:
            if panel == "avatar":
                columns.append(as_uint8(image))
            elif panel == "mesh":
                columns.append(as_uint8(shaded_head(actor, camera, timestep, background)[0]))
            elif panel == "overlay":
                columns.append(as_uint8(mesh_overlay(actor, camera, timestep, image)))
            elif panel == "novel":
                columns.append(as_uint8(actor.render(aside, timestep=timestep, background=background).image))
            elif driver:
                columns.append(_driver(driver.get(timestep), driver, camera.height, staging.background))
        yield _side_by_side(columns, staging.background)


def reenact(
    actor: Avatar,
    staging: Staging,
    path: Path | str,
    *,
    fps: float = 25.0,
    panels: Sequence[Panel] = ("avatar",),
    driver: Mapping[int, View] | None = None,
    audio: Path | str | None = None,
    label: str | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> int:
    """Films a performance into an mp4; returns the number of frames.

    Within `ranks.started` each process renders its share, and the first one writes.

    Args:
        panels, driver: see `film`.
        audio: see `mp4.write_mp4`.
        label: text on every frame.
        on_frame: called with the number of frames done.
    """

    def frames() -> Iterator[np.ndarray]:
        for index, frame in enumerate(ranks.in_order(film(actor, staging, fps, panels, driver), count)):
            yield labelled(frame, label)
            if on_frame is not None:
                on_frame(index + 1)

    assert actor.sequence is not None
    count = len(actor.sequence)
    with torch.no_grad():
        if ranks.is_first():
            return write_mp4(path, frames(), Fraction(fps).limit_denominator(1001), audio=audio)
        for _ in frames():
            pass
        return count


def driver_images(motion: Motion, camera_id: str | None, actor: Avatar) -> dict[int, View]:
    """Images of the motion's own capture by timestep: of one camera, or of the most frontal one."""
    if not motion.views:
        return {}
    chosen = camera_id or facing(motion.views, place(actor))
    views = [view for view in motion.views if chosen in (view.camera_id, str(view.camera_index))]
    return {view.timestep: view for view in views if view.timestep is not None}


def _driver(view: View | None, all_views: Mapping[int, View], height: int, background: Background) -> np.ndarray:
    """The driver's image at a height; empty if there is none at this time."""
    sample = view or next(iter(all_views.values()))
    width = round(sample.camera.width * height / sample.camera.height)
    if view is None:
        return np.broadcast_to(_empty(background), (height, width, 3))
    image = Image.fromarray(as_uint8(load_image(view, background)))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _side_by_side(columns: Sequence[np.ndarray], background: Background) -> np.ndarray:
    gap = np.broadcast_to(_empty(background), (columns[0].shape[0], GAP, 3))
    parts = [part for column in columns for part in (gap, column)][1:]
    return np.concatenate(parts, axis=1)


def _empty(background: Background) -> np.ndarray:
    return np.round(255 * np.asarray(background, dtype=np.float32)).astype(np.uint8)
