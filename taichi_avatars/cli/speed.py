"""`bench` and `profile`: how fast this machine is, and where a training step spends its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taichi_avatars.cli.command import Head, Session, Source, command, pixels
from taichi_avatars.errors import UserError

if TYPE_CHECKING:
    from taichi_avatars.scene.cameras import Camera
    from taichi_avatars.training.events import Event

WHAT = "What to measure (without any: --protocol and --kernels)"
PROTOCOL_GAUSSIANS = (86_000, 30_000)
KERNEL_GAUSSIANS = (10_000, 50_000, 100_000, 500_000)
LIMIT_GAUSSIANS = (100_000,)
FULL, HALF = "550x802", "275x401"
PROFILE_FILES = ("profile.json", "profile_trace.json", "profile.png")
UNTIL_WARM = 20  # steps of a training run before its profile


def add_to(app: typer.Typer) -> None:
    command(app, "Tools")(bench)
    command(app, "Tools")(profile)


def bench(
    session: Session,
    *,
    protocol: Annotated[
        bool, typer.Option("--protocol", rich_help_panel=WHAT, help="Frames per second as published: 3 rounds of 500 frames.")
    ] = False,
    kernels: Annotated[
        bool, typer.Option("--kernels", rich_help_panel=WHAT, help="The rasterizer on a dense scene: time, rate, memory.")
    ] = False,
    baselines: Annotated[
        bool, typer.Option("--baselines", rich_help_panel=WHAT, help="Against plain torch, and gsplat's where installed.")
    ] = False,
    limit: Annotated[
        bool,
        typer.Option(
            "--limit", rich_help_panel=WHAT, help="Compositing against hand-written C++; needs a checkout and a compiler."
        ),
    ] = False,
    gaussians: Annotated[
        list[int] | None,
        typer.Option(
            "--gaussians", "-n", min=1, help="Number of Gaussians; may be repeated.", show_default="as the documentation lists"
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help="Image size, pixels; may be repeated.", show_default=f"{FULL}, kernels also {HALF}"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs to take the median of.")] = 9,
    frames: Annotated[int, typer.Option(min=1, help="Frames per round of the protocol.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the protocol.")] = 3,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", metavar="MODEL", help="Time this avatar.", show_default="an example")
    ] = None,
    head: Head = None,
) -> None:
    """Measure speed: frames per second of an avatar, and the kernels, alone and against others.

    Frames per second include the update of the FLAME head, as in the published numbers. The example avatar overlaps like a
    trained one; the dense scene is a shell of random Gaussians that fills the image. A pair is one Gaussian at one pixel.

    Example: taichi-avatars bench -m output/me --frames 100
    """
    sizes = [pixels("--size", text) for text in size or [FULL]]
    kernel_sizes = [pixels("--size", text) for text in size or [HALF, FULL]]
    from taichi_avatars import bench as benches
    from taichi_avatars.avatar.model_folder import load_model
    from taichi_avatars.cli import speed_tables as tables

    seed = session.seed or 0
    values: dict[str, Any] = {"machine": benches.machine()}
    if protocol or not (kernels or baselines or limit):
        trained = load_model(model, head=head).avatar if model else None
        values["protocol"] = []
        for count in (None,) if trained else gaussians or PROTOCOL_GAUSSIANS:
            avatar = trained if count is None else benches.example_avatar(count, seed)
            assert avatar is not None
            for width, height in sizes:
                session.say(f"protocol: {len(avatar.gaussians)} Gaussians, {width}x{height} ...")
                found = benches.published_protocol(avatar, benches.in_front_of(avatar, width, height), frames, rounds)
                values["protocol"].append({"which": str(model or "example"), **found})
    if kernels or not (protocol or baselines or limit):
        values["kernels"] = []
        for count in gaussians or KERNEL_GAUSSIANS:
            for width, height in kernel_sizes:
                session.say(f"kernels: {count} Gaussians, {width}x{height} ...")
                found = benches.bench_kernels(count, width, height, repeats, seed)
                memory = benches.peak_memory(count, width, height)
                values["kernels"].append({**found, "peak_memory_bytes": memory})
    if baselines:
        from taichi_avatars.bench.baselines import bench_baselines

        session.say("baselines ...")
        values["baselines"] = bench_baselines(max(1, repeats // 3), seed)
    if limit:
        from taichi_avatars.bench.limit import bench_limit

        values["limit"] = []
        for count in gaussians or LIMIT_GAUSSIANS:
            for width, height in sizes:
                session.say(f"limit: {count} Gaussians, {width}x{height} ...")
                values["limit"].append(bench_limit(count, width, height, repeats, seed))
    session.result(values, tables.of_bench(values))


def profile(
    session: Session,
    *,
    source: Source = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Trained avatar.", show_default="start of training, or an example"),
    ] = None,
    gaussians: Annotated[int, typer.Option("--gaussians", "-n", min=1, help="Of the example avatar.")] = PROTOCOL_GAUSSIANS[0],
    size: Annotated[str, typer.Option(metavar="WxH", help="Image size, if there is no capture.")] = FULL,
    steps: Annotated[int, typer.Option(min=1, help="Training steps, and frames, to average over.")] = 10,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write a Chrome trace, for ui.perfetto.dev or chrome://tracing.")
    ] = None,
    chart: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the stages as bars.")] = None,
    head: Head = None,
) -> None:
    """Show where time is spent: a warm training step and a rendered frame, by stage and by kernel.

    Of a trained avatar with -m (on its capture, if that still exists), of the start of training with -s alone, of an
    example avatar without either. Rates are compared with the machine's peak memory bandwidth and arithmetic rate.

    Example: taichi-avatars profile -m output/me --chart profile.png
    """
    width, height = pixels("--size", size)
    from taichi_avatars.cli import speed_tables as tables
    from taichi_avatars.profiling.measure import profile as measure

    session.say("profiling (the first run compiles the kernels) ...")
    found = measure(source, model, head, gaussians, (width, height), steps, session.seed or 0)
    if trace:
        found.write_trace(trace)
    if chart:
        found.write_chart(chart)
    session.result(found.values, tables.of_profile(found.values))


@contextmanager
def profiled(
    session: Session, count: int | None, model: Path, camera: Camera, on_event: Callable[[Event], None]
) -> Iterator[Callable[[Event], None]]:
    """For `train --profile`: records `count` warm steps of the enclosed training and writes the profile into the model folder.

    Yields the recorder for the training's events. A profile that cannot be written does not end the training.
    """
    if not count:
        yield on_event
        return
    from taichi_avatars.cli import speed_tables as tables
    from taichi_avatars.profiling.measure import STEP, Profile
    from taichi_avatars.profiling.stages import Recorder
    from taichi_avatars.training import trainer
    from taichi_avatars.training.events import Progress

    recorder = Recorder(trainer.step, count, UNTIL_WARM)
    gaussians, written = 0, False

    def write() -> None:
        nonlocal written
        written = True
        found = Profile()
        warm = recorder.skipped[len(recorder.skipped) // 2 :]
        plain = 1e3 * sum(end - begin for begin, end in warm) / max(len(warm), 1)
        found.add(STEP, recorder.recording, gaussians, camera, plain)
        values, trace, chart = (model / name for name in PROFILE_FILES)
        try:
            found.write_json(values)
            found.write_trace(trace)
            found.write_chart(chart)
        except UserError as error:
            session.say(f"the profile could not be written: {error}")
        session.say(tables.text(tables.of_profile(found.values)))

    def tell(event: Event) -> None:
        nonlocal gaussians
        on_event(event)
        if isinstance(event, Progress):
            gaussians = event.gaussians
        if recorder.done and not written:
            write()

    with recorder:
        yield tell
    if not written and recorder.recording.units:
        write()
    elif not written:
        session.say(f"no profile: it begins after {UNTIL_WARM} steps, and the run had {len(recorder.skipped)}")
