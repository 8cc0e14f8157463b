"""The viewer in a real browser: it loads, shows the avatar, a slider changes it, it plays, and a film is written."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from export import browser
from PIL import Image

pytestmark = pytest.mark.skipif(not browser.BROWSER, reason="there is no chromium here")
WIDTH, HEIGHT = 900, 600
LEFT = 500  # columns beside the controls


def seen(page: browser.Call) -> np.ndarray:
    """What the browser shows beside the controls and below its own remarks, (H,W,3); nothing while the page loads."""
    try:
        shot = browser.screenshot(page)
    except RuntimeError:
        return np.zeros((10, 10, 3), int)
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
    return pixels[220:-60, 60:LEFT].astype(int)


def until(page: browser.Call, condition, what: str) -> np.ndarray:
    end = time.monotonic() + 90.0
    while time.monotonic() < end:
        picture = seen(page)
        if condition(picture):
            return picture
        time.sleep(0.3)
    raise AssertionError(what)


def eventually(page: browser.Call, script: str) -> Any:
    """The value of a script of the page once that is true; what it last was, where that takes too long."""
    end = time.monotonic() + 30.0
    while not (value := browser.evaluate(page, script)) and time.monotonic() < end:
        time.sleep(0.2)
    return value


def click(page: browser.Call, text: str) -> None:
    """Clicks a button or a tab with the mouse, once it has come to rest and nothing covers it."""
    place = eventually(
        page,
        "(() => { const all = [...document.querySelectorAll('button, [role=tab]')];"
        f" const one = all.find(b => b.textContent.trim() == {json.dumps(text)}); if (!one) return null;"
        " one.scrollIntoView({block: 'center', behavior: 'instant'}); const r = one.getBoundingClientRect();"
        " const at = [r.x + r.width / 2, r.y + r.height / 2], before = window.lastPlace; window.lastPlace = at;"
        " const hit = document.elementFromPoint(...at);"
        " return hit && one.contains(hit) && before && before[0] == at[0] && before[1] == at[1] ? at : null; })()",
    )
    assert place, f"there is no button {text}"
    for kind in ("mousePressed", "mouseReleased"):
        page("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)


def turn(page: browser.Call, label: str, key: str, times: int) -> None:
    """Moves a slider with the keyboard."""
    place = eventually(
        page,
        f"(() => {{ const l = [...document.querySelectorAll('label')].find(l => l.textContent.trim() == {json.dumps(label)});"
        " let box = l; while (box && !box.querySelector('[role=slider]')) box = box.parentElement;"
        " if (!box) return false; box.querySelector('[role=slider]').focus(); return true; })()",
    )
    assert place, f"there is no slider {label}"
    for _ in range(times):
        for kind in ("keyDown", "keyUp"):
            page("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode={"ArrowRight": 39}[key])


def test_a_browser_shows_plays_and_films(viewer, tmp_path: Path) -> None:
    with browser.opened(viewer.address, tmp_path / "profile", WIDTH, HEIGHT) as page:
        blue = (0.1, 0.2, 0.3)
        background = np.round(255 * np.array(blue))

        def shows_the_avatar(picture: np.ndarray) -> bool:
            corner = np.abs(picture[-5:, :5] - background).max() < 8
            return corner and (np.abs(picture - background).max(2) > 30).mean() > 0.05

        first = until(page, shows_the_avatar, "no picture of the avatar")
        assert "Gaussians" in browser.evaluate(page, "document.title + document.body.innerText")

        click(page, "Face")
        turn(page, "Jaw: open", "ArrowRight", 40)
        opened = until(page, lambda now: (np.abs(now - first).max(2) > 30).mean() > 0.005, "the slider changes nothing")
        assert viewer.panel.look().pose.jaw[0] == pytest.approx(np.radians(20.0))

        page("Input.dispatchMouseEvent", type="mousePressed", x=200, y=400, button="left", clickCount=1)
        for x in range(200, 300, 10):
            page("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=400, button="left")
        page("Input.dispatchMouseEvent", type="mouseReleased", x=300, y=400, button="left", clickCount=1)
        until(page, lambda now: (np.abs(now - opened).max(2) > 30).mean() > 0.02, "the camera does not turn")

        index = viewer.timeline.index
        click(page, "Play")
        until(page, lambda now: viewer.timeline.index != index and viewer.timeline.playing, "it does not play")
        click(page, "Pause")
        still = seen(page)
        until(page, lambda now: not viewer.timeline.playing, "it does not pause")
        assert still.shape == first.shape

        click(page, "Path")
        for _ in range(2):
            click(page, "Add key frame")
        until(page, lambda now: len(viewer.director.keys) == 2, "no key frames")
        click(page, "Film it: mp4")
        until(page, lambda now: list(viewer._folder.glob("film_*.mp4")), "no film")
        until(page, lambda now: "film_" in browser.evaluate(page, "document.body.innerText"), "the film is not offered")
        (film,) = viewer._folder.glob("film_*.mp4")
        with av.open(str(film)) as video:
            assert sum(1 for _ in video.decode(video=0)) == 51
        if folder := os.environ.get("VIEWER_SCREENSHOT"):  # for the documentation
            Path(folder).write_bytes(browser.screenshot(page))
