"""An off-centre principal point is a crop: the same picture as that part of a larger image with the point in its centre."""

from dataclasses import replace

import pytest
import torch

from taichi_avatars import ops
from taichi_avatars.scene.cameras import Camera

LEFT, TOP, WIDTH, HEIGHT = 50, 30, 90, 100
WHOLE = Camera.look_at(torch.tensor([0.1, 0.05, 1.0]), torch.zeros(3), 0.5, 160, 140)
WHOLE = replace(WHOLE, fx=1.2 * WHOLE.fx)  # pixels that are not square
CROP = replace(WHOLE, cx=WHOLE.cx - LEFT, cy=WHOLE.cy - TOP, width=WIDTH, height=HEIGHT)
BACKGROUND = (0.2, 0.4, 0.6)


def scene(count: int = 400) -> dict[str, torch.Tensor]:
    """A small ball of Gaussians, all of them where neither camera clamps."""
    g = torch.Generator().manual_seed(3)
    return {
        "means": 0.06 * torch.randn(count, 3, generator=g).clamp(-1.5, 1.5),
        "quats": torch.randn(count, 4, generator=g),
        "scales": 0.004 + 0.012 * torch.rand(count, 3, generator=g),
        "opacities": torch.rand(count, generator=g),
        "sh": torch.randn(count, 16, 3, generator=g) * 0.3,
    }


def test_the_scene_lies_where_nothing_is_clamped():
    means = scene()["means"]
    for camera in (WHOLE, CROP):
        view = means @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        x, y = view[:, 0] / view[:, 2], view[:, 1] / view[:, 2]
        for value, focal, centre, size in ((x, camera.fx, camera.cx, camera.width), (y, camera.fy, camera.cy, camera.height)):
            assert value.min() > (-centre - 0.15 * size) / focal
            assert value.max() < (size - centre + 0.15 * size) / focal
    assert CROP.cx < 0.4 * WIDTH and CROP.cy <= 0.4 * HEIGHT, "far from the centre"


@pytest.mark.parametrize("part", ["image", "alpha", "depth"])
def test_it_is_the_crop(part: str):
    inputs = scene()
    whole, crop = (getattr(ops.rasterize(**inputs, camera=c, background=BACKGROUND), part) for c in (WHOLE, CROP))
    expected = whole[..., TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
    difference = (crop - expected).abs()
    assert expected.std() > 0.05, "there is something to see"
    # Pixel positions differ in the last bits; a splat at the edge of 1/255 may then be drawn in one of them only.
    assert difference.max() < 4e-3
    assert difference.mean() < 1e-6


def test_so_is_its_gradient():
    weight = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    gradients = []
    for camera in (WHOLE, CROP):
        inputs = {name: value.requires_grad_() for name, value in scene().items()}
        image = ops.rasterize(**inputs, camera=camera, background=BACKGROUND).image
        seen = image[:, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] if camera is WHOLE else image
        (seen * weight).sum().backward()
        gradients.append({name: value.grad for name, value in inputs.items()})
    for name, expected in gradients[0].items():
        assert (gradients[1][name] - expected).norm() < 1e-3 * expected.norm(), name  # for the same splats at an edge
