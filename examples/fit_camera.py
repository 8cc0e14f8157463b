"""Finds the camera that an image was taken with: gradients of the image reach the camera's pose.

python examples/fit_camera.py output/demo/model
"""

import argparse

import taichi_avatars as ta

# isort: split
import roma
import torch

parser = argparse.ArgumentParser()
parser.add_argument("model", help="model folder or PLY of an avatar")
parser.add_argument("--steps", type=int, default=150)
options = parser.parse_args()

avatar = ta.Avatar.load(options.model)
true = ta.Camera.look_at(torch.tensor([0.15, 0.05, 1.0]), torch.zeros(3), fov_y=0.35, width=120, height=160)
truth = avatar.render(true).image

with torch.no_grad():  # the Gaussians stay as they are; only the camera moves
    world, _ = avatar.world(avatar.mesh())
start = torch.tensor([0.05, -0.03, 0.04, 0.02, -0.02, 0.03])  # axis-angle and translation away from the truth
change = start.clone().requires_grad_()
adam = torch.optim.Adam([change], lr=2e-3)
for step in range(options.steps):
    turn = torch.eye(4)
    turn = torch.cat([torch.cat([roma.rotvec_to_rotmat(change[:3]), change[3:, None]], 1), turn[3:]])
    pose = turn @ true.world_to_camera
    camera = ta.Camera.from_opencv(pose, true.fx, true.fy, true.cx, true.cy, true.width, true.height)
    g = avatar.gaussians
    image = ta.rasterize(*world, g.opacities.detach(), (g.sh_base.detach(), g.sh_rest.detach()), camera=camera).image
    loss = (image - truth).abs().mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
    if step == 0 or step == options.steps - 1:
        print(f"step {step}: L1 {loss.item():.4f}, {change.detach()[3:].norm() * 1000:.1f} mm away")
