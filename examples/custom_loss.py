"""A custom loss: the rasterizer is an ordinary differentiable function of tensors.

Recolours an avatar so that its images reach the given brightness, and saves it as a model that every command takes.

python examples/custom_loss.py output/demo/model --brightness 0.6 --out output/examples/bright
"""

import argparse
from pathlib import Path

import taichi_avatars as ta

# isort: split
import torch

from taichi_avatars.avatar.iterations import iteration_folder

parser = argparse.ArgumentParser()
parser.add_argument("model", help="model folder or PLY of an avatar")
parser.add_argument("--brightness", type=float, default=0.6, help="mean of the pixels that show the head")
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--out", type=Path, default=Path("output/examples/bright"))
options = parser.parse_args()

avatar = ta.Avatar.load(options.model)
g = avatar.gaussians
camera = ta.Camera.look_at(torch.tensor([0.0, 0.0, 1.0]), torch.zeros(3), fov_y=0.35, width=120, height=160)
with torch.no_grad():
    world, _ = avatar.world(avatar.mesh())

base = g.sh_base.detach().clone().requires_grad_()  # (N,1,3): band 0 of the spherical harmonics, the mean colour
adam = torch.optim.Adam([base], lr=0.02)
for _ in range(options.steps):
    out = ta.rasterize(*world, g.opacities.detach(), (base, g.sh_rest.detach()), camera=camera)
    brightness = out.image.mean(0).sum() / out.alpha.sum()
    loss = (brightness - options.brightness).square()
    adam.zero_grad()
    loss.backward()
    adam.step()
print(f"brightness {brightness.item():.3f}, asked for {options.brightness}")

g.sh_base = base.detach()
print(avatar.save(iteration_folder(options.out, 1)))
