"""The viewer's camera path: key frames, their preview, files, and films along them."""

from __future__ import annotations

import json
import math
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taichi_avatars.errors import UserError
from taichi_avatars.files.json import parse_json
from taichi_avatars.motion.motion import FPS
from taichi_avatars.scene.georeference import NOWHERE, Origin
from taichi_avatars.video.camera_path import LARGEST_FOV, SMALLEST_FOV, CameraPath, camera_path, shifted
from taichi_avatars.video.mp4 import write_mp4
from taichi_avatars.viewer.panel import number

if TYPE_CHECKING:
    import viser

LARGEST_FILE = 1 << 20  # bytes of JSON: thousands of key frames
MOST_KEYS, LONGEST = 1000, 600.0  # seconds
STEP, SHORTEST_STEP, LONGEST_STEP = 2.0, 0.1, 60.0  # seconds from one key frame to the next: initial value, and bounds


@dataclass(frozen=True)
class Film:
    """A film to render: the path, and the function that returns the picture at a moment, (H,W,3) uint8."""

    path: CameraPath
    picture: Callable[[float], np.ndarray]

    @property
    def frames(self) -> int:
        return math.floor(float(self.path.times[-1] - self.path.times[0]) * FPS + 1e-6) + 1

    def time(self, frame: int) -> float:
        return float(self.path.times[0]) + frame / FPS


class _Cancelled(Exception):
    pass


class Director:
    """Key frames and their controls. Clicks are passed to the viewer, which calls the methods here on its own thread.

    Attributes:
        keys: key frames as in a camera path's file, see docs/formats.md; relative to the subject's origin.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        folder: Path,
        act: Callable[[str, int | None], None],
        with_motion: bool,
        origin: Origin = NOWHERE,
    ) -> None:
        self.keys: list[dict[str, Any]] = []
        self._origin = origin
        self._folder, self._cancel = folder, threading.Event()
        self._films: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._filming = False
        # One thread for all films: memory once used by a thread stays reserved for it.
        threading.Thread(target=self._work, daemon=True, name="viewer-film").start()
        with gui.add_folder("Camera path"):
            self._list = gui.add_markdown("")
            self._step = gui.add_number("Seconds between", STEP, min=SHORTEST_STEP, max=LONGEST_STEP, step=0.1)
            buttons = {
                "add key": gui.add_button("Add key frame"),
                "remove key": gui.add_button("Remove last"),
                "clear keys": gui.add_button("Remove all"),
                "preview": gui.add_button("Preview"),
                "save path": gui.add_button("Save as JSON"),
            }
            upload = gui.add_upload_button("Load JSON", mime_type="application/json")
            self._moving = gui.add_checkbox("Play the motion in the film", True) if with_motion else None
            buttons["film"] = gui.add_button("Film it: mp4")
            self._bar = gui.add_progress_bar(0.0, visible=False)
            cancel = gui.add_button("Cancel", visible=False)
        for name, button in buttons.items():
            button.on_click(lambda event, name=name: act(name, event.client_id))
        upload.on_upload(lambda event: act("load path", event.client_id))
        cancel.on_click(lambda event: self._cancel.set())
        self._upload, self._cancel_button = upload, cancel
        self._describe()

    @property
    def plays_motion(self) -> bool:
        return self._moving is not None and self._moving.value is True

    def add(self, camera: viser.CameraHandle) -> None:
        """Adds a key frame at a browser's view, some seconds after the last one."""
        if len(self.keys) >= MOST_KEYS:
            raise UserError(f"the camera path has {MOST_KEYS} key frames already; remove some")
        step = number(self._step.value, SHORTEST_STEP, LONGEST_STEP, STEP)
        key = {
            "time": round(self.keys[-1]["time"] + step, 3) if self.keys else 0.0,
            "position": [float(v) for v in camera.position],
            "look_at": [float(v) for v in camera.look_at],
            "up": [float(v) for v in camera.up_direction],
            "fov_y": min(max(math.degrees(camera.fov), SMALLEST_FOV), LARGEST_FOV),
        }
        camera_path({"keys": [*self.keys, key]}, "this view")  # before it is stored: browsers are untrusted
        self.keys.append(key)
        self._describe()

    def remove(self, everything: bool) -> None:
        self.keys = [] if everything else self.keys[:-1]
        self._describe()

    def path(self) -> CameraPath:
        """The path along the key frames.

        Raises:
            UserError: if there are none.
        """
        if not self.keys:
            raise UserError("the camera path has no key frames yet; look from somewhere and add one")
        return camera_path({"keys": self.keys}, "the camera path")

    def as_json(self) -> bytes:
        """The content of a file for `reenact --camera-path`."""
        self.path()
        return json.dumps({"frame": "world", "keys": shifted(self.keys, self._origin)}, indent=1).encode()

    def load(self) -> None:
        """Loads the key frames of the uploaded file.

        Raises:
            UserError: if it is not a camera path, or not in world space.
        """
        file = self._upload.value
        if len(file.content) > LARGEST_FILE:
            raise UserError(
                f"{file.name}: {len(file.content)} bytes are too many for a camera path; want at most {LARGEST_FILE}"
            )
        content = parse_json(file.content, file.name)
        path = camera_path(content, file.name)
        assert isinstance(content, dict)
        if path.of_head:
            raise UserError(f'{file.name}: runs in the head\'s own axes; the viewer wants "frame": "world"')
        if len(path.times) > MOST_KEYS or float(path.times[-1] - path.times[0]) > LONGEST:
            raise UserError(f"{file.name}: want at most {MOST_KEYS} key frames and {LONGEST:.0f} seconds")
        x, y, z = self._origin
        self.keys = shifted(content["keys"], (-x, -y, -z))
        self._describe()

    def shoot(self, film: Film, name: str, done: Callable[[Path | None, str], None]) -> None:
        """Renders a film on its thread.

        Args:
            name: of the file, without its number and suffix.
            done: called with the mp4, or None and the reason.

        Raises:
            UserError: if one is already being made.
        """
        if self._filming:
            raise UserError("a film is already being made; wait for it or cancel it")
        self._cancel.clear()
        self._filming = True
        self._films.put(lambda: self._shoot(film, name, done))

    def _work(self) -> None:
        while True:
            self._films.get()()
            self._filming = False

    def _shoot(self, film: Film, name: str, done: Callable[[Path | None, str], None]) -> None:
        def frames() -> Iterator[np.ndarray]:
            for frame in range(film.frames):
                if self._cancel.is_set():
                    raise _Cancelled
                yield film.picture(film.time(frame))
                self._bar.value = 100.0 * (frame + 1) / film.frames

        self._bar.value, self._bar.visible, self._cancel_button.visible = 0.0, True, True
        path = next(p for n in range(1, 10**6) if not (p := self._folder / f"{name}_{n}.mp4").exists())
        try:
            count = write_mp4(path, frames(), FPS)
            done(path, f"{count} frames")
        except _Cancelled:
            done(None, "cancelled")
        except Exception as error:  # any error ends this film but not the thread
            done(None, str(error) or type(error).__name__)
        finally:
            self._bar.visible = self._cancel_button.visible = False

    def _describe(self) -> None:
        if not self.keys:
            self._list.content = "No key frames yet."
            return
        length = self.keys[-1]["time"] - self.keys[0]["time"]
        self._list.content = f"{len(self.keys)} key frame{'s' * (len(self.keys) > 1)}, {length:g} seconds."
