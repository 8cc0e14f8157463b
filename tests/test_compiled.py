"""What has to be compiled is known before it is, said, and can be compiled ahead."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from taichi_avatars import compiled, runtime, warm
from taichi_avatars.cli import compiling
from taichi_avatars.compiled import FirstLaunches


def test_a_kernel_is_told_of_once_and_known_to_the_next_process(tmp_path: Path) -> None:
    told: list[str] = []
    first, kernels = FirstLaunches(), [object(), object()]
    first.keep_in(tmp_path, "cpu a1")
    first.told = told.append
    for kernel, name in [(kernels[0], "blend"), (kernels[1], "skin"), (kernels[0], "blend")]:
        first.before(kernel, name)
    assert told == first.new == ["blend", "skin"] and first.left({"blend", "bind"}) == {"bind"}
    first._write()
    again, other = FirstLaunches(), FirstLaunches()
    again.keep_in(tmp_path, "cpu a1")
    other.keep_in(tmp_path, "cpu b2")  # the source is another
    again.told = other.told = told.append
    again.before(kernels[0], "blend")
    assert told == ["blend", "skin"] and again.left({"blend", "bind"}) == {"bind"}
    other.before(kernels[0], "blend")
    assert told == ["blend", "skin", "blend"]


def test_a_list_that_cannot_be_read_or_written_is_none(tmp_path: Path) -> None:
    (tmp_path / compiled.FILE).write_bytes(b"\xff\xfe")
    first = FirstLaunches()
    first.keep_in(tmp_path, "cpu a1")
    assert first.known == frozenset()
    first.keep_in(tmp_path / "missing", "cpu a1")
    first.before(object(), "blend")
    first._write()
    assert not (tmp_path / "missing").exists()


def test_lines_name_the_kernel_and_count_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    first, lines = FirstLaunches(), []
    monkeypatch.setattr(compiling, "first_launches", first)
    monkeypatch.setattr(compiling.time, "monotonic", lambda: 100.0)
    compiling.say_what_is_compiled("train", lines.append)
    kernels = {name: object() for name in ("regress", "blend", "project_adjoint")}
    for name, kernel in kernels.items():
        first.before(kernel, name)
    left = len(compiled.TRAINING) - 1
    assert lines == [
        f"compiling regress for this machine, {left} more to compile",
        f"compiling project_adjoint for this machine, {left - 2} more to compile",  # blend came within the same second
    ]


def test_warm_compiles_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    if runtime.on_gpu():
        pytest.skip("a GPU has other kernels")
    first, bars = FirstLaunches(), []

    class Bar:
        def update(self, done: int, total: int | None = None, **figures: str) -> None:
            bars.append((done, figures.get("kernel")))

    monkeypatch.setattr(runtime, "first_launches", first)
    monkeypatch.setattr(warm, "first_launches", first)
    assert warm.warm(lambda what, total, unit: nullcontext(Bar())) == len(compiled.ALL)
    assert set(first.new) == compiled.ALL and first.told is None
    assert [done for done, _ in bars] == list(range(len(compiled.ALL) + 1)) and bars[0][1] == first.new[0]
