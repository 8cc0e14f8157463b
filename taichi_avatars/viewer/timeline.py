"""The viewer's clock: the current timestep, and when the next one is due."""

from __future__ import annotations

from collections.abc import Sequence


class Timeline:
    """Plays timesteps at a speed. Time is that of the caller's clock, in seconds.

    If frames take longer than they last, timesteps are skipped: a motion keeps its speed on every machine.

    Attributes:
        timesteps: those played, in the capture's numbering; may be empty.
        index: position among them.
        fps: timesteps per second at speed 1.
    """

    def __init__(self, timesteps: Sequence[int], fps: float) -> None:
        self.timesteps, self.fps = tuple(timesteps), fps
        self.index = 0
        self.speed = 1.0
        self.loop = True
        self._since: tuple[float, int] | None = None  # when playing began, and at which index

    @property
    def timestep(self) -> int | None:
        return self.timesteps[self.index] if self.timesteps else None

    @property
    def playing(self) -> bool:
        return self._since is not None

    def play(self, now: float) -> None:
        """Plays from here, or from the start if it was at the end."""
        if len(self.timesteps) > 1:
            if self.index == len(self.timesteps) - 1:
                self.index = 0
            self._since = now, self.index

    def pause(self) -> None:
        self._since = None

    def seek(self, index: int, now: float) -> None:
        self.index = min(max(index, 0), max(len(self.timesteps) - 1, 0))
        if self.playing:
            self._since = now, self.index

    def set_speed(self, speed: float, now: float) -> None:
        self.speed = speed
        self.seek(self.index, now)

    def choose(self, timesteps: Sequence[int], now: float) -> None:
        """Plays other timesteps, from the current one or the nearest to it."""
        shown = self.timestep or 0
        self.timesteps = tuple(timesteps)
        nearest = min(range(len(self.timesteps)), key=lambda i: abs(self.timesteps[i] - shown), default=0)
        self.seek(nearest, now)
        if len(self.timesteps) < 2:
            self.pause()

    def advance(self, now: float) -> None:
        """Moves to the timestep that is due."""
        if self._since is None:
            return
        began, first = self._since
        index = first + int((now - began) * self.fps * self.speed + 1e-6)
        last = len(self.timesteps) - 1
        if index > last and not self.loop:
            self.index = last
            self.pause()
        else:
            self.index = index % len(self.timesteps)

    def next_due(self, now: float) -> float | None:
        """Seconds until another timestep is due; None while nothing plays."""
        if self._since is None:
            return None
        step = 1.0 / (self.fps * self.speed)
        return step - (now - self._since[0]) % step
