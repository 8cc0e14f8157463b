"""A headless browser without a graphics card, driven through its debugging pipe; and a folder served as a web page."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless --no-sandbox --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--disable-quic --mute-audio --hide-scrollbars --force-color-profile=srgb --force-device-scale-factor=1 "
    "--use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader --remote-debugging-pipe"
)
PATIENCE = 120.0  # seconds that a page may take for one thing


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder on a static web server of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


Call = Callable[..., dict[str, Any]]


@contextmanager
def opened(address: str, profile: Path, width: int, height: int) -> Iterator[Call]:
    """A page in a new browser: a function that sends it a command of the debugging protocol and returns the answer."""
    assert BROWSER
    answers, to_us = os.pipe()
    from_us, questions = os.pipe()
    command = [BROWSER, *OPTIONS.split(), f"--window-size={width},{height}", f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}', *command],
        pass_fds=(from_us, to_us),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(from_us)
    os.close(to_us)
    watchdog = threading.Timer(PATIENCE, browser.kill)
    watchdog.start()
    try:
        with os.fdopen(answers, "rb") as inbox, os.fdopen(questions, "wb") as outbox:
            yield _session(inbox, outbox, address, width, height)
    finally:
        watchdog.cancel()
        browser.kill()
        browser.wait()


def _session(inbox: Any, outbox: Any, address: str, width: int, height: int) -> Call:
    state: dict[str, Any] = {"id": 0, "session": None}

    def call(method: str, **parameters: object) -> dict[str, Any]:
        state["id"] += 1
        message = {"id": state["id"], "method": method, "params": parameters}
        if state["session"]:
            message["sessionId"] = state["session"]
        outbox.write(json.dumps(message).encode() + b"\0")
        outbox.flush()
        while True:
            letters = bytearray()
            while (letter := inbox.read(1)) != b"\0":
                if not letter:
                    raise RuntimeError("the browser ended")
                letters += letter
            answer = json.loads(letters)
            if answer.get("id") == state["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    target = next(t for t in call("Target.getTargets")["targetInfos"] if t["type"] == "page")
    state["session"] = call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
    call("Page.enable")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    call("Emulation.setDeviceMetricsOverride", **size)
    call("Page.navigate", url=address)
    return call


def evaluate(call: Call, script: str) -> Any:
    """The value of an expression in the page; a promise is waited for."""
    answer = call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
    if "exceptionDetails" in answer:
        details = answer["exceptionDetails"]
        raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
    return answer["result"].get("value")


def screenshot(call: Call) -> bytes:
    """The page as PNG."""
    return base64.b64decode(call("Page.captureScreenshot", format="png")["data"])
