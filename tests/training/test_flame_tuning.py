"""FLAME parameters while they are tuned: which of them, by which steps, and next to which."""

from dataclasses import replace

import pytest
import torch
from avatar.small_avatar import small_motion

from taichi_avatars.config import TrainConfig
from taichi_avatars.training.flame_tuning import FlameTuner
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
    made = tuner(lambda_dynamic_offset=1.0, flame_offset_lr=2e-6, flame_pose_lr=1e-5)
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


def test_only_timesteps_that_were_seen_stand_beside_one():
    made = tuner(lambda_dynamic_offset_std=1.0)
    assert made.offsets_beside(1).shape == (0, VERTICES, 3)
    made.table[:, -3 * VERTICES :] = torch.arange(3.0)[:, None]
    made.steps[2] = 1
    assert made.offsets_beside(1).unique().tolist() == [2.0]
    made.steps[0] = 4
    assert made.offsets_beside(1)[:, 0, 0].tolist() == [0.0, 2.0]
    assert made.offsets_beside(0).shape[0] == 0
