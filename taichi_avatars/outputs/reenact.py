"""Motion in, video out: an avatar performs what somebody else did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.errors import UserError
from taichi_avatars.outputs.motion import Motion, Place, drive, moved, place
from taichi_avatars.outputs.video import as_uint8, write_mp4
from taichi_avatars.outputs.viewpoints import captured_camera, facing, frontal_camera, orbiting
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.images import Background, load_image
from taichi_avatars.scene.views import View

SWING_SECONDS = 8.0  # of one orbit, there and back
GAP = 4  # pixels between driver and avatar


@dataclass(frozen=True, eq=False)
class Shot:
    """How a performance is filmed.

    Attributes:
        camera: where it stands at the first frame.
        place: of the head, which an orbiting camera swings around.
        orbit: angle of the swing to each side, radians; 0 for a fixed camera.
        background: red, green, blue in [0,1].
    """

    camera: Camera
    place: Place
    orbit: float
    background: Background

    def at(self, seconds: float) -> Camera:
        return orbiting(self.camera, self.place, seconds / SWING_SECONDS, self.orbit) if self.orbit else self.camera


def stage(
    avatar: Avatar,
    motion: Motion,
    *,
    size: tuple[int, int] = (550, 802),
    camera_id: str | None = None,
    own_views: list[View] | None = None,
    orbit: float = 0.0,
    background: Background = (0.0, 0.0, 0.0),
) -> tuple[Avatar, Shot]:
    """The avatar ready to perform, and the camera that films it.

    Args:
        size: width and height of the picture, pixels; without a `camera_id`.
        camera_id: a camera of the motion's capture, or, where the motion has none, of `own_views`; else one that stands in
            front of the head.
        own_views: the capture that the avatar was trained on.
        orbit: angle that the camera swings to each side, radians.

    Raises:
        UserError: where there is no such camera.
    """
    actor = drive(avatar, motion)
    if camera_id is None:
        where = place(actor)
        return actor, Shot(frontal_camera(where, *size), where, orbit, background)
    views = motion.views or own_views
    if not views:
        raise UserError(f"camera {camera_id}: neither the motion nor the avatar has a capture with cameras; leave it out")
    camera = captured_camera(views, camera_id)
    if not motion.views:  # the motion took place somewhere else
        actor = moved(actor, to=avatar)
    return actor, Shot(camera, place(actor), orbit, background)


def film(actor: Avatar, shot: Shot, fps: float, driver: Mapping[int, View] | None = None) -> Iterator[np.ndarray]:
    """Frames (H,W,3) uint8 of a performance, rendered one by one as they are asked for.

    Args:
        actor: its sequence is what is shown, from the first timestep to the last.
        driver: images to show on the left, by timestep.
    """
    assert actor.sequence is not None
    background = (float(shot.background[0]), float(shot.background[1]), float(shot.background[2]))
    for index, timestep in enumerate(actor.sequence.timesteps):
        camera = shot.at(index / fps)
        frame = as_uint8(actor.render(camera, timestep=timestep, background=background).image)
        yield _beside(driver.get(timestep), driver, frame, shot.background) if driver else frame


def reenact(
    actor: Avatar,
    shot: Shot,
    path: Path | str,
    *,
    fps: float = 25.0,
    driver: Mapping[int, View] | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> int:
    """Films a performance into an mp4; returns the number of frames. Arguments as `film`; `on_frame` gets the frames done."""

    def frames() -> Iterator[np.ndarray]:
        for index, frame in enumerate(film(actor, shot, fps, driver)):
            yield frame
            if on_frame is not None:
                on_frame(index + 1)

    with torch.no_grad():
        return write_mp4(path, frames(), Fraction(fps).limit_denominator(1001))


def driver_images(motion: Motion, camera_id: str | None, actor: Avatar) -> dict[int, View]:
    """Images of the motion's own capture by timestep: of one camera, or of the one that looks most straight into the face."""
    if not motion.views:
        return {}
    chosen = camera_id or facing(motion.views, place(actor))
    views = [view for view in motion.views if chosen in (view.camera_id, str(view.camera_index))]
    return {view.timestep: view for view in views if view.timestep is not None}


def _beside(view: View | None, all_views: Mapping[int, View], frame: np.ndarray, background: Background) -> np.ndarray:
    """The driver's image on the left of a frame, at its height; empty where there is none at this time."""
    height = frame.shape[0]
    sample = view or next(iter(all_views.values()))
    width = round(sample.camera.width * height / sample.camera.height)
    empty = np.round(255 * np.asarray(background, dtype=np.float32)).astype(np.uint8)
    left = np.broadcast_to(empty, (height, width, 3))
    if view is not None:
        left = np.asarray(
            Image.fromarray(as_uint8(load_image(view, background))).resize((width, height), Image.Resampling.LANCZOS)
        )
    return np.concatenate([left, np.broadcast_to(empty, (height, GAP, 3)), frame], axis=1)
