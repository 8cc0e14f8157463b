"""A long session of random clicks: does the viewer survive, does its memory stay constant, and how fast is it?

    python benchmarks/viewer/session.py MODEL [--minutes 10] [--seed 0]

Starts `view` on a model and works its controls without a browser (tests/viewer/visitor.py): up to three visitors come and go,
move cameras, set any control to any of its values and now and then to nonsense, play, preview and film. Prints resident memory
after the first minute and at the end, what the viewer wrote to stderr, and the rate of pictures while it plays at two sizes,
with the CPU time of the server for each. Memory is read from /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "viewer"))

from visitor import Visitor

RATES: tuple[tuple[tuple[int, int], str, str], ...] = (
    ((275, 401), "face", "nothing"), ((550, 802), "face", "nothing"), ((1245, 802), "camera", "nothing"),
    ((1245, 802), "camera", "wireframe"),
)  # fmt: skip
NONSENSE = (math.nan, "x", None, [], -1e300, {"a": 1}, "../..", 2**63)
SECONDS = 20.0  # that the rate is measured over
KEPT = ("GuiTabGroupMessage", "GuiMarkdownMessage", "GuiProgressBarMessage", "Load JSON", "Height, pixels", "Save picture")


def resident(process: subprocess.Popen) -> float:
    """MiB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(process: subprocess.Popen) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rate(process: subprocess.Popen, address: str, size: tuple[int, int], moves: str, mesh: str) -> str:
    """Pictures per second that one visitor takes while something moves, and how large they are.

    moves: "face": the motion plays twice as fast as filmed, so that it sets no limit; "camera": the face is still, and the
    camera goes to and fro sixty times a second.
    """
    visitor = Visitor(address, *size)
    visitor.set("Height, pixels", size[1])
    visitor.set("Mesh", mesh)
    visitor.set("Speed", "2")
    if moves == "face":
        visitor.click("Play")
    begun, count, cpu, sizes = time.monotonic(), 0, 0.0, Counter[int]()
    measured = begun + 3.0
    while (now := time.monotonic()) < begun + 3.0 + SECONDS:
        if now >= measured and not count:
            count, cpu, measured = visitor.pictures, cpu_seconds(process), now
        if moves == "camera":
            angle = 0.5 * math.sin(now)
            visitor.stand(position=(1.2 * math.sin(angle), 0.1, 1.2 * math.cos(angle)))
        time.sleep(1.0 / 60.0)
        sizes[visitor.picture().shape[0]] += count > 0
    pictures, seconds = visitor.pictures - count, time.monotonic() - measured
    each = 1000.0 * (cpu_seconds(process) - cpu) / pictures
    if moves == "face":
        visitor.click("Play")
    visitor.set("Mesh", "nothing")
    time.sleep(0.5)
    visitor.close()
    return (
        f"{size[0]} x {size[1]}, the {moves} moves, mesh {mesh}: {pictures / seconds:.1f} pictures per second, most of height "
        f"{sizes.most_common(1)[0][0]}, {each:.0f} CPU ms of the server for each"
    )


def value_for(control: dict, chance: random.Random) -> object:
    """Another valid value of a control, or an invalid one."""
    props = control["props"]
    if chance.random() < 0.05:
        return chance.choice(NONSENSE)
    if "options" in props:
        return chance.choice(props["options"])
    if isinstance(control.get("value"), bool):
        return not control["value"]
    if "min" in props and "step" in props:
        value = chance.uniform(props["min"], props["max"])
        return round(value) if props["step"] == 1 else value
    return [chance.randrange(256) for _ in range(3)] if "rgb" in control["type"].lower() else True


def play_around(address: str, minutes: float, chance: random.Random, process: subprocess.Popen) -> tuple[int, list[float]]:
    """Random clicks; their number, and the memory after each minute and at the end."""
    visitors: list[Visitor] = [Visitor(address, 275, 401)]
    visitors[0].set("Height, pixels", 401)
    began, clicks, memory = time.monotonic(), 0, list[float]()
    while (minute := (time.monotonic() - began) / 60.0) < minutes:
        if minute > len(memory) + 1:
            memory.append(resident(process))
        if chance.random() < 0.01 and len(visitors) < 3:
            visitors.append(Visitor(address, chance.randrange(100, 600), chance.randrange(100, 600)))
        if chance.random() < 0.01 and len(visitors) > 1:
            visitors.pop(chance.randrange(1, len(visitors))).close()
        visitor = chance.choice(visitors)
        if chance.random() < 0.4:
            angle = chance.uniform(-math.pi, math.pi)
            visitor.stand(position=(1.2 * math.sin(angle), chance.uniform(-0.4, 0.4), 1.2 * math.cos(angle)))
        else:
            label = chance.choice([name for name in visitor.controls if name not in KEPT])
            if "value" in visitor.controls[label] or visitor.controls[label]["type"] == "GuiButtonMessage":
                visitor.set(label, value_for(visitor.controls[label], chance))
        visitor.files.clear()
        clicks += 1
        time.sleep(chance.choice((0.01, 0.05, 0.2)))
    for visitor in visitors:
        visitor.close()
    return clicks, [*memory, resident(process)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    command = [sys.executable, "-m", "taichi_avatars", "view", str(given.model), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        address = next(line for line in process.stdout if "address" in line).split('"')[3]
        try:
            for what in RATES:
                print(rate(process, address, *what), flush=True)
            if given.minutes:
                clicks, memory = play_around(address, given.minutes, random.Random(given.seed), process)
                print(
                    f"{clicks} clicks; resident MiB after each minute: {', '.join(f'{mib:.0f}' for mib in memory)}", flush=True
                )
        finally:
            alive = process.poll() is None
            process.terminate()
            print("it still ran" if alive else f"it ended with {process.returncode}")
            lines = process.stderr.read().splitlines()
            print(f"{len(lines)} lines on stderr, {sum('Traceback' in line for line in lines)} tracebacks")
            for line in dict.fromkeys(line[:110] for line in lines[-400:]):
                print("  ", line)


if __name__ == "__main__":
    main()
