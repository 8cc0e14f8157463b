"""A viewer of a small avatar on a thread of its own, and browsers without a screen that visit it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("viser")

import torch
from viewer.host import running
from viewer.visitor import Visitor

from taichi_avatars.bench import example_avatar
from taichi_avatars.scene.capture import load_capture
from taichi_avatars.synthetic.capture import write_capture
from taichi_avatars.viewer.subject import subject_of
from taichi_avatars.viewer.viewer import Viewer

COUNT, HEIGHT = 6000, 120


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    avatar = example_avatar(COUNT)
    avatar.gaussians.sh_rest = 0.1 * torch.randn(avatar.gaussians.sh_rest.shape, generator=torch.Generator().manual_seed(1))
    folder = tmp_path_factory.mktemp("viewer")
    write_capture(folder / "capture", width=45, height=60, timesteps=3, test_timesteps=1, cameras=4, supersample=1)
    capture = load_capture(folder / "capture", head=avatar.head)
    subject = subject_of(avatar, capture, None, background=(0.1, 0.2, 0.3), name="tester")
    viewer = Viewer(subject, folder / "films", port=0, height=HEIGHT)
    viewer.warm_up()
    with running(viewer):
        yield viewer


@pytest.fixture(scope="module")
def first_values(viewer: Viewer) -> dict[str, object]:
    """What the controls say before anybody has touched them, by label."""
    visitor = Visitor(viewer.address)
    values = {label: control["value"] for label, control in visitor.controls.items() if "value" in control}
    visitor.close()
    return values


@pytest.fixture
def visit(viewer: Viewer, first_values: dict[str, object]) -> Iterator[Callable[..., Visitor]]:
    """Opens browsers; all is as it was at first for every test."""
    there: list[Visitor] = []

    def come(**options: object) -> Visitor:
        visitor = Visitor(viewer.address, **options)  # pyright: ignore[reportArgumentType]
        there.append(visitor)
        visitor.rested()
        return visitor

    def tidy() -> None:
        viewer.timeline.pause()
        viewer.timeline.seek(0, 0.0)
        viewer.director.remove(everything=True)

    yield come
    for visitor in there:
        visitor.close()
    tidier = Visitor(viewer.address)
    for label, value in first_values.items():
        if value is not None and tidier.controls[label]["value"] != value:
            tidier.set(label, value)
    time.sleep(0.1)
    viewer.post(tidy)
    tidier.close()
