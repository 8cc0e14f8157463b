"""The exported page moved by scripts, by a page that embeds it, and by a WebSocket, in a real browser."""

from __future__ import annotations

import base64
import functools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from export.browser import BROWSER, Call, evaluate, opened, served
from export.subjects import camera_of, colourful_avatar
from PIL import Image
from websockets.sync.server import ServerConnection, serve

from taichi_avatars.avatar.avatar import Avatar
from taichi_avatars.export.web import write_web
from taichi_avatars.files.png import as_uint8
from taichi_avatars.motion.face_map import face_map
from taichi_avatars.motion.live.face import Face
from taichi_avatars.motion.live.rig import FaceRig
from taichi_avatars.scene.cameras import Camera

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
SIZE = (200, 256)
MESSAGE = {"weights": {"jawOpen": 0.8, "mouthSmileLeft": 1.0, "eyeLookOutLeft": 0.5}, "head": [0.1, 0.3, 0.0]}
READY = "new Promise((go) => { const look = () => window.avatar ? avatar.ready.then(go) : setTimeout(look, 20); look(); })"


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return colourful_avatar()


@pytest.fixture(scope="module")
def site(avatar: Avatar, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live") / "site"
    write_web(avatar, folder)
    return folder


@functools.cache
def seen_from(avatar: Avatar) -> Camera:
    return camera_of(avatar, *SIZE)


def as_json(camera: Camera) -> str:
    values = {name: getattr(camera, name) for name in ("width", "height", "fx", "fy", "cx", "cy")}
    return json.dumps({**values, "world_to_camera": camera.world_to_camera.flatten().tolist()})


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def expected(avatar: Avatar) -> np.ndarray:
    assert avatar.head is not None
    rig = FaceRig(avatar, face_map(avatar.head))
    row = rig.finished(rig.row(Face(weights=MESSAGE["weights"], head=tuple(MESSAGE["head"]))), None, weights=True)  # pyright: ignore[reportArgumentType]
    return as_uint8(avatar.render(seen_from(avatar), flame=rig.pose(rig.placed(row))).image)


def psnr(shown: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(((shown.astype(float) - truth) ** 2).mean() / 255**2))


def still_picture(call: Call, avatar: Avatar) -> str:
    return evaluate(call, f"avatar.picture(0, {as_json(seen_from(avatar))})")


def test_a_script_poses_the_avatar(avatar: Avatar, site: Path, tmp_path: Path) -> None:
    with served(site) as address, opened(address, tmp_path / "profile", 300, 400) as call:
        evaluate(call, READY)
        still = still_picture(call, avatar)
        evaluate(call, f"avatar.pose({json.dumps(MESSAGE)})")
        posed = decoded(still_picture(call, avatar))
        assert psnr(posed, expected(avatar)) > 45.0 and psnr(posed, decoded(still)) < 40.0
        evaluate(call, "avatar.pose({ jaw: [0.3, 0, 0], expr: [0.5] })")
        assert psnr(decoded(still_picture(call, avatar)), posed) < 45.0
        evaluate(call, "avatar.pose(null)")
        assert still_picture(call, avatar) == still
        for wrong in (
            "{ weights: { grin: 1 } }",
            "{ head: [1, 2] }",
            "{ jaw: [NaN, 0, 0] }",
            "{ weights: { jawOpen: '1' } }",
            "3",
        ):
            tried = f"try {{ avatar.pose({wrong}); return ''; }} catch (error) {{ return error.message; }}"
            assert evaluate(call, f"(() => {{ {tried} }})()"), wrong
        assert still_picture(call, avatar) == still


def test_a_page_that_embeds_it_moves_it(avatar: Avatar, site: Path, tmp_path: Path) -> None:
    (site.parent / "index.html").write_text('<iframe src="site/index.html" width="300" height="400"></iframe>')
    inner = "frames[0].avatar"
    camera = as_json(seen_from(avatar))
    loaded = READY.replace("window.avatar ? avatar", f"frames[0] && {inner} ? {inner}")
    with served(site.parent) as address, opened(address, tmp_path / "profile", 400, 500) as call:
        evaluate(call, loaded)
        truth = expected(avatar)
        assert psnr(decoded(evaluate(call, f"{inner}.picture(0, {camera})")), truth) < 40.0
        evaluate(call, f"frames[0].postMessage({{ pose: {json.dumps(MESSAGE)} }}, '*')")
        while psnr(decoded(evaluate(call, f"{inner}.picture(0, {camera})")), truth) < 45.0:
            pass  # the browser is ended by its watchdog where that never comes


@contextmanager
def speaking(messages: list[str]) -> Iterator[str]:
    """A WebSocket server that sends its messages to whoever comes."""

    def speak(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message)
        connection.recv()

    with serve(speak, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield "ws://{}:{}".format(*server.socket.getsockname())
        server.shutdown()


def test_a_websocket_moves_it(avatar: Avatar, site: Path, tmp_path: Path) -> None:
    messages = ["no JSON", '{"weights": {"grin": 1}}', json.dumps(MESSAGE)]  # what is wrong is passed over
    with (
        speaking(messages) as socket,
        served(site) as address,
        opened(f"{address}?ws={socket}", tmp_path / "profile", 300, 400) as call,
    ):
        evaluate(call, READY)
        truth = expected(avatar)
        while psnr(decoded(still_picture(call, avatar)), truth) < 45.0:
            pass
