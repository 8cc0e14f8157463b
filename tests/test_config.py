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
