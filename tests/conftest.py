"""One runtime for all tests, and the inputs that live beside the checkout where they exist."""

from taichi_avatars import runtime  # before torch, to which the package says how its threads wait

# isort: split
from pathlib import Path

import pytest
import torch

from taichi_avatars.errors import UserError


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where kernels run: cpu, vulkan, cuda; one per process")


@pytest.fixture(scope="session", autouse=True)
def taichi_runtime(pytestconfig: pytest.Config) -> str:
    device = pytestconfig.getoption("--device")
    try:
        return runtime.init(device)
    except UserError as error:
        if device == "cpu":
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data and results of independent code; tests that need it are skipped where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the folder 'shared' with independent data is not beside the checkout")
    return path
