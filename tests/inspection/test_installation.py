"""`info` without a path: what runs here."""

import json
import platform

from taichi_avatars import engine
from taichi_avatars.cli import run
from taichi_avatars.head.assets import VARIABLE


def test_info_without_a_path_says_which_engine_runs_and_which_others_could(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name in engine.ENGINES else None)
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: {"taichi": "1.7.4", "quadrants": "1.4.0"}.get(name, "2.13.0")
    )
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "flame.pkl"))
    assert run(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["engine"] == "taichi 1.7.4" and facts["python"] == platform.python_version() and facts["threads"] >= 1
    assert facts["also installed"] == "quadrants 1.4.0: TAICHI_AVATARS_ENGINE=quadrants chooses it"
    assert facts["head file"] == str(tmp_path / "flame.pkl")
    monkeypatch.setenv(engine.VARIABLE, "quadrants")
    assert run(["info"]) == 0
    assert "engine          quadrants 1.4.0\nalso installed  taichi 1.7.4:" in capsys.readouterr().out


def test_info_without_an_engine_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(["info"]) == 1
    assert "no engine for the kernels is installed: pip install taichi" in capsys.readouterr().err
