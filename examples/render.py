"""Renders an avatar from Python: a timestep of its capture, then a custom pose.

python examples/render.py output/demo/model --out pictures
"""

import argparse
from pathlib import Path

import torch

import taichi_avatars as ta
from taichi_avatars.files.png import write_png

parser = argparse.ArgumentParser()
parser.add_argument("model", help="model folder or PLY of an avatar")
parser.add_argument("--out", type=Path, default=Path("output/examples/render"))
options = parser.parse_args()

avatar = ta.Avatar.load(options.model)
camera = ta.Camera.look_at(torch.tensor([0.2, 0.0, 1.0]), torch.zeros(3), fov_y=0.35, width=240, height=320)

assert avatar.sequence is not None
frame = avatar.render(camera, timestep=avatar.sequence.timesteps[0], background=(1, 1, 1))
write_png(options.out / "tracked.png", frame.image)

for degrees in (0, 6, 12):  # the jaw opens; every part that is not named is neutral
    jaw = [degrees * torch.pi / 180, 0.0, 0.0]
    posed = avatar.render(camera, flame={"jaw": jaw}, background=(1, 1, 1))
    write_png(options.out / f"jaw_{degrees:02d}.png", posed.image)
print(f"{frame.image.shape[2]}x{frame.image.shape[1]} pictures in {options.out}")
