"""Taichi's frontend with less work does the same work."""

import subprocess
import sys

import pytest

from taichi_avatars import engine, frontend

pytestmark = pytest.mark.skipif(engine.name() != "taichi", reason="written for Taichi alone")


@pytest.fixture
def untouched():
    """What `lighten` puts in place, put back after the test."""
    from taichi_avatars.engine import ti

    places = [
        (ti.lang.kernel_impl, "_inside_class"),
        (ti.lang.kernel_impl, "_get_tree_and_ctx"),
        (ti.lang.ast.ast_transformer_utils.ASTTransformerContext, "get_pos_info"),
    ]
    before = [(where, name, getattr(where, name)) for where, name in places]
    yield before
    for where, name, value in before:
        setattr(where, name, value)


def test_other_versions_are_left_alone(monkeypatch: pytest.MonkeyPatch, untouched) -> None:
    from taichi_avatars.engine import ti

    monkeypatch.setattr(ti, "__version__", (9, 9, 9))
    assert frontend.lighten(ti) is False
    assert all(getattr(where, name) is value for where, name, value in untouched)


def test_what_is_in_place_is_not_put_there_again(untouched) -> None:
    from taichi_avatars.engine import ti

    assert frontend.lighten(ti)
    assert all(getattr(where, name) is value for where, name, value in untouched)


def test_classes_are_told_from_modules_and_functions() -> None:
    from taichi_avatars.engine import ti

    def in_a_function():
        @ti.func
        def one(x):
            return x

        return one

    @ti.data_oriented
    class Holder:
        @ti.func
        def one(self, x):
            return x

        @ti.kernel
        def many(self) -> ti.i32:
            return 1

    assert not in_a_function().func.classfunc
    assert Holder.one.func.classfunc
    assert Holder.many._is_classkernel


SCRIPT = """
from taichi_avatars import runtime
from taichi_avatars.engine import ti

@ti.func
def half(x):
    return x / 2.0

@ti.kernel
def good(x: ti.types.ndarray(dtype=ti.f32, ndim=1)):
    for i in range(x.shape[0]):
        x[i] = half(x[i]) + half(3.0)

@ti.kernel
def bad(x: ti.types.ndarray(dtype=ti.f32, ndim=1)):
    for i in range(x.shape[0]):
        x[i] = half(x[i]) + missing

import torch
runtime.init("cpu", threads=1, offline_cache=False)
x = torch.full((2,), 4.0)
good(x)
assert x.tolist() == [3.5, 3.5]
try:
    bad(x)
except ti.TaichiCompilationError as error:
    print(error)
"""


def test_errors_in_a_kernel_name_file_and_line(tmp_path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = SCRIPT.splitlines().index("        x[i] = half(x[i]) + missing") + 1
    assert f'File "{script}", line {line}, in bad' in done.stdout
    assert 'Name "missing" is not defined' in done.stdout
