"""Which engine runs the kernels, and what is said where none can."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from taichi_avatars import UserError, engine


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None) if name in names else None)


@pytest.mark.parametrize(
    "names, wanted, chosen",
    [
        (("taichi",), None, "taichi"),
        (("quadrants",), None, "quadrants"),
        (("taichi", "quadrants"), None, "taichi"),
        (("taichi", "quadrants"), "", "taichi"),
        (("taichi", "quadrants"), "quadrants", "quadrants"),
        (("taichi", "quadrants"), "taichi", "taichi"),
    ],
)
def test_the_engine_is_the_one_asked_for_else_the_first_installed(monkeypatch, names, wanted, chosen) -> None:
    installed(monkeypatch, *names)
    if wanted is None:
        monkeypatch.delenv(engine.VARIABLE, raising=False)
    else:
        monkeypatch.setenv(engine.VARIABLE, wanted)
    assert engine.name() == chosen


@pytest.mark.parametrize(
    "names, wanted, words",
    [
        (("taichi",), "numba", "TAICHI_AVATARS_ENGINE=numba: no such engine: use taichi or quadrants"),
        (("taichi",), "quadrants", "quadrants is not installed: pip install quadrants, or unset the variable"),
        ((), "", "no engine for the kernels is installed: pip install taichi, or, from Python 3.14 on, pip install quadrants"),
    ],
)
def test_an_engine_that_is_not_to_be_had_is_refused(monkeypatch, names, wanted, words) -> None:
    installed(monkeypatch, *names)
    monkeypatch.setenv(engine.VARIABLE, wanted)
    with pytest.raises(UserError, match=words):
        engine.name()


def test_what_is_loaded_is_what_is_named() -> None:
    assert (
        engine.ti.__name__ == engine.name()
        and engine.version() == f"{engine.name()} {'.'.join(map(str, engine.ti.__version__))}"
    )
    assert engine.lang.kernel_impl.Kernel is engine.Kernel
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        engine.missing  # noqa: B018
