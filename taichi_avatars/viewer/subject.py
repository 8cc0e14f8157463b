"""The viewer's subject: an avatar or a scene, its motion, and the capture it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from taichi_avatars.avatar.avatar import Avatar, on_device
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.avatar.place import Place, place
from taichi_avatars.head.pose import HeadPose
from taichi_avatars.motion.motion import FPS
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import Capture
from taichi_avatars.scene.views import View
from taichi_avatars.video.viewpoints import frontal_camera
from taichi_avatars.viewer.look import Look, Parameters

ALL = "all"
PORTRAIT = (550, 802)
MOVED = ("rotation", "translation")  # parts of a pose that a neutral face keeps


@dataclass(eq=False)
class Subject:
    """The subject of a viewer.

    Attributes:
        avatars: with the FLAME parameters of its file, and, if a capture has them, with the tracked ones. The
            Gaussians are the same, on the kernels' device.
        splits: the capture's views by split; empty without a capture.
        first_camera: the initial view of a browser.
        place: of the head over its motion; for an unbound scene, of its Gaussians.
        fps: timesteps per second.
        background: initial value.
        name: for the title and for files.
    """

    avatars: dict[Parameters, Avatar]
    place: Place
    first_camera: Camera
    splits: dict[str, list[View]] = field(default_factory=dict)
    fps: float = float(FPS)
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = "avatar"

    @property
    def avatar(self) -> Avatar:
        return self.avatars["fine-tuned"]

    def show(self, avatar: Avatar) -> None:
        """Updates the avatar: training has changed its Gaussians and FLAME parameters."""
        tracked = self.avatars.get("tracked")
        self.avatars["fine-tuned"] = avatar
        if tracked is not None:
            self.avatars["tracked"] = Avatar(avatar.gaussians, avatar.head, tracked.sequence)

    def timesteps(self, split: str) -> list[int]:
        """Timesteps to play: those of a split's views, or all that the avatar has."""
        sequence = self.avatar.sequence
        if sequence is None:
            return []
        seen = {view.timestep for view in self.splits.get(split, [])}
        return [timestep for timestep in sequence.timesteps if timestep in seen] or list(sequence.timesteps)

    def cameras(self, split: str) -> dict[str, Camera]:
        """The capture's cameras by name, those of one split or of all."""
        chosen = [view for name, views in self.splits.items() if split in (ALL, name) for view in views]
        chosen.sort(key=lambda view: (view.camera_index, view.name))
        static = self.avatar.head is None  # every image has its own camera there
        return {(view.name if static else view.camera_id): view.camera for view in reversed(chosen)}

    def flame(self, look: Look, timestep: int | None, live: HeadPose | None = None) -> HeadPose | None:
        """The pose at a timestep with a look; None for an unbound scene.

        Args:
            live: a pose instead of the timestep's.
        """
        if self.avatar.head is None or timestep is None:
            return None
        performed = self.shown(look).pose(timestep) if live is None else live
        parts = {name: values.detach().clone() for name, values in performed.given().items()}
        if look.neutral:
            parts.pop("dynamic_offset", None)
            for name in parts.keys() - set(MOVED):
                parts[name].zero_()
        added = look.pose
        for name, values in (("jaw", added.jaw), ("neck", added.neck), ("eyes", (*added.eyes, 0.0) * 2)):
            if name in parts:
                parts[name] += torch.tensor(values, dtype=torch.float32)
        parts["expr"][: len(added.expr)] += torch.tensor(added.expr, dtype=torch.float32)
        return HeadPose(**parts)

    def shown(self, look: Look) -> Avatar:
        """The avatar with the FLAME parameters that a look selects."""
        return self.avatars.get(look.parameters, self.avatar)


def subject_of(avatar: Avatar, capture: Capture | None, first: Camera | None, **known: object) -> Subject:
    """The subject of an avatar.

    Args:
        capture: that it was trained on, if available.
        first: the initial camera for a scene without a head.
        known: further attributes of the subject.
    """
    avatar = on_device(avatar)
    avatars: dict[Parameters, Avatar] = {"fine-tuned": avatar}
    splits = {} if capture is None else {"train": capture.train, "val": capture.val, "test": capture.test}
    splits = {name: views for name, views in splits.items() if views}
    if avatar.head is None:
        where = _place_of(avatar.gaussians)
        cameras = [view.camera for views in splits.values() for view in views] or ([first] if first else [])
        first_camera = cameras[0] if cameras else frontal_camera(where, *PORTRAIT)
    else:
        where = place(avatar)
        first_camera = frontal_camera(where, *PORTRAIT)
        if capture is not None and capture.flame is not None:
            avatars["tracked"] = Avatar(avatar.gaussians, avatar.head, capture.flame)
    return Subject(avatars, where, first_camera, splits, **known)  # pyright: ignore[reportArgumentType]


def _place_of(gaussians: Gaussians) -> Place:
    """The place of the middle nine tenths of a scene's Gaussians; y up, as the true direction is unknown."""
    means = gaussians.means.detach().cpu()
    if not len(means):
        return Place(torch.zeros(3, dtype=torch.float32), torch.eye(3, dtype=torch.float32), torch.ones(3, dtype=torch.float32))
    some = means[:: 1 + len(means) // 100_000]
    low, high = some.quantile(0.05, dim=0), some.quantile(0.95, dim=0)
    return Place(0.5 * (low + high), torch.eye(3, dtype=torch.float32), (high - low).clamp(min=1e-3))
