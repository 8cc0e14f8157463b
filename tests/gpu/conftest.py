"""Tests of what only a GPU does; the tests of the ops in tests/kernels run there, too: `make test-vulkan`."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def gpu(taichi_runtime: str) -> str:
    if taichi_runtime == "cpu":
        pytest.skip("kernels run on the CPU in this process: give --device vulkan or cuda")
    return taichi_runtime
