"""A recording as a Chrome trace: open it in https://ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from taichi_avatars.files.json import write_json
from taichi_avatars.profiling.stages import Recording

TRACKS = {"units": 1, "stages": 2, "kernels": 3}


def write_trace(path: Path | str, recordings: Mapping[str, Recording]) -> None:
    """Writes recordings, each with a name ("training step"), as one process with tracks for units, stages and kernels."""
    events: list[dict] = []
    for process, (name, recording) in enumerate(recordings.items(), start=1):
        events.append({"ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": {"name": name}})
        for track, number in TRACKS.items():
            events.append({"ph": "M", "name": "thread_name", "pid": process, "tid": number, "args": {"name": track}})
        if not recording.units:
            continue
        zero = recording.units[0][0]

        def add(track: str, name: str, begin: float, end: float, process=process, zero=zero, **details: object) -> None:
            times = {"ts": 1e6 * (begin - zero), "dur": 1e6 * (end - begin)}  # microseconds
            events.append(
                {"ph": "X", "name": name, "cat": track, "pid": process, "tid": TRACKS[track], **times, "args": details}
            )

        for number, (begin, end) in enumerate(recording.units):
            add("units", f"{name} {number}", begin, end)
        for span in recording.spans:
            add("stages", span.stage, span.begin, span.end)
        for launch, stage in recording.launches:
            add("kernels", launch.kernel, launch.begin, launch.end, stage=stage, bytes=launch.memory)
    write_json(path, {"traceEvents": events, "displayTimeUnit": "ms"}, indent=None)
