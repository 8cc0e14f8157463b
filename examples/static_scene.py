"""Gaussians without a head: fits a picture from random points by gradient descent, in some thirty lines.

python examples/static_scene.py photo.jpg --steps 200 --out fitted.png
"""

import argparse
from pathlib import Path

import taichi_avatars as ta

# isort: split
import numpy as np
import torch
from PIL import Image

from taichi_avatars.files.png import write_png

parser = argparse.ArgumentParser()
parser.add_argument("picture", type=Path)
parser.add_argument("--gaussians", type=int, default=2000)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--out", type=Path, default=Path("output/examples/fitted.png"))
options = parser.parse_args()

with Image.open(options.picture) as image:
    image.thumbnail((200, 200))
    truth = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1) / 255.0
_, height, width = truth.shape
pose = torch.eye(4)
pose[2, 3] = 1.0  # the plane z = 0 lies a metre in front of the camera, its edge at the picture's
camera = ta.Camera.from_opencv(pose, width, width, width / 2, height / 2, width, height)

n = options.gaussians
place = torch.rand(n, 2) - 0.5
values = {
    "means": torch.cat([place * torch.tensor([1.0, height / width]), torch.zeros(n, 1)], 1),
    "quats": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1),
    "log_scales": torch.full((n, 3), -4.5),
    "logits": torch.zeros(n),
    "sh": torch.zeros(n, 1, 3),  # band 0 alone: the same colour from everywhere
}
rates = {"means": 1e-3, "quats": 1e-2, "log_scales": 2e-2, "logits": 5e-2, "sh": 5e-2}
adam = torch.optim.Adam([{"params": [value.requires_grad_()], "lr": rates[name]} for name, value in values.items()])
for step in range(options.steps):
    scales, opacities = values["log_scales"].exp(), values["logits"].sigmoid()
    out = ta.rasterize(values["means"], values["quats"], scales, opacities, values["sh"], camera=camera)
    error = (out.image - truth).square().mean()
    adam.zero_grad()
    error.backward()
    adam.step()
    if step % 50 == 0 or step == options.steps - 1:
        print(f"step {step}: {-10 * error.log10().item():.1f} dB")
print(write_png(options.out, out.image))
