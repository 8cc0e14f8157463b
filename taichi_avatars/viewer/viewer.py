"""The viewer itself: browsers connect and disconnect, controls change, and one thread draws whatever is due."""

from __future__ import annotations

import io
import math
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.motion.live.performer import Performer
from taichi_avatars.motion.live.source import Source
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.viewer.address import HOST, PORT, listen, url
from taichi_avatars.viewer.director import Director, Film
from taichi_avatars.viewer.eye import Eye, eye_of
from taichi_avatars.viewer.live_tab import LiveTab
from taichi_avatars.viewer.look import HEIGHT, Look
from taichi_avatars.viewer.panel import NO_CAMERA, Panel, chosen
from taichi_avatars.viewer.picture import Drawing, PosedAvatar, draw, posed
from taichi_avatars.viewer.screen import Screen
from taichi_avatars.viewer.subject import ALL, Subject
from taichi_avatars.viewer.timeline import Timeline

if TYPE_CHECKING:
    import viser

REST = 0.25  # seconds at rest after which the full picture is drawn
FLUID = 40.0  # maximum milliseconds of a picture while something moves
SHARES = (1.0, 0.75, 0.5, 0.375, 0.25)  # of the full picture's height, while something moves
STATISTICS_EVERY, CONTROLS_EVERY = 0.5, 0.1  # seconds
IDLE = 1.0  # seconds between checks of silent browsers


