"""The viewer's controls and the settings read from them. Browsers are untrusted: every value is checked when read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from taichi_avatars.viewer.look import LARGEST_HEIGHT, LAYERS, OVERLAYS, SMALLEST_HEIGHT, Look, Pose
from taichi_avatars.viewer.picture import Drawing
from taichi_avatars.viewer.subject import ALL, Subject

if TYPE_CHECKING:
    import viser

FIRST_EXPRESSIONS, MORE_EXPRESSIONS = 10, 50
NAMED, UNNAMED = 1.0, 3.0  # range of a slider: blend shapes end at 1, FLAME's components are standard deviations
LARGEST_ANGLE = 40.0  # degrees
SPEEDS = {"1/4": 0.25, "1/2": 0.5, "1": 1.0, "2": 2.0}
NO_CAMERA = "(free)"
AXES = {
    "jaw": ("Jaw: open", "Jaw: sideways", "Jaw: twist"),
    "neck": ("Neck: nod", "Neck: turn", "Neck: tilt"),
    "eyes": ("Eyes: down", "Eyes: aside"),
}

Choice = TypeVar("Choice", bound=str)


class Panel:
    """The controls that all browsers share. Their callbacks only tell the viewer that something happened.

    Args:
        changed: called when the picture may have changed.
        act: called with the action of a click and the browser that clicked.
    """

    def __init__(
        self,
        gui: viser.GuiApi,
        subject: Subject,
        height: int,
        changed: Callable[[], None],
        act: Callable[[str, int | None], None],
    ) -> None:
        self._gui, self._subject, self._act = gui, subject, act
        self._changed = lambda event: changed()
        self.statistics = gui.add_markdown("")
        if subject.avatar.sequence is not None:
            self._add_timeline()
        self.tabs = gui.add_tab_group()
        with self.tabs.add_tab("Picture"):
            self._add_picture(height)
        self._sliders: dict[str, list[Any]] = {}
        if subject.avatar.head is not None:
            with self.tabs.add_tab("Face"):
                self._add_face()
        with self.tabs.add_tab("Camera"):
            self._add_camera()

    def _add_timeline(self) -> None:
        gui, steps = self._gui, self._subject.timesteps(ALL)
        with gui.add_folder("Timeline"):
            self.time = gui.add_slider("Frame", min=0, max=max(len(steps) - 1, 1), step=1, initial_value=0)
            self.play = gui.add_button("Play")
            self.speed = gui.add_dropdown("Speed", list(SPEEDS), initial_value="1")
            self.loop = gui.add_checkbox("Loop", True)
        self.time.on_update(self._from_a_browser("seek"))
        self.play.on_click(lambda event: self._act("play", event.client_id))
        self.speed.on_update(self._from_a_browser("speed"))
        self.loop.on_update(self._from_a_browser("loop"))

    def _add_picture(self, height: int) -> None:
        gui, subject = self._gui, self._subject
        self._layer = self._watched(gui.add_dropdown("Gaussians", LAYERS))
        if subject.avatar.head is not None:
            self._overlay = self._watched(gui.add_dropdown("Mesh", OVERLAYS))
            self._opacity = self._watched(gui.add_slider("Opacity", min=0.0, max=1.0, step=0.05, initial_value=0.6))
        degree = subject.avatar.gaussians.degree
        self._scale = self._watched(gui.add_slider("Size of Gaussians", min=0.05, max=2.0, step=0.05, initial_value=1.0))
        self._degree = self._watched(gui.add_slider("SH degree", min=0, max=max(degree, 1), step=1, initial_value=degree))
        red, green, blue = (round(255 * channel) for channel in subject.background)
        self._background = self._watched(gui.add_rgb("Background", initial_value=(red, green, blue)))
        self._height = self._watched(
            gui.add_slider("Height, pixels", min=SMALLEST_HEIGHT, max=LARGEST_HEIGHT, step=1, initial_value=height)
        )
        save = gui.add_button("Save picture")
        save.on_click(lambda event: self._act("save picture", event.client_id))

    def _add_face(self) -> None:
        gui, subject = self._gui, self._subject
        head = subject.avatar.head
        assert head is not None
        if len(subject.avatars) > 1:
            self._parameters = self._watched(gui.add_dropdown("FLAME", list(subject.avatars)))
        self._neutral = self._watched(gui.add_checkbox("Neutral face", False))
        reset = gui.add_button("Reset sliders")
        reset.on_click(lambda event: self._act("reset", event.client_id))
        largest = LARGEST_ANGLE
        has = {part.name for part in head.parts}
        for part, names in AXES.items():
            self._sliders[part] = [self._slider(name, -largest, largest, 0.5) for name in names if part in has]
        names = head.expression_names or [f"Expression {k + 1}" for k in range(head.n_expr)]
        end = NAMED if head.expression_names else UNNAMED
        self._sliders["expr"] = [self._slider(name, -end, end, 0.01) for name in names[:FIRST_EXPRESSIONS]]
        if more := names[FIRST_EXPRESSIONS : FIRST_EXPRESSIONS + MORE_EXPRESSIONS]:
            with gui.add_folder("More expressions", expand_by_default=False):
                self._sliders["expr"] += [self._slider(name, -end, end, 0.01) for name in more]

    def _add_camera(self) -> None:
        gui, subject = self._gui, self._subject
        if subject.splits:
            self.split = gui.add_dropdown("Split", [ALL, *subject.splits])
            self.camera = gui.add_dropdown("Camera", [NO_CAMERA, *subject.cameras(ALL)])
            self.split.on_update(self._from_a_browser("split"))
            self.camera.on_update(self._from_a_browser("camera"))
        front = gui.add_button("Front view")
        front.on_click(lambda event: self._act("front", event.client_id))

    def _slider(self, name: str, low: float, high: float, step: float) -> Any:
        return self._watched(self._gui.add_slider(name, min=low, max=high, step=step, initial_value=0.0))

    def _watched(self, handle: Any) -> Any:
        handle.on_update(self._changed)
        return handle

    def _from_a_browser(self, name: str) -> Callable[[Any], None]:
        """A callback for changes by users; those made by the viewer itself are ignored."""

        def told(event: Any) -> None:
            if event.client_id is not None:
                self._act(name, event.client_id)

        return told

    def look(self) -> Look:
        """The look set by the controls."""
        subject = self._subject
        bound = subject.avatar.head is not None
        red, green, blue = (number(channel, 0, 255, 0) / 255 for channel in _triple(self._background.value))
        return Look(
            layer=chosen(self._layer, LAYERS),
            overlay=chosen(self._overlay, OVERLAYS) if bound else "nothing",
            opacity=number(self._opacity.value, 0.0, 1.0, 0.6) if bound else 0.0,
            scale=number(self._scale.value, 0.05, 2.0, 1.0),
            sh_degree=int(number(self._degree.value, 0, 3, 3)),
            background=(red, green, blue),
            parameters=chosen(self._parameters, list(subject.avatars)) if len(subject.avatars) > 1 else "fine-tuned",
            neutral=bound and self._neutral.value is True,
            pose=self._pose() if bound else Pose(),
        )

    def _pose(self) -> Pose:
        def values(part: str, unit: float) -> tuple[float, ...]:
            return tuple(unit * number(slider.value, slider.min, slider.max, 0.0) for slider in self._sliders[part])

        degree = math.radians(1.0)
        return Pose(values("jaw", degree), values("neck", degree), values("eyes", degree), values("expr", 1.0))

    @property
    def height(self) -> int:
        """Of the full picture, pixels."""
        return int(number(self._height.value, SMALLEST_HEIGHT, LARGEST_HEIGHT, SMALLEST_HEIGHT))

    @property
    def index(self) -> int:
        return int(number(self.time.value, 0, 1e9, 0))

    @property
    def chosen_speed(self) -> float:
        return SPEEDS[chosen(self.speed, list(SPEEDS))]

    def reset_sliders(self) -> None:
        for slider in (slider for sliders in self._sliders.values() for slider in sliders):
            slider.value = 0.0

    def show_time(self, index: int, count: int, playing: bool) -> None:
        """Moves the timeline's controls to the playback position."""
        if self.time.max != max(count - 1, 1):
            self.time.max = max(count - 1, 1)
        if self.time.value != index:
            self.time.value = index
        label = "Pause" if playing else "Play"
        if self.play.label != label:
            self.play.label = label

    def show_statistics(self, picture: Drawing, rate: float, gaussians: int) -> None:
        """Shows the statistics of the last picture.

        Args:
            rate: pictures per second.
            gaussians: their total number.
        """
        height, width = picture.image.shape[:2]
        speed = f"**{rate:.0f} fps**" if rate >= 1.5 else "**At rest**"
        stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in picture.stages.items() if ms >= 0.05)
        text = f"{speed} at {width} x {height}, {picture.visible:,} of {gaussians:,} Gaussians  \nms: {stages}"
        self.statistics.content = text

    def show_split(self) -> str:
        """Lists the cameras of the chosen split; returns its name."""
        split = chosen(self.split, [ALL, *self._subject.splits])
        self.camera.options = [NO_CAMERA, *self._subject.cameras(split)]
        return split


def chosen(handle: Any, options: Sequence[Choice]) -> Choice:
    """The value of a dropdown, or its first option if the value is invalid."""
    return next((option for option in options if option == handle.value), options[0])


def number(value: object, low: float, high: float, otherwise: float) -> float:
    """The number of a control, clamped to its bounds; `otherwise` if it is invalid."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return otherwise
    return min(max(float(value), low), high)


def _triple(value: Any) -> tuple[object, object, object]:
    try:
        red, green, blue = value
    except (TypeError, ValueError):
        return 0, 0, 0
    return red, green, blue
