"""Live motion measured: latency, a bad network, malformed packets, and ten minutes of it.

    python benchmarks/live/run.py latency MODEL [--size 275x401] [--seconds 20]
    python benchmarks/live/run.py webcam MODEL VIDEO
    python benchmarks/live/run.py network MODEL
    python benchmarks/live/run.py malformed [--count 100000] [--protocol vmc]
    python benchmarks/live/run.py long MODEL [--minutes 10]

Senders are separate processes that send over this machine's loopback. Memory is read from /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import numpy as np
from motion.live import broken, packets

from taichi_avatars import Avatar
from taichi_avatars.avatar.avatar import on_device
from taichi_avatars.avatar.place import place
from taichi_avatars.motion.live import ifacialmocap
from taichi_avatars.motion.live.datagrams import Datagrams
from taichi_avatars.motion.live.performer import Performer
from taichi_avatars.motion.live.setup import prepare
from taichi_avatars.video.live.broadcast import Broadcast
from taichi_avatars.video.live.frame import LiveFrame
from taichi_avatars.video.viewpoints import frontal_camera

RATE = 60  # packets per second of a phone


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def motion_at(moment: float) -> dict[str, float]:
    """A talking face that looks around."""
    wave = lambda period, phase=0.0: 0.5 + 0.5 * math.sin(2.0 * math.pi * moment / period + phase)  # noqa: E731
    return {
        "JawOpen": 0.6 * wave(0.4), "MouthPucker": 0.5 * wave(0.7), "EyeBlinkLeft": wave(3.0) ** 30,
        "EyeBlinkRight": wave(3.0) ** 30, "BrowInnerUp": wave(2.0), "HeadYaw": 0.3 * math.sin(2.0 * math.pi * moment / 2.0),
        "HeadPitch": 0.1 * math.sin(2.0 * math.pi * moment / 1.3),
    }  # fmt: skip


def phone(port: int, seconds: float, still: bool, loss: float, delay: float, noise: float) -> None:
    """Sends what Live Link Face sends; packets are lost, delayed and reordered as requested."""
    chance = random.Random(0)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    began, frame, waiting = time.monotonic(), 0, list[tuple[float, bytes]]()
    while (now := time.monotonic() - began) < seconds:
        while frame / RATE <= now:
            values = {} if still else motion_at(frame / RATE)
            for turn in ("HeadYaw", "HeadPitch", "HeadRoll"):
                values[turn] = values.get(turn, 0.0) + chance.gauss(0.0, noise)
            if chance.random() >= loss:
                waiting.append((frame / RATE + chance.uniform(0.0, delay), packets.live_link(values, frame)))
            frame += 1
        waiting.sort()
        while waiting and waiting[0][0] <= now:
            out.sendto(waiting.pop(0)[1], ("127.0.0.1", port))
        time.sleep(0.001)


class Watch:
    """An output that records when pictures were finished."""

    name = "watch"

    def __init__(self) -> None:
        self.finished: list[float] = []
        self.moments: list[float] = []
        self.rows: list[np.ndarray] = []
        self.keep = True

    def show(self, frame: LiveFrame, now: float) -> None:
        if self.keep:
            self.finished.append(time.monotonic())
            self.moments.append(now)
            self.rows.append(frame.row)

    def close(self, *, failed: bool = False) -> None:
        pass


def staged(model: Path, width: int, height: int, source: str = "livelink:0", fps: float = 30.0) -> tuple[Any, ...]:
    avatar = on_device(Avatar.load(model))
    performer, opened = prepare(avatar, source)
    camera = frontal_camera(place(avatar), width, height)
    for _ in range(3):
        avatar.render(camera)
    watch = Watch()
    broadcast = Broadcast(avatar, performer, opened, camera, [watch], fps=fps, background=(0.0, 0.0, 0.0))
    return performer, opened, broadcast, watch


def sending(port: int, seconds: float, **network: Any) -> multiprocessing.Process:
    options = {"still": False, "loss": 0.0, "delay": 0.0, "noise": 0.0, **network}
    process = multiprocessing.get_context("spawn").Process(target=phone, args=(port, seconds), kwargs=options, daemon=True)
    process.start()
    return process


def percentiles(values: list[float]) -> str:
    return ", ".join(f"{share} % {1000 * float(np.percentile(values, share)):.0f} ms" for share in (50, 95, 99))


def latency(model: Path, size: str, seconds: float, fps: float) -> None:
    width, height = map(int, size.split("x"))
    performer, opened, broadcast, watch = staged(model, width, height, fps=fps)
    arrivals: list[float] = []
    drawn: list[float] = []
    take, pose = performer.take, performer.pose

    def taken(face: Any, arrival: float, new: bool) -> None:
        arrivals.append(arrival)
        take(face, arrival, new)

    def posed(now: float) -> Any:
        found = pose(now)
        drawn.append(-math.inf if found is None else found.arrival)
        return found

    performer.take, performer.pose = taken, posed
    process = sending(opened.address[1], seconds + 5.0)
    cpu = time.process_time()
    shown = broadcast.run(seconds)
    cpu = time.process_time() - cpu
    process.terminate()
    newest = np.maximum.accumulate(drawn)
    waited = []
    for arrival in arrivals:
        picture = int(np.searchsorted(newest, arrival))  # the first that shows it, or a later one
        if picture < len(watch.finished):
            waited.append(watch.finished[picture] - arrival)
    moving = watch.finished[-1] - arrivals[0]
    rate, each = shown.pictures / moving, 1000 * cpu / shown.pictures
    print(f"{size}: {shown.pictures} pictures, {rate:.1f} per second, {each:.0f} CPU ms each")
    print(f"  from the newest packet in a picture to the picture: {percentiles(list(shown.latencies))}")
    print(f"  from every packet to the first picture that shows it: {percentiles(waited)}")


def webcam(model: Path, video: Path, size: str, seconds: float) -> None:
    width, height = map(int, size.split("x"))
    _, opened, broadcast, _ = staged(model, width, height, str(video))
    cpu = time.process_time()
    shown = broadcast.run(seconds)
    cpu = time.process_time() - cpu
    rate, faces = shown.pictures / shown.seconds, opened.traffic.faces / shown.seconds
    print(f"{video.name} to {size}: {rate:.1f} pictures and {faces:.1f} faces per second, {cpu / shown.seconds:.2f} cores busy")
    print(f"  from a picture of the camera to the avatar's: {percentiles(list(shown.latencies))}")


def network(model: Path, seconds: float = 12.0) -> None:
    """Jitter of a still head whose sensor is noisy, and lag of a moving one, on a good network and on a bad one."""
    bad = {"loss": 0.2, "delay": 0.08}
    for name, way in (("good", {}), ("bad", bad)):
        for still in (True, False):
            performer, opened, broadcast, watch = staged(model, 96, 140)
            process = sending(opened.address[1], seconds + 5.0, still=still, noise=0.003 if still else 0.0, **way)
            lags: list[float] = []
            pose = performer.pose

            def posed(now: float, pose: Any = pose, lags: list[float] = lags) -> Any:
                found = pose(now)
                if found is not None:
                    lags.append(found.lag)
                return found

            performer.pose = posed
            broadcast.run(seconds)
            process.terminate()
            rows = np.array(watch.rows)[len(watch.rows) // 4 :]
            turns = 2.0 * rows[:, -18:-15]  # root and neck share the turn
            if still:
                steps = np.degrees(np.diff(turns, axis=0))
                spread = np.degrees(turns.std(0)).mean()
                print(f"{name} network, still head: steps of {steps.std():.4f} degrees, spread {spread:.4f}")
            else:
                settled = lags[len(lags) // 4 :]
                print(
                    f"{name} network, moving head: behind the sender by {percentiles(settled)}, at most "
                    f"{1000 * max(settled):.0f} ms; {performer.late} of {opened.traffic.faces} packets came too late"
                )


def long(model: Path, minutes: float, fps: float) -> None:
    _, opened, broadcast, watch = staged(model, 275, 401, fps=fps)
    watch.keep = False
    process = sending(opened.address[1], 60 * minutes + 30)
    memory: list[tuple[float, float]] = []

    def note(shown: Any) -> None:
        now = time.monotonic()
        if not memory or now - memory[-1][0] > 30.0:
            memory.append((now, resident()))

    shown = broadcast.run(60 * minutes, note)
    process.terminate()
    held = ", ".join(f"{mib:.0f}" for _, mib in memory)
    print(f"{shown.pictures} pictures in {shown.seconds:.0f} s; MiB every half minute: {held}")


def flood(protocol: str, address: tuple[str, int], count: int) -> None:
    """Malformed packets, about 5,000 a second; over one connection after another where it is a WebSocket."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    chance = random.Random(0)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connection: Any = None
    began = time.monotonic()
    for number in range(count):
        if number % 50 == 0 and (ahead := began + number / 5000.0 - time.monotonic()) > 0.0:
            time.sleep(ahead)
        packet = broken.packet(protocol, chance)
        if protocol != "websocket":
            if 0 < len(packet) < 65_000:
                out.sendto(packet, address)
            continue
        try:
            if connection is None:
                connection = connect(f"ws://{address[0]}:{address[1]}", compression=None, open_timeout=10)
            connection.send(packet if chance.random() < 0.5 else packet.decode("latin-1"))
            if chance.random() < 0.001:
                connection.socket.sendall(chance.randbytes(50))  # no frame at all: the server ends this connection
        except (WebSocketException, OSError):
            connection = None


