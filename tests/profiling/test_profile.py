import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image

from taichi_avatars import bench
from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench.kernels import forward_backward_of, forward_of
from taichi_avatars.config import TrainConfig
from taichi_avatars.profiling.measure import FRAME, STEP, Profile, profile
from taichi_avatars.profiling.peaks import Peaks, measure_peaks
from taichi_avatars.profiling.report import summary
from taichi_avatars.profiling.stages import AUTOGRAD, OTHER, Recorder
from taichi_avatars.profiling.subjects import made_up_capture, run_with
from taichi_avatars.timing.launches import recorded_launches
from taichi_avatars.training import trainer

SIZE = (62, 90)
PEAKS = Peaks(memory_gb_s=20.0, fma_gflop_s=200.0, launch_us=30.0)


@pytest.fixture(scope="module")
def found() -> Profile:
    return profile(None, None, None, gaussians=400, size=SIZE, count=3)


def test_every_kernel_is_recorded_and_the_launch_is_left_as_it_was() -> None:
    from taichi_avatars.engine import Kernel

    scene = bench.dense_scene(50, 48, 64)
    forward, both = forward_of(scene), forward_backward_of(scene)
    before = Kernel.__call__
    with recorded_launches() as launches:
        forward()
    assert Kernel.__call__ is before
    names = [launch.kernel for launch in launches]
    assert names[0] == "project" and names.count("composite") == 1 and "composite_adjoint" not in names
    assert all(launch.end > launch.begin and launch.memory > 0 for launch in launches)
    assert all(earlier.end <= later.begin for earlier, later in pairwise(launches))
    with recorded_launches() as launches:
        both()
    assert "composite_adjoint" in [launch.kernel for launch in launches]


def test_stages_and_units_sum_up_to_the_whole(found: Profile) -> None:
    assert list(found.summaries) == [FRAME, STEP]
    for name, values in found.summaries.items():
        assert values["units"] == 3 and len(found.recordings[name].units) == 3
        assert sum(stage["ms"] for stage in values["stages"]) == pytest.approx(values["ms"])
        assert sum(stage["share"] for stage in values["stages"]) == pytest.approx(1.0)
        assert sum(stage["launches"] for stage in values["stages"]) == pytest.approx(values["launches"])
        assert sum(stage["kernel_ms"] for stage in values["stages"]) == pytest.approx(values["kernel_ms"])
        assert sum(kernel["ms"] for kernel in values["kernels"]) == pytest.approx(values["kernel_ms"])
        assert all(stage["kernel_ms"] <= stage["ms"] + 1e-6 for stage in values["stages"])
        assert values["stages"][-1]["stage"] == OTHER and values["stages"][-1]["ms"] >= 0


def test_the_stages_are_those_of_the_method_in_its_order(found: Profile) -> None:
    frame = [stage["stage"] for stage in found.values[FRAME]["stages"]]
    step = [stage["stage"] for stage in found.values[STEP]["stages"]]
    forward = ["FLAME", "frames", "binding", "projection", "tiles", "splat"]
    backward = ["loss", "splat", "projection", "binding", "frames", "FLAME"]
    assert [stage for stage in frame if stage in forward] == forward and AUTOGRAD not in frame
    wanted = ["waiting for images", *forward, "loss", AUTOGRAD, *(f"{stage} backward" for stage in backward), "Adam", "density"]
    assert [stage for stage in step if stage in wanted] == wanted
    assert set(step) - set(wanted) == {"activations", "checks of arguments", OTHER}


def test_kernels_are_told_by_the_stage_that_launched_them(found: Profile) -> None:
    stages = {(kernel["kernel"], kernel["stage"]) for kernel in found.values[STEP]["kernels"]}
    assert {("composite", "splat"), ("composite_adjoint", "splat backward"), ("project", "projection")} <= stages
    launched = next(stage for stage in found.values[STEP]["stages"] if stage["stage"] == "splat")["launches"]
    assert launched == sum(kernel["launches"] for kernel in found.values[STEP]["kernels"] if kernel["stage"] == "splat")


def test_pairs_are_those_of_the_tile_lists() -> None:
    avatar = bench.example_avatar(400)
    camera = bench.in_front_of(avatar, *SIZE)
    with Recorder(Avatar.render, 1) as recorder:
        avatar.render(camera, timestep=0)
    recording = recorder.recording
    measured = bench.published_protocol(avatar, camera, frames=1, rounds=1)
    assert recording.pairs == [round(measured["pairs_per_pixel"] * SIZE[0] * SIZE[1], 6)]  # a quotient, multiplied again
    values = summary(recording, SIZE[0] * SIZE[1], PEAKS)
    kernel = next(kernel for kernel in values["kernels"] if kernel["kernel"] == "composite")
    assert kernel["pairs_per_second"] == pytest.approx(1e3 * values["pairs"] / kernel["ms"])
    assert kernel["of_peak"] == pytest.approx(kernel["gflop_per_second"] / PEAKS.fma_gflop_s)
    other = next(kernel for kernel in values["kernels"] if kernel["kernel"] == "project")
    assert other["of_peak"] == pytest.approx(other["gb_per_second"] / PEAKS.memory_gb_s) and "pairs_per_second" not in other


