"""Options from TOML files and Python."""

import pytest

from taichi_avatars.config import TrainConfig
from taichi_avatars.errors import UserError


def test_toml_out_and_in(tmp_path):
    config = TrainConfig(iterations=123, position_lr_init=1e-7, white_background=True, principal_point="top", seed=2**62)
    (tmp_path / "a.toml").write_text(config.to_toml())
    assert TrainConfig.from_toml(tmp_path / "a.toml") == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lambda_xyz = inf", "lambda_xyz"),
        ("feature_lr = nan", "feature_lr"),
        ("seed = -1", "seed"),
        ("seed = 99999999999999999999", "seed"),
        ("iterations = 0", "iterations"),
        ("no_such_option = 1", "no_such_option"),
        ("iterations = ", "not valid TOML"),
    ],
)
def test_wrong_values_are_named(tmp_path, text, words):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        TrainConfig.from_toml(tmp_path / "a.toml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_what_is_no_file_is_named(tmp_path, name):
    with pytest.raises(UserError, match="TOML"):
        TrainConfig.from_toml(tmp_path / name)


def test_the_papers_schedule_has_the_papers_numbers_unless_told_otherwise():
    fast, paper = TrainConfig(), TrainConfig(schedule="paper")
    assert (paper.position_lr_init, paper.position_lr_final, paper.feature_lr, paper.scaling_lr) == (0.005, 5e-5, 0.0025, 0.017)
    assert (paper.densify_grad_threshold, paper.max_gaussians, paper.flame_expr_lr) == (0.0002, 100_000, 1e-3)
    assert fast.feature_lr > paper.feature_lr
    assert TrainConfig(schedule="paper", feature_lr=0.1).feature_lr == 0.1
    assert TrainConfig(feature_lr=0.1).feature_lr == 0.1


def test_numbers_of_the_papers_schedule_do_not_stick_to_another(tmp_path):
    (tmp_path / "a.toml").write_text('schedule = "paper"\nopacity_lr = 0.1\n')
    values = TrainConfig.from_toml(tmp_path / "a.toml").model_dump(exclude_unset=True)
    assert values == {"schedule": "paper", "opacity_lr": 0.1}
    again = tmp_path / "b.toml"
    again.write_text(TrainConfig(schedule="paper").to_toml())
    assert TrainConfig.from_toml(again) == TrainConfig(schedule="paper")
