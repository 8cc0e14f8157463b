"""Launches by plan do what Taichi's own do, and leave to Taichi what they cannot serve."""

import pytest
import torch

from taichi_avatars import engine, launching, runtime
from taichi_avatars.engine import ti

# What the engine says where it refuses an argument.
Refused = ti.TaichiRuntimeTypeError if engine.name() == "taichi" else ti.QuadrantsRuntimeTypeError

Vec = ti.types.vector(4, ti.f32)
F32x2 = ti.types.ndarray(dtype=ti.f32, ndim=2)
I32x1 = ti.types.ndarray(dtype=ti.i32, ndim=1)
VecX1 = ti.types.ndarray(dtype=Vec, ndim=1)


@ti.kernel
def scale_rows(times: ti.i32, factor: ti.f32, rows: F32x2, sizes: I32x1, vectors: VecX1):
    sizes[0], sizes[1], sizes[2] = rows.shape[0], rows.shape[1], vectors.shape[0]
    for i, k in rows:
        rows[i, k] = rows[i, k] * factor * ti.cast(times, ti.f32)
    for i in vectors:
        vectors[i] = vectors[i] * factor


@ti.kernel
def total(rows: F32x2) -> ti.f32:
    result = 0.0
    for i, k in rows:
        result += rows[i, k]
    return result


def launch(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    sizes, vectors = torch.zeros(3, dtype=torch.int32), torch.ones(5, 4)
    scale_rows(2, 1.5, rows, sizes, vectors)
    return rows, sizes, vectors


def test_repeated_launches_equal_the_first_with_other_shapes_too() -> None:
    for shape in [(3, 2), (3, 2), (7, 1), (0, 2), (1, 9)]:
        rows, sizes, vectors = launch(torch.ones(shape))
        assert torch.equal(rows, torch.full(shape, 3.0))
        assert sizes.tolist() == [*shape, 5]
        assert torch.equal(vectors, torch.full((5, 4), 1.5))


def test_arguments_of_another_kind_are_refused_as_taichi_refuses_them() -> None:
    launch(torch.ones(2, 2))
    for wrong in [torch.ones(2, 2, dtype=torch.float64), torch.ones(2), torch.ones(4, 4).T[:, ::2]]:
        with pytest.raises((ValueError, Refused)):
            launch(wrong)
    with pytest.raises(ValueError):
        scale_rows(2, 1.5, torch.ones(2, 2), torch.zeros(3, dtype=torch.int32), torch.ones(5, 3))
    with pytest.raises(Refused):
        scale_rows(2.5, 1.5, torch.ones(2, 2), torch.zeros(3, dtype=torch.int32), torch.ones(5, 4))


def test_a_kernel_that_returns_something_still_does() -> None:
    assert [total(torch.ones(2, 3)) for _ in range(3)] == [6.0, 6.0, 6.0]


@pytest.mark.skipif(not launching.serves(ti), reason="written for Taichi alone")
def test_the_kernels_of_a_rendering_are_launched_by_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.start()
    launch(torch.ones(2, 2))
    served = []
    original = launching._context
    monkeypatch.setattr(launching, "_context", lambda plan, args: served.append(original(plan, args)) or served[-1])
    launch(torch.ones(2, 2))
    assert len(served) == 1 and served[0] is not None
