"""The pictures of a tracked video: cut out for the capture, and with the mesh over them for a film."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from taichi_avatars.bars import Bar
from taichi_avatars.faces.networks import one_thread
from taichi_avatars.files.png import encode_rgba
from taichi_avatars.head.flame import FlameModel
from taichi_avatars.head.sequence import FlameSequence
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.tracking import capture_files as files
from taichi_avatars.tracking.choosing import Choice
from taichi_avatars.tracking.fit import ClipFit
from taichi_avatars.tracking.hair import HairSurvey
from taichi_avatars.tracking.matte import Matting
from taichi_avatars.tracking.overlay import Overlay
from taichi_avatars.tracking.posed import PosedHead
from taichi_avatars.tracking.silhouettes import Silhouette
from taichi_avatars.tracking.source import TimedFrame, video_frames
from taichi_avatars.tracking.tracked import Tracked
from taichi_avatars.tracking.views import Framing, frame_head, whole_picture
from taichi_avatars.video.mp4 import write_mp4

FILM_SIZE, FILM_RATE = 480, 10  # pixels of the longer side of tracking.mp4, and pictures a second
OVERLAY = "tracking.mp4"
SURVEYED = 40  # pictures


class Pictures:
    """Those of one video."""

    def __init__(
        self,
        head: FlameModel,
        one: Tracked,
        own: ClipFit,
        sequence: FlameSequence,
        center: Tensor,
        choice: Choice,
        silhouettes: Mapping[int, Silhouette],
        size: int,
        number: int,
    ) -> None:
        self.one, self.choice, self.number, self.head = one, choice, number, head
        self.silhouettes = silhouettes
        self.vertices = PosedHead(head, sequence)
        source, looked = one.watched.source, (one.watched.width, one.watched.height)
        native = (source.width, source.height)
        self.looked = looked
        rows = np.concatenate([choice.rows("train"), choice.rows("test")])
        self.whole = whole_picture(native, looked, own.focal, min(FILM_SIZE, max(looked)))
        camera = whole_picture(looked, looked, own.focal, max(looked)).camera(-center)
        seen = [_corners(self.vertices(int(row)), camera) for row in rows[:: max(1, len(rows) // 100)]]
        self.framing: Framing = frame_head(
            native, looked, own.focal, np.concatenate(seen or [np.array([[0, 0], looked])]), size
        )
        self.camera, self.whole_camera = self.framing.camera(-center), self.whole.camera(-center)
        self.matting, self.overlay = Matting(head), Overlay(head)
        self.rows = rows

    def write(self, folder: Path, rate: float, bar: Bar) -> Path:
        """images/ of the chosen rows, and tracking.mp4, or tracking_1.mp4 and so on of further videos."""
        name = OVERLAY if self.number == 0 else OVERLAY.replace(".", f"_{self.number}.")
        spacing = np.diff(self.one.watched.seconds)
        fps = max(1, round(1 / float(np.median(spacing)))) if len(spacing) else round(rate)
        every = -(-fps // FILM_RATE)
        with one_thread():
            self._survey()
            write_mp4(folder / name, self._frames(folder, rate, every, bar), max(1, round(fps / every)), preset="ultrafast")
        return folder / name

    def _survey(self) -> None:
        """Learns how far the hair goes from some of the pictures."""
        survey = HairSurvey(self.matting)
        for row in self.rows[:: max(1, len(self.rows) // SURVEYED)].tolist():
            if row in self.silhouettes:
                survey.look(self._silhouette(row), self.vertices(row), self.camera)
        self.matting = Matting(self.head, survey.margins())

    def _silhouette(self, row: int) -> Silhouette:
        """In the pictures of the capture."""
        seen = self.silhouettes[row]
        return replace(seen, region=self.framing.placed(seen.region, self.looked))

    def _frames(self, folder: Path, rate: float, every: int, bar: Bar) -> Iterator[np.ndarray]:
        for frame in video_frames(self.one.watched.source, rate):
            row, use = frame.number, self.choice.use[frame.number]
            vertices = self.vertices(row)
            if use in ("train", "test"):
                self._cut_out(folder, row, vertices, frame.picture((self.framing.read_width, self.framing.read_height)))
            if row % every == 0:
                yield self._drawn(frame, vertices)
            bar.update(row + 1)

    def _drawn(self, frame: TimedFrame, vertices: Tensor) -> np.ndarray:
        picture = self.whole.cut(frame.picture((self.whole.read_width, self.whole.read_height)))
        if self.one.seen.presence[frame.number] == 0:
            return picture
        landmarks = self.one.seen.points[frame.number, :, :2] * (self.whole.read_width / self.one.watched.width)
        return self.overlay.draw(picture, vertices, self.whole_camera, landmarks, self.choice.use[frame.number] != "dropped")

    def _cut_out(self, folder: Path, row: int, vertices: Tensor, picture: np.ndarray) -> None:
        path = folder / files.IMAGES / files.image_name(self.one.first + row, self.number)
        if path.is_file():
            return  # from before an interrupt
        seen = self._silhouette(row)
        rgba = self.matting.cut_out(self.framing.cut(picture), vertices, self.camera, seen.region, seen.alpha)
        # Whole or not at all, so that it can be trusted after an interrupt; all of the folder is put in place later.
        temporary = path.with_suffix(".unfinished")
        temporary.write_bytes(encode_rgba(rgba))
        os.replace(temporary, path)


def _corners(vertices: Tensor, camera: Camera) -> np.ndarray:
    """(2,2) the corners of the box round a mesh, pixels."""
    seen = vertices @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    pixels = seen[:, :2] / seen[:, 2:] * camera.fx + torch.tensor([camera.cx, camera.cy])
    return torch.stack([pixels.amin(0), pixels.amax(0)]).numpy()
