"""The regularisers on known numbers."""

import pytest
import torch
from avatar.test_gaussians import random_gaussians

from taichi_avatars.config import TrainConfig
from taichi_avatars.evaluation.lpips import Lpips
from taichi_avatars.evaluation.lpips_weights import CHANNELS, LAYERS
from taichi_avatars.ops.laplacian import Neighbours, laplacian
from taichi_avatars.ops.local_losses import Free, local_losses
from taichi_avatars.reference.local_losses import local_losses as reference
from taichi_avatars.training.losses import (
    binding_loss,
    features_loss,
    image_loss,
    offset_loss,
    opacity_loss,
    perceptual_loss,
    random_crop,
)

SCALE = torch.tensor([0.5, 2.0, 1.0])
SEEN, NOTHING_SEEN = torch.tensor([4, 1, 0], dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
POSITION, SIZE = {"lambda_xyz": 1.0, "lambda_scale": 0.0}, {"lambda_xyz": 0.0, "lambda_scale": 1.0}


def three():
    gaussians = random_gaussians(3)
    gaussians.means = torch.tensor([[3.0, 0, 4.0], [0, 0.5, 0], [9.0, 9.0, 9.0]], requires_grad=True)
    gaussians.log_scales = torch.tensor([[1.6, 0.1, 0.1], [0.2, 0.2, 0.2], [9.0, 9.0, 9.0]]).log().requires_grad_()
    gaussians.binding = torch.arange(3, dtype=torch.int32)
    return gaussians


def test_only_the_visible_count():
    assert binding_loss(three(), SCALE, SEEN, TrainConfig(**POSITION)).item() == pytest.approx((5.0 - 1.0) / 2)
    assert binding_loss(three(), SCALE, SEEN, TrainConfig(**SIZE)).item() == pytest.approx((1.6 - 0.6) / 2, rel=1e-5)


def test_metric_variants_measure_in_metres():
    metric = {"metric_xyz": True, "metric_scale": True}
    assert binding_loss(three(), SCALE, SEEN, TrainConfig(**POSITION, **metric)).item() == pytest.approx((2.5 - 1.0) / 2)
    found = binding_loss(three(), SCALE, SEEN, TrainConfig(**SIZE, **metric)).item()
    assert found == pytest.approx((0.8 - 0.6) / 2, rel=1e-5)


def test_the_scale_of_a_gaussian_is_that_of_its_triangle():
    gaussians = three()
    gaussians.binding = torch.tensor([1, 1, 1], dtype=torch.int32)
    config = TrainConfig(**POSITION, metric_xyz=True)
    assert binding_loss(gaussians, SCALE, SEEN, config).item() == pytest.approx((10.0 - 1.0) / 2)


def test_pixels_of_mouth_and_eyes_count_more():
    image, truth = torch.rand(3, 40, 30), torch.rand(3, 40, 30)
    crops = [(slice(None), slice(5, 15), slice(3, 20)), (slice(None), slice(25, 33), slice(10, 20))]
    weight = torch.ones(40, 30)
    for _, rows, columns in crops:
        weight[rows, columns] += 3.0
    config = TrainConfig(lambda_dssim=0.0, lambda_features=3.0)
    found = image_loss(image, truth, config) + features_loss(image, truth, config, crops)
    assert found.item() == pytest.approx(((image - truth).abs() * weight).mean().item(), rel=1e-5)


def test_nothing_visible_is_zero_with_zero_gradient():
    gaussians = three()
    loss = binding_loss(gaussians, SCALE, NOTHING_SEEN, TrainConfig())
    loss.backward()
    assert loss.item() == 0.0
    assert not gaussians.means.grad.any()


def test_gradient_is_finite_at_the_centre_and_within_the_free_size():
    gaussians = three()
    gaussians.means = torch.zeros(3, 3, requires_grad=True)
    gaussians.log_scales = torch.full((3, 3), -3.0, requires_grad=True)
    binding_loss(gaussians, SCALE, torch.ones(3, dtype=torch.int32), TrainConfig()).backward()
    assert not gaussians.means.grad.any()
    assert not gaussians.log_scales.grad.any()


@pytest.mark.parametrize("metric", [False, True])
@pytest.mark.parametrize("count", [0, 1, 1000])
def test_values_and_gradients_are_those_of_plain_torch(count, metric):
    generator = torch.Generator().manual_seed(count)
    means, log_scales = (torch.randn(count, 3, generator=generator).requires_grad_() for _ in range(2))
    binding = torch.randint(0, 7, (count,), generator=generator, dtype=torch.int32)
    radii = torch.randint(0, 3, (count,), generator=generator, dtype=torch.int32)
    triangle_scale = torch.rand(7, generator=generator) + 0.2
    free = Free(1.1, 0.4, metric, metric)
    twins = [t.detach().double().requires_grad_() for t in (means, log_scales)]
    ours = local_losses(means, log_scales, binding, triangle_scale, radii, free)
    theirs = reference(*twins, binding, triangle_scale.double(), radii, free)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=0.0)
    (2.0 * ours[0] + 3.0 * ours[1]).backward()
    (2.0 * theirs[0] + 3.0 * theirs[1]).backward()
    for a, b in zip((means, log_scales), twins, strict=True):
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-5, atol=1e-9)


