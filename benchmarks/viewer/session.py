"""A long session of random clicks: does the viewer stand it, does its memory stay, and how fast is it?

    python benchmarks/viewer/session.py MODEL [--minutes 10] [--seed 0]

Starts `view` on a model and works its controls without a browser (tests/viewer/visitor.py): up to three visitors come and go,
move cameras, set any control to any of its values and now and then to nonsense, play, preview and film. Prints resident memory
after the first minute and at the end, what the viewer wrote to stderr, and the rate of pictures while it plays at two sizes,
with the CPU time that the server took for each. Memory is read from /proc, so it wants Linux.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "viewer"))

from visitor import Visitor

SIZES = ((275, 401), (550, 802))
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


def rate(process: subprocess.Popen, address: str, width: int, height: int) -> str:
    """Pictures per second that one visitor takes while the motion plays twice as fast as filmed, so that it sets no limit."""
    visitor = Visitor(address, width, height)
    visitor.set("Height, pixels", height)
    visitor.set("Speed", "2")
    visitor.click("Play")
    time.sleep(3.0)
    count, cpu, began = visitor.pictures, cpu_seconds(process), time.monotonic()
    time.sleep(SECONDS)
    pictures, seconds = visitor.pictures - count, time.monotonic() - began
    visitor.click("Play")
    time.sleep(0.5)
    shape = visitor.picture().shape
    visitor.close()
    each = 1000.0 * (cpu_seconds(process) - cpu) / pictures
    return f"{shape[1]} x {shape[0]}: {pictures / seconds:.1f} pictures per second, {each:.0f} CPU ms of the server for each"


def value_for(control: dict, chance: random.Random) -> object:
    """Another value that a control can have, or one that it cannot."""
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
            for width, height in SIZES:
                print(rate(process, address, width, height), flush=True)
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
