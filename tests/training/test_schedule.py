"""The paper's intervals, and what becomes of them in short runs."""

import pytest

from taichi_avatars.config import TrainConfig
from taichi_avatars.training.schedule import Schedule


def test_full_length_is_the_papers():
    schedule = Schedule.of(TrainConfig(iterations=600_000, schedule="paper"))
    densified = [i for i in range(1, 20_000) if schedule.densifies(i)]
    assert densified[:2] == [12_000, 14_000]
    assert not schedule.densifies(600_000)
    assert schedule.densifies(598_000)
    assert [schedule.sh_degree(i, 3) for i in (1, 999, 1000, 2000, 3000, 9000)] == [0, 0, 1, 2, 3, 3]
    assert schedule.resets(60_000, white=False)
    assert not schedule.resets(10_000, white=False)
    assert schedule.resets(10_000, white=True)


def test_short_runs_shrink_but_not_below_what_works():
    schedule = Schedule.of(TrainConfig(iterations=6_000))
    assert schedule.densify_every == 100
    assert next(i for i in range(1, 6000) if schedule.densifies(i)) == 200
    assert schedule.reset_every is None
    assert not schedule.resets(100, white=True)
    assert [schedule.sh_degree(i, 3) for i in (999, 1000, 2000, 3000)] == [0, 1, 2, 3]
    assert schedule.sh_degree(6000, 1) == 1


def test_resets_return_where_their_interval_is_long_enough():
    assert Schedule.of(TrainConfig(iterations=30_000)).reset_every == 3_000
    assert Schedule.of(TrainConfig(iterations=29_000)).reset_every is None


def test_a_run_does_not_end_with_what_it_could_no_longer_heal_from():
    """A reset after step 60,000 of as many would leave an avatar of 11 dB."""
    schedule = Schedule.of(TrainConfig(iterations=60_000))
    assert not any(schedule.resets(i, white=False) or schedule.densifies(i) for i in (0, 60_000))
    assert Schedule.of(TrainConfig(iterations=61_000)).resets(60_000, white=False) is False
    assert Schedule.of(TrainConfig(iterations=63_000)).resets(60_000, white=False)


def test_position_rate_is_log_linear():
    schedule = Schedule.of(TrainConfig(iterations=1000))
    rates = [schedule.position_lr(i, 1e-2, 1e-4) for i in (0, 500, 1000)]
    assert rates == pytest.approx([1e-2, 1e-3, 1e-4])


def test_the_learning_rate_of_positions_ends_where_it_is_told():
    to_the_end, sooner = (Schedule.of(TrainConfig(iterations=100, position_lr_max_steps=steps)) for steps in (None, 50))
    assert to_the_end.position_lr(100, 1.0, 0.01) == pytest.approx(0.01)
    assert to_the_end.position_lr(50, 1.0, 0.01) == pytest.approx(0.1)
    assert sooner.position_lr(50, 1.0, 0.01) == sooner.position_lr(90, 1.0, 0.01) == pytest.approx(0.01)


def test_rates_settle_at_the_end_of_a_run():
    schedule = Schedule.of(TrainConfig(iterations=1000))
    assert [schedule.rate_share(i, 0.1) for i in (1, 600, 800, 1000)] == pytest.approx([1.0, 1.0, 0.1**0.5, 0.1])
    assert schedule.rate_share(1000, TrainConfig(schedule="paper").lr_final_share) == 1.0


def test_a_fast_run_is_given_time_to_settle_after_density_control():
    assert Schedule.of(TrainConfig(iterations=6_000)).densify_until == 4_200
    assert Schedule.of(TrainConfig(iterations=6_000, schedule="paper")).densify_until == 6_000


def test_gaussians_that_contribute_little_go_in_rounds_after_density_control():
    schedule = Schedule.of(TrainConfig(iterations=1000))
    left = 1.0
    for iteration in range(1001):
        left *= 1.0 - schedule.prunes(iteration, 0.6)
    assert left == pytest.approx(0.4)
    assert not any(schedule.prunes(iteration, 0.6) for iteration in range(schedule.densify_until))
    assert not any(Schedule.of(TrainConfig(iterations=200)).prunes(iteration, 0.6) for iteration in range(201))
    assert TrainConfig(schedule="paper").prune_share == 0.0
