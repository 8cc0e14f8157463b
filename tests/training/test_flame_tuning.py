"""FLAME parameters while they are tuned: which of them, by which steps, and next to which."""

from dataclasses import replace

import pytest
import torch
from avatar.small_avatar import small_motion

from taichi_avatars.config import TrainConfig
from taichi_avatars.training.flame_tuning import BOUND, FlameTuner
from taichi_avatars.training.run import _sequence

VERTICES = 7


def tuner(**options) -> FlameTuner:
    return FlameTuner(small_motion(n_expr=4), TrainConfig(**options), visits=1000.0, num_vertices=VERTICES)


def test_the_static_offset_can_be_left_out():
    class Capture:
        flame = replace(small_motion(n_expr=4), static_offset=torch.ones(VERTICES, 3))

    kept = _sequence(Capture(), TrainConfig())  # pyright: ignore[reportArgumentType]
    assert kept.static_offset is Capture.flame.static_offset
    left_out = _sequence(Capture(), TrainConfig(disable_flame_static_offset=True))  # pyright: ignore[reportArgumentType]
    assert left_out.static_offset is None


def test_a_captured_offset_is_where_tuning_begins_and_else_stays():
    captured = replace(small_motion(n_expr=4), dynamic_offset=torch.randn(3, VERTICES, 3))
    for options in ({}, {"lambda_laplacian": 1.0}):
        made = FlameTuner(captured, TrainConfig(**options), 10.0, VERTICES)
        assert torch.equal(made.pose(1).dynamic_offset, captured.dynamic_offset[1])
        assert made.pose(1).dynamic_offset.requires_grad == bool(options)


def test_one_step_moves_every_part_of_its_row_by_its_rate():
    made = tuner(flame_prior=0.0, lambda_dynamic_offset=1.0, flame_offset_lr=2e-6, flame_pose_lr=1e-5)
    before = made.table.clone()
    pose = made.pose(1)
    parts = (pose.rotation, pose.neck, pose.jaw, pose.eyes, pose.translation, pose.expr, pose.dynamic_offset)
    sum(part.sum() for part in parts).backward()
    made.step(made.gradients(), progress=0.0)
    moved = before - made.table
    assert not moved[[0, 2]].any()
    offset = made.sequence.dynamic_offset
    assert torch.equal(offset[1].flatten(), made.table[1, -3 * VERTICES :]), "the sequence sees the table"
    assert moved[1, -3 * VERTICES :].tolist() == pytest.approx([15.0 * 2e-6] * (3 * VERTICES), rel=1e-3)
    assert moved[1, :3].tolist() == pytest.approx([15.0 * 1e-5] * 3, rel=1e-2)  # angles of 0.1 hold 7 digits


def visited(made: FlameTuner, steps: int, gradient, rows=(0, 1)) -> torch.Tensor:
    """The corrections (T,P) after steps on some rows in turn. gradient: of a row of the table, from its number."""
    before = made.table.clone()
    for step in range(steps):
        row = rows[step % len(rows)]
        made.pose(row)
        made.step({row: gradient(row)}, progress=0.0)
    return made.table - before


def test_corrections_have_no_common_part():
    made = tuner()
    moved = visited(made, 40, lambda row: torch.randn(len(made.sigma)) + 1.0)
    assert moved[:2].abs().max() > 1e-4
    assert moved[:2].mean(0).abs().max() < 1e-7, "all that moves together is a gauge"
    assert not moved[2].any(), "a timestep that was not seen stays where it was tracked"


def test_what_images_say_little_of_stays_as_tracked():
    made = tuner()
    said = torch.ones(len(made.sigma))
    said[-1] = 1e-3  # an expression that hardly moves the surface
    moved = visited(made, 60, lambda row: said * (1.0 if row else -1.0) / made.sigma)[0] / made.sigma
    assert moved[0] > 0.5 and moved[0] > 50 * moved[-1].abs()
    free = tuner(flame_prior=0.0)
    moved = visited(free, 60, lambda row: said * (1.0 if row else -1.0))[0] / free.rates
    assert moved[-1] == pytest.approx(float(moved[0]), rel=1e-2), "Adam alone moves all by as much"


def test_without_news_corrections_go_back_and_none_leaves_its_bound():
    made = tuner()
    said = torch.ones(len(made.sigma)) / made.sigma
    far = visited(made, 2000, lambda row: (1.0 if row else -1.0) * said)[0] / made.sigma
    assert far.max() <= BOUND * (1 + 1e-3)
    back = visited(made, 200, lambda row: torch.zeros_like(said))[0] / made.sigma
    assert back.max() < -0.2, "from far out, towards what was tracked"


def test_only_timesteps_that_were_seen_stand_beside_one():
    made = tuner(lambda_dynamic_offset_std=1.0)
    assert made.offsets_beside(1).shape == (0, VERTICES, 3)
    made.table[:, -3 * VERTICES :] = torch.arange(3.0)[:, None]
    made.steps[2] = 1
    assert made.offsets_beside(1).unique().tolist() == [2.0]
    made.steps[0] = 4
    assert made.offsets_beside(1)[:, 0, 0].tolist() == [0.0, 2.0]
    assert made.offsets_beside(0).shape[0] == 0