class Viewer:
    """Serves an avatar to browsers.

    All state belongs to the thread that calls `turn`: callbacks from browsers only queue requests.

    Attributes:
        subject: the subject; training replaces its avatars.
        version: of the avatar; when it changes, pictures are redrawn.
        address: for browsers.

    Args:
        folder: for films.
        height: of the full picture, initially.
        live: a source of motion that is not yet started, and the performer that makes poses of it.
    """

    def __init__(
        self,
        subject: Subject,
        folder: Path,
        *,
        host: str = HOST,
        port: int = PORT,
        height: int = HEIGHT,
        live: tuple[Performer, Source] | None = None,
    ) -> None:
        self.subject, self.version = subject, 0
        self.timeline = Timeline(subject.timesteps(ALL), subject.fps)
        self._folder = folder
        self._wake = threading.Event()
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._screens: dict[int, Screen] = {}
        self._look: Look | None = None
        self._moving_since = -math.inf
        self._share = 1.0
        self._posed: tuple[object, PosedAvatar] | None = None  # the last one, and its inputs
        self._drawn: Drawing | None = None
        self._said: Drawing | None = None
        self._told: tuple[int, int, bool] | None = None
        self._said_at = self._told_at = -math.inf
        self.server = listen(host, port, f"taichi_avatars: {subject.name}")
        self.address = url(host, self.server.get_port())
        gui = self.server.gui
        gui.configure_theme(dark_mode=True, show_share_button=False, control_width="medium")
        self.panel = Panel(gui, subject, height, self._wake.set, self._act)
        with self.panel.tabs.add_tab("Path"):
            self.director = Director(gui, folder, self._act, bool(self.timeline.timesteps), subject.avatar.origin)
        self._live: LiveTab | None = None
        if live is not None:
            with self.panel.tabs.add_tab("Live"):
                self._live = LiveTab(gui, *live, self._act, self._wake.set)
        self._start_at_first_camera()
        self.server.on_client_connect(lambda client: self.post(lambda: self._welcome(client)))
        self.server.on_client_disconnect(lambda client: self.post(lambda: self._forget(client.client_id)))

    def _start_at_first_camera(self) -> None:
        """Sets the initial camera of a browser."""
        camera, target = self.subject.first_camera, self.subject.place.center.double().numpy()
        pose = eye_of(camera).world_from_camera().numpy()
        self.server.scene.set_up_direction(tuple(-pose[:3, 1]))
        first = self.server.initial_camera
        first.position, first.look_at, first.up = pose[:3, 3], target, -pose[:3, 1]
        first.fov = 2.0 * math.atan(0.5 * camera.height / camera.fy)

    # -- what other threads may call

    def post(self, request: Callable[[], None]) -> None:
        """Queues work for the drawing thread."""
        self._requests.put(request)
        self._wake.set()

    def ask(self, question: Callable[[], Drawing]) -> Drawing:
        """Requests a drawing, and waits for it."""
        answer: Future[Drawing] = Future()

        def work() -> None:
            try:
                answer.set_result(question())
            except Exception as error:  # the error belongs to the caller
                answer.set_exception(error)

        self.post(work)
        return answer.result()

    def _act(self, what: str, client_id: int | None) -> None:
        self.post(lambda: self._do(what, client_id))

    @property
    def busy(self) -> bool:
        """Whether any browser is connected or a request is waiting."""
        return bool(self._screens) or not self._requests.empty()

    # -- the thread that draws

    def warm_up(self) -> None:
        """Draws a first picture, so that kernels are compiled before a user waits for one."""
        camera = self.subject.first_camera
        camera = camera.resized(*(max(16, side // 8) for side in (camera.width, camera.height)))
        self._draw(camera, self.panel.look())

    def run(self) -> None:
        """Serves until Ctrl-C."""
        while True:
            self.turn()
            self.wait()

    def wait(self) -> None:
        """Waits until something changes, or the timeline or a picture is due."""
        now = time.monotonic()
        due = [IDLE]
        if (tick := self.timeline.next_due(now)) is not None:
            due.append(tick)
        if self._live is not None and (tick := self._live.due) is not None:
            due.append(tick)
        if any(screen.coarse and screen.ready for screen in self._screens.values()):
            due.append(0.25 * REST)
        if self.timeline.timesteps and self._told != self._playback:
            due.append(CONTROLS_EVERY)
        if self._drawn is not self._said:
            due.append(STATISTICS_EVERY)
        if any(screen.preview for screen in self._screens.values()):
            due.append(0.02)
        self._wake.wait(min(due))
        self._wake.clear()

    def turn(self, *, news: bool = True) -> float:
        """Handles requests and draws what is due, at most one picture per browser; returns the seconds of drawing.

        Args:
            news: whether a new version of the avatar is a reason to draw.
        """
        self._serve_requests()
        now, spent = time.monotonic(), 0.0
        self.timeline.advance(now)
        look = self.panel.look()
        moved = self._live is not None and self._live.advance(now)
        if moved or look != self._look:
            self._look, self._moving_since = look, now
        for screen in list(self._screens.values()):
            if (picture := self._drawn_for(screen, look, now, news)) is not None:
                spent += sum(picture.stages.values()) / 1000.0
        self._show_state(now)
        return spent

    def _serve_requests(self) -> None:
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            try:
                request()
            except Exception as error:  # of one request; the viewer continues
                print(f"viewer: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def _drawn_for(self, screen: Screen, look: Look, now: float, news: bool) -> Drawing | None:
        """Draws and passes on the picture that a browser is due; None if it is up to date or still busy."""
        eye, new = screen.look()
        if new:
            screen.moving_since = now
        if eye is None or not screen.ready:
            return None
        full = self.panel.height
        camera = self._previewed(screen, eye, full, now)
        moving = now - max(screen.moving_since, self._moving_since) < REST
        height = max(1, round(full * self._share)) if moving and camera is None else full
        live = self._live and self._live.pose and self._live.version
        what = eye, look, self.timeline.timestep, live, height, full, camera and now
        if screen.what == what and (screen.version == self.version or not news):
            return None
        picture = self._draw(camera or eye.camera(height, full), look)
        screen.what, screen.version, screen.coarse = what, self.version, height < full
        screen.show(picture.image)
        if self._live is not None:
            self._live.drawn()
        self._drawn = picture
        self._adapt(picture, height / full)
        return picture

    def _previewed(self, screen: Screen, eye: Eye, height: int, now: float) -> Camera | None:
        """The camera of the path that a browser plays; None if it plays none, or the path has ended."""
        if screen.preview is None:
            return None
        path, began = screen.preview
        at = float(path.times[0]) + now - began
        if at <= float(path.times[-1]):
            return path.at(at, self.subject.place, round(height * eye.aspect), height)
        screen.preview = None
        return None

    def _draw(self, camera: Camera, look: Look, timestep: int | None = None) -> Drawing:
        subject = self.subject
        at = self.timeline.timestep if timestep is None else timestep
        live = self._live if timestep is None else None
        pose = live and live.pose
        what = self.version, look.parameters, look.neutral, look.pose, look.scale, at, pose and live and live.version
        if self._posed is not None and self._posed[0] == what:  # only the camera has changed
            return draw(self._posed[1], camera, look)
        still = posed(subject.shown(look), subject.flame(look, at, pose), look.scale)
        self._posed = what, replace(still, stages=dict.fromkeys(still.stages, 0.0))
        return draw(still, camera, look)

    def _adapt(self, picture: Drawing, share: float) -> None:
        """Chooses the size of pictures while something moves, so that motion stays fluid."""
        whole = sum(picture.stages.values()) / share**2
        self._share = next((s for s in SHARES if s * s * whole <= FLUID), SHARES[-1])

    @property
    def _playback(self) -> tuple[int, int, bool]:
        return self.timeline.index, len(self.timeline.timesteps), self.timeline.playing

    def _show_state(self, now: float) -> None:
        """Updates statistics and the playback position, no more often than people can read."""
        if self._live is not None:
            self._live.show(now)
        if self.timeline.timesteps and self._told != self._playback and now - self._told_at > CONTROLS_EVERY:
            self._told, self._told_at = self._playback, now
            self.panel.show_time(*self._playback)
        if self._drawn is not self._said and self._drawn is not None and now - self._said_at > STATISTICS_EVERY:
            self._said, self._said_at = self._drawn, now
            rate = max((screen.rate() for screen in self._screens.values()), default=0.0)
            self.panel.show_statistics(self._drawn, rate, len(self.subject.avatar.gaussians))

    # -- browsers

    def _welcome(self, client: viser.ClientHandle) -> None:
        self._screens[client.client_id] = Screen(client, self._wake.set)
        client.camera.on_update(lambda _: self._wake.set())

    def _forget(self, client_id: int) -> None:
        if (screen := self._screens.pop(client_id, None)) is not None:
            screen.close()

    def _do(self, what: str, client_id: int | None) -> None:
        """Performs the action of a click or control of a browser; its errors are shown in that browser."""
        screen = self._screens.get(client_id) if client_id is not None else None
        try:
            if what in self._actions:
                self._actions[what](self, screen)
        except UserError as error:
            if screen is not None:
                screen.client.add_notification("Not done", str(error), color="red", auto_close_seconds=10.0)

    def _toggle(self, screen: Screen | None) -> None:
        if self.timeline.playing:
            self.timeline.pause()
        else:
            self.timeline.play(time.monotonic())

    def _seek(self, screen: Screen | None) -> None:
        self.timeline.seek(self.panel.index, time.monotonic())
        self._moving_since = time.monotonic()

    def _set_speed(self, screen: Screen | None) -> None:
        self.timeline.set_speed(self.panel.chosen_speed, time.monotonic())

    def _set_loop(self, screen: Screen | None) -> None:
        self.timeline.loop = self.panel.loop.value is True

    def _choose_split(self, screen: Screen | None) -> None:
        split = self.panel.show_split()
        self.timeline.choose(self.subject.timesteps(split), time.monotonic())

    def _choose_camera(self, screen: Screen | None) -> None:
        cameras = self.subject.cameras(chosen(self.panel.split, [ALL, *self.subject.splits]))
        name = chosen(self.panel.camera, [NO_CAMERA, *cameras])
        if screen is not None and name != NO_CAMERA:
            self._move(screen, cameras[name])

    def _go_to_front(self, screen: Screen | None) -> None:
        if screen is not None:
            self._move(screen, self.subject.first_camera)

    def _move(self, screen: Screen, camera: Camera) -> None:
        screen.look_like(camera, self.subject.place.center.double().numpy())

    def _save_picture(self, screen: Screen | None) -> None:
        if screen is not None and (eye := screen.look()[0]) is not None and self._look is not None:
            height = self.panel.height
            file = io.BytesIO()
            Image.fromarray(self._draw(eye.camera(height, height), self._look).image).save(file, "png")
            at = "" if self.timeline.timestep is None else f"_{self.timeline.timestep:05d}"
            screen.client.send_file_download(f"{self.subject.name}{at}.png", file.getvalue())

    def _set_neutral(self, screen: Screen | None) -> None:
        if self._live is not None and not self._live.calibrate():
            raise UserError("no face has come yet that could be the neutral one")

    def _forget_neutral(self, screen: Screen | None) -> None:
        if self._live is not None:
            self._live.forget_neutral()

    def _add_key(self, screen: Screen | None) -> None:
        if screen is not None:
            self.director.add(screen.client.camera)

    def _preview(self, screen: Screen | None) -> None:
        if screen is not None:
            screen.preview = self.director.path(), time.monotonic()

    def _save_path(self, screen: Screen | None) -> None:
        content = self.director.as_json()
        if screen is not None:
            screen.client.send_file_download("camera_path.json", content)

    def _film(self, screen: Screen | None) -> None:
        if screen is None or (eye := screen.look()[0]) is None:
            return
        path, look, timeline = self.director.path(), self.panel.look(), self.timeline
        height = self.panel.height
        width = round(height * eye.aspect)
        steps = timeline.timesteps
        first, rate = timeline.index, timeline.fps * timeline.speed if self.director.plays_motion else 0.0

        def picture(at: float) -> np.ndarray:
            step = steps[(first + int((at - float(path.times[0])) * rate + 1e-6)) % len(steps)] if steps else None
            camera = path.at(at, self.subject.place, width, height)
            return self.ask(lambda: self._draw(camera, look, step)).image

        def done(file: Path | None, text: str) -> None:
            self.post(lambda: self._hand_over(screen, file, text))

        self.director.shoot(Film(path, picture), "film", done)

    def _hand_over(self, screen: Screen, file: Path | None, text: str) -> None:
        """Tells the browser that requested a film where it is, and offers it for download."""
        color = "green" if file else "red"
        screen.client.add_notification("Film", f"{file}: {text}" if file else text, color=color, auto_close_seconds=15.0)
        if file is not None:
            screen.client.send_file_download(file.name, file.read_bytes())

    _actions: dict[str, Callable[[Viewer, Screen | None], None]] = {  # noqa: RUF012
        "play": _toggle,
        "seek": _seek,
        "speed": _set_speed,
        "loop": _set_loop,
        "split": _choose_split,
        "camera": _choose_camera,
        "front": _go_to_front,
        "reset": lambda self, _: self.panel.reset_sliders(),
        "save picture": _save_picture,
        "neutral": _set_neutral,
        "forget neutral": _forget_neutral,
        "add key": _add_key,
        "remove key": lambda self, _: self.director.remove(everything=False),
        "clear keys": lambda self, _: self.director.remove(everything=True),
        "preview": _preview,
        "save path": _save_path,
        "load path": lambda self, _: self.director.load(),
        "film": _film,
    }

    def close(self) -> None:
        if self._live is not None:
            self._live.close()
        for client_id in list(self._screens):
            self._forget(client_id)
        with redirect_stdout(io.StringIO()):  # reports that it stopped
            self.server.stop()