def test_image_loss_of_equal_images_is_zero():
    image = torch.rand(3, 16, 16)
    assert image_loss(image, image, TrainConfig()).item() == pytest.approx(0.0, abs=1e-6)


def test_opacity_loss_is_that_of_semi_transparency():
    gaussians = random_gaussians(3)
    gaussians.logit_opacities = torch.tensor([0.0, 100.0, -100.0], requires_grad=True)
    loss = opacity_loss(gaussians, TrainConfig(lambda_opacity=0.3))
    assert loss.item() == pytest.approx(0.3 / 3)
    half = random_gaussians(1)
    half.logit_opacities = torch.tensor([0.5], requires_grad=True)
    opacity_loss(half, TrainConfig(lambda_opacity=1.0)).backward()
    assert half.logit_opacities.grad.item() < 0.0, "descent makes the opaque more opaque"


def test_perceptual_loss_is_lpips_of_one_crop_of_both():
    lpips = random_lpips()
    generator = torch.Generator().manual_seed(3)
    image, truth = torch.rand(3, 150, 140, generator=generator), torch.rand(3, 150, 140, generator=generator)
    config = TrainConfig(lambda_perceptual=0.5)
    image.requires_grad_()
    place = random_crop(150, 140, torch.Generator().manual_seed(0))
    loss = perceptual_loss(lpips, image, truth, config, place)
    loss.backward()
    rows, columns = image.grad.abs().sum((0, 2)).nonzero()[:, 0], image.grad.abs().sum((0, 1)).nonzero()[:, 0]
    top, left = int(rows.min()), int(columns.min())
    assert (int(rows.max()) - top + 1, int(columns.max()) - left + 1) == (128, 128)
    crop = slice(None), slice(top, top + 128), slice(left, left + 128)
    assert loss.item() == pytest.approx(0.5 * lpips(image.detach()[crop], truth[crop]), rel=1e-5)
    assert perceptual_loss(lpips, truth, truth, config, random_crop(150, 140, generator)).item() == 0.0


def test_perceptual_loss_of_an_image_without_features_has_a_finite_gradient():
    image, crop = torch.zeros(3, 40, 40, requires_grad=True), random_crop(40, 40, torch.Generator())
    perceptual_loss(random_lpips(-1.0), image, torch.zeros(3, 40, 40), TrainConfig(lambda_perceptual=1.0), crop).backward()
    assert torch.isfinite(image.grad).all()


def random_lpips(bias: float = 0.0) -> Lpips:
    generator = torch.Generator().manual_seed(0)
    shapes = [shape for _, shape in LAYERS["alex"]]
    convolutions = [(torch.randn(*shape, generator=generator) * 0.05, torch.full(shape[:1], bias)) for shape in shapes]
    return Lpips("alex", convolutions, [torch.rand(1, channels, 1, 1, generator=generator) for channels in CHANNELS["alex"]])


# Two triangles that share the edge 1-2, and a vertex 4 that belongs to none.
FACES, VERTICES = torch.tensor([[0, 1, 2], [2, 1, 3]]), 5
AROUND = Neighbours(FACES, VERTICES)
NO_ROWS = torch.zeros(0, VERTICES, 3)


def test_laplacian_is_the_distance_from_the_mean_of_the_neighbours():
    values = torch.arange(15.0).view(5, 3) ** 2
    expected = values - torch.stack(
        [values[[1, 2]].mean(0), values[[0, 2, 3]].mean(0), values[[0, 1, 3]].mean(0), values[[1, 2]].mean(0), values[4]]
    )
    torch.testing.assert_close(laplacian(values, AROUND), expected)
    assert not laplacian(torch.ones(5, 3), AROUND).any()


def test_laplacian_has_its_own_gradient():
    values = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: laplacian(v, AROUND), values)


def test_offset_losses_on_known_numbers():
    offset = torch.zeros(5, 3)
    offset[0], offset[4] = torch.tensor([3.0, 0, 4.0]), torch.tensor([0, 1.0, 0])
    length = offset_loss(offset, NO_ROWS, AROUND, TrainConfig(lambda_dynamic_offset=2.0))
    assert length.item() == pytest.approx(2.0 * (5.0 + 1.0) / 5)
    rough = offset_loss(offset, NO_ROWS, AROUND, TrainConfig(lambda_laplacian=1.0))  # vertex 0 itself, and 1/3 at 1 and at 2
    assert rough.item() == pytest.approx((5.0 + 5.0 / 3 + 5.0 / 3) / 5)
    beside = torch.randn(2, 5, 3)
    spread = offset_loss(offset, beside, AROUND, TrainConfig(lambda_dynamic_offset_std=1.0))
    expected = torch.cat([offset[None], beside]).std(dim=0, unbiased=False).mean()
    torch.testing.assert_close(spread, expected)
    assert offset_loss(offset, NO_ROWS, AROUND, TrainConfig(lambda_dynamic_offset_std=1.0)).item() == 0.0


def test_offset_losses_of_no_offset_are_zero_with_zero_gradient():
    offset = torch.zeros(5, 3, requires_grad=True)
    config = TrainConfig(lambda_dynamic_offset=1.0, lambda_dynamic_offset_std=1.0, lambda_laplacian=1.0)
    loss = offset_loss(offset, torch.zeros(2, 5, 3), AROUND, config)
    loss.backward()
    assert loss.item() == 0.0
    assert not offset.grad.any()
