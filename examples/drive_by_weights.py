"""Drives an avatar by named expression weights, as face-tracking programs give them, and films it.

Needs an avatar of a head whose expression components have names, as those of the built-in head have.

python examples/drive_by_weights.py output/demo/model --out smile.mp4
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import taichi_avatars as ta

# isort: split
import torch

from taichi_avatars.avatar.place import place
from taichi_avatars.video.mp4 import write_mp4
from taichi_avatars.video.viewpoints import frontal_camera

parser = argparse.ArgumentParser()
parser.add_argument("model", help="model folder or PLY of an avatar")
parser.add_argument("--seconds", type=float, default=2.0)
parser.add_argument("--out", type=Path, default=Path("output/examples/smile.mp4"))
options = parser.parse_args()

avatar = ta.Avatar.load(options.model)
names = (avatar.head and avatar.head.expression_names) or []
camera = frontal_camera(place(avatar), 240, 320)


def frames() -> Iterator[torch.Tensor]:
    for number in range(round(25 * options.seconds)):
        phase = math.sin(math.pi * number / (25 * options.seconds))
        weights = {"mouthSmileLeft": 0.8 * phase, "mouthSmileRight": 0.8 * phase, "eyeBlinkLeft": phase**8}
        expr = [weights.get(name, 0.0) for name in names]
        yield avatar.render(camera, flame={"expr": expr, "neck": [0.0, 0.3 * phase, 0.0]}, background=(1, 1, 1)).image


print(f"{write_mp4(options.out, frames(), 25)} frames in {options.out}")