def speak(protocol: str, address: tuple[str, int], stop: Any) -> None:
    """A good sender, sixty times a second."""
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    chance = random.Random(1)
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connection: Any = None
    while not stop.wait(1.0 / RATE):
        packet = broken.true(protocol, chance)
        if protocol != "websocket":
            out.sendto(packet, address)
            continue
        try:
            connection = connection or connect(f"ws://{address[0]}:{address[1]}", compression=None)
            connection.send(packet)
        except (WebSocketException, OSError):
            connection = None


def malformed(count: int, protocols: list[str]) -> None:
    """Half of the packets while a good sender has the avatar, half before anybody has."""
    from taichi_avatars.bench import example_avatar

    avatar = example_avatar(100)
    failures: list[str] = []
    threading.excepthook = lambda failure: failures.append(repr(failure.exc_value))
    context = multiprocessing.get_context("spawn")
    for protocol in protocols:
        if protocol == "ifacialmocap":
            performer, _ = prepare(avatar, "livelink:0")
            opened: Any = Datagrams(protocol, "127.0.0.1", 0, ifacialmocap.read)
        else:
            performer, opened = prepare(avatar, f"{protocol}:0")
        arrivals: list[float] = []

        def take(face: Any, arrival: float, new: bool, performer: Performer = performer, arrivals: Any = arrivals) -> None:
            performer.take(face, arrival, new)
            arrivals.append(arrival)

        opened.start(take)
        first = context.Process(target=flood, args=(protocol, opened.address, 2000), daemon=True)
        first.start()
        first.join()
        before = resident()
        alone = context.Process(target=flood, args=(protocol, opened.address, count // 2), daemon=True)
        alone.start()
        while alone.is_alive():
            performer.pose(time.monotonic())
            time.sleep(0.03)
        time.sleep(1.2)  # whoever was heard last is silent
        stop = context.Event()
        good = context.Process(target=speak, args=(protocol, opened.address, stop), daemon=True)
        good.start()
        faces = opened.traffic.faces
        while opened.traffic.faces < faces + RATE:
            time.sleep(0.01)
        arrivals.clear()
        together = context.Process(target=flood, args=(protocol, opened.address, count - count // 2), daemon=True)
        began = time.monotonic()
        together.start()
        while together.is_alive():
            performer.pose(time.monotonic())
            time.sleep(0.03)
        seconds = time.monotonic() - began
        stop.set()
        good.join()
        gap = max(np.diff(arrivals), default=math.inf)
        opened.close()
        print(
            f"{protocol}: {count:,} malformed packets, the second half in {seconds:.0f} s; {len(failures)} exceptions, memory "
            f"{resident() - before:+.1f} MiB; longest time without motion {1000 * gap:.0f} ms; {opened.traffic}",
            flush=True,
        )
    for failure in failures:
        print("  ", failure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["latency", "webcam", "network", "malformed", "long"])
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--size", default="275x401")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--protocol", choices=broken.PROTOCOLS, action="append")
    given = parser.parse_args()
    if given.what == "latency":
        latency(given.model, given.size, given.seconds, given.fps)
    elif given.what == "webcam":
        webcam(given.model, given.video, given.size, given.seconds)
    elif given.what == "network":
        network(given.model)
    elif given.what == "malformed":
        malformed(given.count, given.protocol or list(broken.PROTOCOLS))
    elif given.what == "long":
        long(given.model, given.minutes, given.fps)


if __name__ == "__main__":
    main()
