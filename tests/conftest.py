"""One runtime for all tests, and the inputs that live beside the checkout where they exist."""

from taichi_avatars import runtime  # before torch, to which the package says how its threads wait

# isort: split
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from taichi_avatars import FlameModel
from taichi_avatars.errors import UserError
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.synthetic.capture import write_capture


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


@pytest.fixture(autouse=True)
def listens_to_ctrl_c() -> Iterator[None]:
    """A background job is started deaf to SIGINT, and so would be these tests and what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with data and results of independent code; tests that need it are skipped where it is missing."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip("the folder 'shared' with independent data is not beside the checkout")
    return path


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


@pytest.fixture(scope="module")
def capture(tmp_path_factory, head) -> Capture:
    """A capture of the built-in head that is drawn in seconds."""
    folder = tmp_path_factory.mktemp("capture") / "subject"
    write_capture(folder, width=45, height=60, timesteps=2, test_timesteps=1, cameras=4, supersample=1)
    return load_capture(folder, head=head)