def test_a_recorder_warms_up_stops_by_itself_and_leaves_nothing_behind() -> None:
    avatar = bench.example_avatar(50)
    camera = bench.in_front_of(avatar, 32, 48)
    with Recorder(Avatar.render, count=2, skip=3) as recorder:
        for _ in range(7):
            avatar.render(camera, timestep=0)
        assert recorder.done and sys.getprofile() is None
    assert len(recorder.skipped) == 3 and len(recorder.recording.units) == 2
    assert len({launch.kernel for launch, _ in recorder.recording.launches}) > 5
    begins = [begin for begin, _ in recorder.recording.units]
    assert all(span.begin >= begins[0] for span in recorder.recording.spans)  # nothing of the warm-up
    with pytest.raises(ValueError, match="on purpose"), Recorder(Avatar.render, count=2):
        raise ValueError("on purpose")
    assert sys.getprofile() is None


def test_recorded_steps_give_the_same_bits(tmp_path: Path) -> None:
    results = []
    for recorded in (False, True):
        avatar = bench.example_avatar(300)
        folder = tmp_path / str(recorded)
        folder.mkdir()
        run = run_with(avatar, made_up_capture(avatar, bench.in_front_of(avatar, *SIZE), folder), TrainConfig())
        recorder = Recorder(trainer.step, 2, skip=1)
        try:
            if recorded:
                with recorder:
                    losses = [trainer.step(run, [next(run.stream)]) for _ in range(4)]
                assert recorder.done
            else:
                losses = [trainer.step(run, [next(run.stream)]) for _ in range(4)]
        finally:
            run.stream.close()
        results.append((losses, run.optimizer.gaussians.parameters()))
    assert results[0][0] == results[1][0]
    for name, values in results[0][1].items():
        assert torch.equal(values, results[1][1][name])


def test_the_trace_opens_in_chrome(found: Profile, tmp_path: Path) -> None:
    found.write_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    for event in events:
        assert {"name", "cat", "ts", "dur", "pid", "tid"} <= set(event) and event["ts"] >= 0 and event["dur"] >= 0
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "process_name"}
    assert names == {FRAME, STEP}
    for process, name in enumerate((FRAME, STEP), start=1):
        own = [event for event in events if event["pid"] == process]
        assert sum(event["cat"] == "units" for event in own) == 3
        assert sum(event["cat"] == "stages" for event in own) == len(found.recordings[name].spans)
        kernels = [event for event in own if event["cat"] == "kernels"]
        assert len(kernels) == len(found.recordings[name].launches)
        for launch in kernels:  # every kernel lies inside a stay in its stage
            end = launch["ts"] + launch["dur"]
            stays = (e for e in own if e["cat"] == "stages" and e["name"] == launch["args"]["stage"])
            assert any(e["ts"] <= launch["ts"] and end <= e["ts"] + e["dur"] + 1e-3 for e in stays)


def test_the_chart_shows_each_stage_as_a_bar(found: Profile, tmp_path: Path) -> None:
    from taichi_avatars.profiling.chart import KERNEL, MARGIN, OTHER

    found.write_chart(tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        assert image.format == "PNG" and image.mode == "RGB"
        colours = {colour: count for count, colour in image.getcolors(1 << 20)}
        assert image.width > 1000 and image.height > 2 * MARGIN + 400
    for colour in (KERNEL, OTHER):
        assert colours[tuple(bytes.fromhex(colour[1:]))] > 1000


def test_the_json_is_the_values(found: Profile, tmp_path: Path) -> None:
    found.write_json(tmp_path / "profile.json")
    assert json.loads((tmp_path / "profile.json").read_text()) == json.loads(json.dumps(found.values))
    assert set(found.values) == {"machine", "peaks", FRAME, STEP}


def test_peaks_are_plausible() -> None:
    """Orders of magnitude between which any machine of the last ten years lies: a mistake in counting is a factor of 1000."""
    peaks = measure_peaks()
    assert peaks is not None
    assert 0.2 < peaks.memory_gb_s < 2000 and 1 < peaks.fma_gflop_s < 50_000 and 0.5 < peaks.launch_us < 10_000
