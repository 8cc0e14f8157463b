"""The regularisers on known numbers."""

import pytest
import torch
from avatar.test_gaussians import random_gaussians

from taichi_avatars.config import TrainConfig
from taichi_avatars.training.losses import image_loss, position_loss, scale_loss

SCALE = torch.tensor([0.5, 2.0, 1.0])


def three():
    gaussians = random_gaussians(3)
    gaussians.means = torch.tensor([[3.0, 0, 4.0], [0, 0.5, 0], [9.0, 9.0, 9.0]], requires_grad=True)
    gaussians.log_scales = torch.tensor([[1.6, 0.1, 0.1], [0.2, 0.2, 0.2], [9.0, 9.0, 9.0]]).log().requires_grad_()
    return gaussians


def test_only_the_visible_count():
    visible = torch.tensor([True, True, False])
    assert position_loss(three(), SCALE, visible, TrainConfig()).item() == pytest.approx((5.0 - 1.0) / 2)
    assert scale_loss(three(), SCALE, visible, TrainConfig()).item() == pytest.approx((1.6 - 0.6) / 2, rel=1e-5)


def test_metric_variants_measure_in_metres():
    visible = torch.tensor([True, True, False])
    config = TrainConfig(metric_xyz=True, metric_scale=True)
    assert position_loss(three(), SCALE, visible, config).item() == pytest.approx((2.5 - 1.0) / 2)
    assert scale_loss(three(), SCALE, visible, config).item() == pytest.approx((0.8 - 0.6) / 2, rel=1e-5)


def test_nothing_visible_is_zero_with_zero_gradient():
    gaussians = three()
    loss = position_loss(gaussians, SCALE, torch.zeros(3, dtype=torch.bool), TrainConfig())
    loss = loss + scale_loss(gaussians, SCALE, torch.zeros(3, dtype=torch.bool), TrainConfig())
    loss.backward()
    assert loss.item() == 0.0
    assert not gaussians.means.grad.any()


def test_gradient_is_finite_at_the_centre_and_within_the_free_size():
    gaussians = three()
    gaussians.means = torch.zeros(3, 3, requires_grad=True)
    gaussians.log_scales = torch.full((3, 3), -3.0, requires_grad=True)
    visible = torch.ones(3, dtype=torch.bool)
    (position_loss(gaussians, SCALE, visible, TrainConfig()) + scale_loss(gaussians, SCALE, visible, TrainConfig())).backward()
    assert not gaussians.means.grad.any()
    assert not gaussians.log_scales.grad.any()


def test_image_loss_of_equal_images_is_zero():
    image = torch.rand(3, 16, 16)
    assert image_loss(image, image, TrainConfig()).item() == pytest.approx(0.0, abs=1e-6)
