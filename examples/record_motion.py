"""Writes a custom motion as FLAME parameters, for `taichi-avatars reenact --motion` and every program that reads them.

python examples/record_motion.py --out nod.npz
taichi-avatars reenact -m output/demo/model --motion nod.npz -o nod.mp4
"""

import argparse
import math
from pathlib import Path

import taichi_avatars as ta

# isort: split
import torch

from taichi_avatars.head.sequence import FlameSequence

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=3.0)
parser.add_argument("--out", type=Path, default=Path("output/examples/nod.npz"))
options = parser.parse_args()

head = ta.FlameModel.builtin()
count = round(25 * options.seconds)
phase = torch.linspace(0.0, 2.0 * math.pi, count)
nod, still = torch.zeros(count, 3), torch.zeros(count, 3)
nod[:, 0] = 0.15 * torch.sin(2.0 * phase)  # about x: down is positive
sequence = FlameSequence(
    timesteps=list(range(count)),
    shape=torch.zeros(head.n_shape),
    expr=torch.zeros(count, head.n_expr),
    rotation=still,
    neck_pose=nod,
    jaw_pose=still,
    eyes_pose=torch.cat([-nod, -nod], 1),  # the eyes stay on the camera
    translation=still,
)
sequence.save_npz(options.out)
print(f"{count} timesteps in {options.out}")
