"""Where Gaussians are added and removed, and the rules of the binding."""

import pytest
import torch

from avatar.test_gaussians import random_gaussians
from taichi_avatars.avatar.density import DensityControl, contribution_mask, join, observation, prune_mask, select
from taichi_avatars.avatar.gaussians import Gaussians
from taichi_avatars.config import TrainConfig
from taichi_avatars.training.optimizer import GaussianAdam

RULES = {"threshold": 1.0, "dense": 0.01, "limit": 1000}


def control(gradients: list[float], visible: list[int] | None = None) -> DensityControl:
    density = DensityControl(len(gradients), torch.Generator().manual_seed(0))
    radii = torch.tensor(visible or [1] * len(gradients))
    density.observe(observation(torch.tensor(gradients)[:, None] * torch.tensor([1.0, 0.0]), radii))
    return density


def test_the_mean_is_over_steps_in_which_it_was_visible():
    density = control([3.0, 3.0], visible=[5, 0])
    density.observe(observation(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([1, 1])))
    assert (density.gradient / density.seen).tolist() == [2.0, 1.0]


def test_small_ones_are_cloned_large_ones_split():
    gaussians = random_gaussians(3)
    scales = torch.tensor([[0.001] * 3, [0.5] * 3, [0.5] * 3])
    keep, added = control([2.0, 2.0, 0.5]).densify(gaussians, scales, 1.0, **RULES)
    assert keep.tolist() == [True, False, True]
    assert added.binding.tolist() == [0, 1, 1]
    assert torch.equal(added.means[0], gaussians.means[0])
    assert torch.allclose(added.log_scales[1:], gaussians.log_scales[1] - torch.tensor(1.6).log())


def test_children_are_drawn_in_the_frame_of_their_parent():
    """A needle along its own x axis, turned by 90 degrees about z: children scatter along y."""
    gaussians = join(*[random_gaussians(1)] * 500)
    gaussians.means = torch.zeros(500, 3)
    gaussians.quats = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5]).repeat(500, 1)
    gaussians.log_scales = torch.tensor([2.0, 1e-4, 1e-4]).log().repeat(500, 1)
    _, added = control([2.0] * 500).densify(gaussians, torch.ones(500, 3), 1.0, threshold=1.0, dense=0.01, limit=10_000)
    assert added.means[:, 1].std().item() == pytest.approx(2.0, rel=0.1)  # of 1,000 draws: errs by 2 %
    assert added.means[:, [0, 2]].abs().max() < 0.01


def test_the_limit_takes_the_neediest():
    gaussians = random_gaussians(4)
    keep, added = control([2.0, 9.0, 5.0, 3.0]).densify(
        gaussians, torch.full((4, 3), 1e-4), 1.0, threshold=1.0, dense=0.01, limit=6
    )
    assert keep.all()
    assert sorted(added.binding.tolist()) == [1, 2]


def test_a_triangle_never_loses_its_last():
    gaussians = random_gaussians(5)
    gaussians.binding = torch.tensor([0, 0, 1, 2, 2], dtype=torch.int32)
    gaussians.logit_opacities = torch.tensor([0.001, 0.002, 0.003, 0.5, 0.001]).logit()
    assert prune_mask(gaussians, None, 1.0).tolist() == [False, True, True, True, False]


def test_unbound_scenes_may_lose_all():
    gaussians = random_gaussians(3, bound=False)
    gaussians.logit_opacities = torch.full((3,), 0.001).logit()
    assert not prune_mask(gaussians, None, 1.0).any()


def test_huge_ones_go_after_a_reset():
    gaussians = random_gaussians(2, bound=False)
    gaussians.logit_opacities = torch.zeros(2)
    assert prune_mask(gaussians, torch.tensor([[0.2] * 3, [0.05] * 3]), 1.0).tolist() == [False, True]


def adam(count: int = 4) -> GaussianAdam:
    optimizer = GaussianAdam(random_gaussians(count), TrainConfig())
    for _ in range(2):
        for values in optimizer.gaussians.parameters().values():
            values.grad = torch.randn_like(values)
        optimizer.step(0.01)
    return optimizer


def test_steps_are_those_of_torch() -> None:
    optimizer = adam()
    leaves = {name: values.detach().clone().requires_grad_() for name, values in optimizer.gaussians.parameters().items()}
    rates = {name: 0.01 if name == "means" else 0.5 * rate for name, rate in optimizer.rates.items()}
    groups = [{"params": [leaf], "lr": rates[name]} for name, leaf in leaves.items()]
    theirs = torch.optim.Adam(groups, eps=1e-15, fused=True)
    ours = GaussianAdam(optimizer.gaussians, TrainConfig())
    for _ in range(3):
        for name, values in ours.gaussians.parameters().items():
            if name != "quats":  # had no gradient
                values.grad = torch.randn_like(values)
                leaves[name].grad = values.grad.clone()
        ours.step(0.01, 0.5)
        theirs.step()
    for name, values in ours.gaussians.parameters().items():
        assert values.grad is None
        assert torch.equal(values, leaves[name]), name
    assert set(ours.moments) == set(leaves) - {"quats"}


def test_moments_stay_with_their_rows_and_begin_at_zero():
    optimizer = adam()
    before = {name: held["exp_avg"].clone() for name, held in optimizer.moments.items()}
    keep = torch.tensor([True, False, True, True])
    added = select(optimizer.gaussians, torch.tensor([False, True, False, False]))
    optimizer.replace(keep, added)
    assert len(optimizer.gaussians) == 4
    for name in optimizer.gaussians.parameters():
        moment = optimizer.moments[name]["exp_avg"]
        assert torch.equal(moment[:3], before[name][keep]), name
        assert not moment[3:].any(), name
    assert optimizer.gaussians.binding.tolist() == [0, 2, 3, 1]
    assert len(optimizer.moments) == 6


def test_adam_goes_on_after_a_replacement():
    optimizer = adam()
    optimizer.replace(torch.tensor([True, True, False, True]))
    before = optimizer.gaussians.means.detach().clone()
    for values in optimizer.gaussians.parameters().values():
        values.grad = torch.ones_like(values)
    optimizer.step(0.01)
    assert not torch.equal(optimizer.gaussians.means, before)


def test_reset_lowers_opacities_and_clears_their_moments():
    optimizer = adam()
    optimizer.reset_opacities()
    assert optimizer.gaussians.opacities.max().item() <= 0.01 + 1e-6  # through a logit in float32
    assert not optimizer.moments["logit_opacities"]["exp_avg"].any()
    assert optimizer.moments["means"]["exp_avg"].any()


def test_everything_gone_is_no_crash():
    none = select(random_gaussians(3), torch.zeros(3, dtype=torch.bool))
    assert len(none) == 0
    assert isinstance(none, Gaussians)
    assert len(prune_mask(none, None, 1.0)) == 0


def test_those_that_contribute_least_go_but_not_the_last_of_a_triangle():
    gaussians = random_gaussians(6)
    gaussians.binding = torch.tensor([0, 0, 0, 1, 1, 2], dtype=torch.int32)
    contribution = torch.tensor([5.0, 4.0, 1.0, 0.2, 0.3, 0.1])
    assert contribution_mask(gaussians, contribution, 0.5).tolist() == [True, True, True, False, True, True]
    gaussians.binding = None
    assert contribution_mask(gaussians, contribution, 0.5).tolist() == [True, True, True, False, False, False]
    assert contribution_mask(gaussians, contribution, 0.0).all()
