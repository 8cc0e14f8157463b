"""What the tests of training share: the built-in head, and a capture of it that is drawn in seconds."""

import pytest

from taichi_avatars import FlameModel
from taichi_avatars.scene.capture import Capture, load_capture
from taichi_avatars.synthetic.capture import write_capture


@pytest.fixture(scope="module")
def head() -> FlameModel:
    return FlameModel.builtin()


@pytest.fixture(scope="module")
def capture(tmp_path_factory, head) -> Capture:
    folder = tmp_path_factory.mktemp("capture") / "subject"
    write_capture(folder, width=45, height=60, timesteps=2, test_timesteps=1, cameras=4, supersample=1)
    return load_capture(folder, head=head)
