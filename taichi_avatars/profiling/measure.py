"""Profiles: some warm training steps and some rendered frames, recorded and summed up."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.avatar.model_folder import load_model, load_source
from taichi_avatars.bench.scenes import example_avatar, in_front_of
from taichi_avatars.config import TrainConfig
from taichi_avatars.files.json import write_json
from taichi_avatars.head.assets import resolve_head
from taichi_avatars.profiling.chart import write_chart
from taichi_avatars.profiling.peaks import Peaks, measure_peaks
from taichi_avatars.profiling.report import summary
from taichi_avatars.profiling.stages import Recorder, Recording
from taichi_avatars.profiling.subjects import made_up_capture, run_with
from taichi_avatars.profiling.trace import write_trace
from taichi_avatars.scene.cameras import Camera
from taichi_avatars.scene.capture import capture_kind, load_capture
from taichi_avatars.timing.calls import machine
from taichi_avatars.training import trainer
from taichi_avatars.training.run import Run

WARM = 5  # warm-up steps or frames: compilation, memory, the optimizer's state
STEP, FRAME = "training step", "rendered frame"


@dataclass
class Profile:
    """The measurements, ready to be written.

    Attributes:
        values: "machine", "peaks", and per unit ("training step", "rendered frame") its `report.summary` with "gaussians",
            "width" and "height".
        recordings: by the same names.
    """

    peaks: Peaks | None = field(default_factory=measure_peaks)
    values: dict[str, dict] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = {"machine": machine(), "peaks": asdict(self.peaks) if self.peaks else {}}

    def add(self, name: str, recording: Recording, gaussians: int, camera: Camera, plain_ms: float | None = None) -> None:
        what = {"gaussians": gaussians, "width": camera.width, "height": camera.height}
        self.values[name] = what | summary(recording, camera.width * camera.height, self.peaks, plain_ms)
        self.recordings[name] = recording

    @property
    def summaries(self) -> Mapping[str, dict]:
        return {name: self.values[name] for name in self.recordings}

    def write_json(self, path: Path | str) -> None:
        write_json(path, self.values)

    def write_trace(self, path: Path | str) -> None:
        write_trace(path, self.recordings)

    def write_chart(self, path: Path | str) -> None:
        write_chart(path, self.summaries)


def profile(
    source: Path | None, model: Path | None, head: str | None, gaussians: int, size: tuple[int, int], count: int, seed: int = 0
) -> Profile:
    """Profiles rendered frames and training steps: of a trained model, of the start of a training, or of an example avatar.

    Args:
        source: capture; None for the model's own if it still exists, else images of the avatar itself.
        model: trained avatar; None for the start of training on `source`, or the example if that is None too.
        head: "builtin" or a FLAME file; None for the one beside the data.
        gaussians: of the example avatar.
        size: width and height of the image if there is no capture, pixels.
        count: frames and steps.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = _run(source, model, head, gaussians, size, seed, Path(folder))
        try:
            found = Profile()
            profile_frames(found, run.avatar, run.capture.train[0].camera, count)
            profile_steps(found, run, count)
        finally:
            run.stream.close()
    return found


def _run(
    source: Path | None, model: Path | None, head: str | None, gaussians: int, size: tuple[int, int], seed: int, folder: Path
) -> Run:
    config = TrainConfig(seed=seed)
    if model is None and source is not None:
        of_head = resolve_head(head, source) if capture_kind(source) == "head" else None
        return Run(config, load_capture(source, head=of_head), of_head)
    if model is None:
        avatar, trained = example_avatar(gaussians, seed), None
    else:
        trained = load_model(model, head=head)
        avatar, config = trained.avatar, trained.config
    if trained is not None and (source is not None or (trained.source is not None and trained.source.is_dir())):
        capture = load_source(trained, source)
    else:
        capture = made_up_capture(avatar, in_front_of(avatar, *size), folder)
    return run_with(avatar, capture, config)


def profile_steps(profile: Profile, run: Run, count: int) -> None:
    """Adds `count` training steps of a run, continuing from its current state."""

    def once() -> None:
        trainer.step(run, [next(run.stream) for _ in range(run.config.views_per_step)])

    plain = _plain_ms(once, count)
    with Recorder(trainer.step, count) as recorder:
        while not recorder.done:
            once()
    profile.add(STEP, recorder.recording, len(run.optimizer.gaussians), run.capture.train[0].camera, plain)


def profile_frames(profile: Profile, avatar: Avatar, camera: Camera, count: int) -> None:
    """Adds `count` frames of an avatar, each at another of its timesteps."""
    timesteps = avatar.sequence.timesteps if avatar.sequence is not None else [None]
    shown = 0

    def once() -> None:
        nonlocal shown
        avatar.render(camera, timesteps[shown % len(timesteps)])
        shown += 1

    plain = _plain_ms(once, count)
    with Recorder(Avatar.render, count) as recorder:
        while not recorder.done:
            once()
    profile.add(FRAME, recorder.recording, len(avatar.gaussians), camera, plain)


def _plain_ms(once: Callable[[], None], count: int) -> float:
    """Milliseconds of a warm unit without recording."""
    for _ in range(WARM):
        once()
    began = time.perf_counter()
    for _ in range(count):
        once()
    return 1e3 * (time.perf_counter() - began) / count
