"""The Live tab: a phone moves the avatar in the browser, the neutral face is set by a click, and without it all is as ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("viser")

from export import browser
from motion.live import packets
from viewer.host import running
from viewer.test_browser import HEIGHT, WIDTH, click, eventually, seen
from viewer.visitor import Visitor

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.bench import example_avatar
from taichi_avatars.motion.live.setup import prepare
from taichi_avatars.viewer.subject import subject_of
from taichi_avatars.viewer.viewer import Viewer

TURNED = {"JawOpen": 1.0, "HeadYaw": 0.5, "BrowInnerUp": 0.5}


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return example_avatar(3000)


@contextmanager
def moved(avatar: Avatar, folder: Path) -> Iterator[tuple[Viewer, tuple[str, int]]]:
    performer, source = prepare(avatar, "livelink:0", smoothing=0.0)
    viewer = Viewer(subject_of(avatar, None, None), folder, port=0, height=120, live=(performer, source))
    viewer.warm_up()
    with running(viewer):
        yield viewer, source.address  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def phone(address: tuple[str, int], values: dict[str, float]) -> Iterator[None]:
    """Sends the same face sixty times a second."""
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            frame = 0
            while not done.wait(1 / 60):
                out.sendto(packets.live_link(values, frame), address)
                frame += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean()) if one.shape == other.shape else 255.0


def test_a_phone_moves_the_avatar(avatar: Avatar, tmp_path: Path) -> None:
    with moved(avatar, tmp_path) as (viewer, address):
        visitor = Visitor(viewer.address)
        still = visitor.rested(height=120)
        visitor.wait_for(lambda: any("Waiting" in text for text in visitor.texts), "the tab says that nothing has come")
        with phone(address, TURNED):
            visitor.wait_for(lambda: any("faces per second" in text for text in visitor.texts), "the tab says what comes")
            posed = visitor.rested(height=120)
            assert difference(posed, still) > 3.0
            count = visitor.pictures
            visitor.click("This is my neutral face")
            neutral = visitor.rested(after=count, height=120)
            assert difference(neutral, posed) > 3.0
            count = visitor.pictures
            visitor.click("Forget neutral face")
            assert difference(visitor.rested(after=count, height=120), posed) < 0.5
            count = visitor.pictures
            visitor.set("Live", False)
            assert difference(visitor.rested(after=count, height=120), still) < 0.5
            visitor.set("Live", True)
            visitor.set("Smoothing", "nonsense")
            assert difference(visitor.rested(after=count + 1, height=120), posed) < 0.5
        visitor.close()


def test_a_neutral_face_needs_a_face(avatar: Avatar, tmp_path: Path) -> None:
    with moved(avatar, tmp_path) as (viewer, _):
        visitor = Visitor(viewer.address)
        visitor.click("This is my neutral face")
        visitor.wait_for(lambda: any("no face has come" in notice for notice in visitor.notices), "it says so")
        visitor.close()


@pytest.mark.skipif(not browser.BROWSER, reason="there is no chromium here")
def test_a_real_browser_shows_the_motion(avatar: Avatar, tmp_path: Path) -> None:
    with (
        moved(avatar, tmp_path) as (viewer, address),
        browser.opened(viewer.address, tmp_path / "profile", WIDTH, HEIGHT) as page,
    ):
        click(page, "Live")
        says = "document.body.innerText.includes(%r)"
        assert eventually(page, says % "Waiting")
        still = seen(page)
        while difference(still, seen(page)) > 0.5 or still.std() < 5.0:  # until it has come to rest
            still = seen(page)
            time.sleep(0.5)
        with phone(address, TURNED):
            assert eventually(page, says % "faces per second")
            while difference(seen(page), still) < 1.0:
                pass  # the browser's watchdog ends this where the picture never changes
