"""The image loss against its float64 twin."""

import pytest
import torch

from taichi_avatars.errors import UserError
from taichi_avatars.ops import l1_and_ssim
from taichi_avatars.reference import ssim as reference

MEAN = 1e-6  # float32 rounding of means of values up to 1
GRADIENT = 1e-5  # relative norm; a gradient sums over the 121 pixels of the window


# Around the 16 lanes and the 11 pixels of the window, and more rows than there are tasks.
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (11, 16), (12, 15), (40, 17), (33, 70)])
def test_matches_reference(size):
    image = torch.rand(3, *size, requires_grad=True)
    truth = (image.detach() + 0.2 * torch.randn(3, *size)).clamp(0, 1)
    twin = image.detach().double().requires_grad_()
    l1, ssim = l1_and_ssim(image, truth)
    wanted_l1, wanted_ssim = reference.l1_and_ssim(twin, truth.double())
    assert l1.item() == pytest.approx(wanted_l1.item(), abs=MEAN)
    assert ssim.item() == pytest.approx(wanted_ssim.item(), abs=MEAN)
    (0.7 * l1 - 0.3 * ssim).backward()
    (0.7 * wanted_l1 - 0.3 * wanted_ssim).backward()
    assert ((image.grad - twin.grad).norm() / twin.grad.norm()).item() < GRADIENT


def test_equal_images():
    image = torch.rand(3, 20, 20, requires_grad=True)
    l1, ssim = l1_and_ssim(image, image.detach().clone())
    assert l1.item() == 0.0
    assert ssim.item() == pytest.approx(1.0, abs=MEAN)
    (l1 - ssim).backward()
    assert image.grad.abs().max().item() < 1e-6


def test_same_bits_every_time():
    image, truth = torch.rand(3, 50, 41), torch.rand(3, 50, 41)
    runs = []
    for _ in range(2):
        leaf = image.clone().requires_grad_()
        l1, ssim = l1_and_ssim(leaf, truth)
        (l1 - ssim).backward()
        runs.append((l1, ssim, leaf.grad))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_different_sizes_are_refused():
    with pytest.raises(UserError, match="truth"):
        l1_and_ssim(torch.rand(3, 8, 8), torch.rand(3, 8, 9))


def test_it_cannot_be_differentiated_twice():
    image = torch.rand(3, 8, 8, requires_grad=True)
    l1, ssim = l1_and_ssim(image, torch.rand(3, 8, 8))
    (gradient,) = torch.autograd.grad(l1 * ssim, image, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
