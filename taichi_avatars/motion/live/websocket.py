"""JSON over a WebSocket, for custom programs: one message is one face.

`{"weights": {"jawOpen": 0.5}, "head": [x, y, z], "time": seconds}`, or parts of a FLAME pose,
`{"expr": [...], "jaw": [x, y, z], "neck": ..., "eyes": [6 numbers], "rotation": ..., "translation": ..., "time": seconds}`,
or `{"face": false}`. All are optional.
"""

from __future__ import annotations

import http
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from taichi_avatars.errors import UserError
from taichi_avatars.head.pose import PARTS
from taichi_avatars.motion.live.face import Face, clock, numbers, weight
from taichi_avatars.motion.live.sender import OneSender
from taichi_avatars.motion.live.source import Take, Traffic

if TYPE_CHECKING:
    from websockets.sync.server import Server, ServerConnection

PORT = 8765
LARGEST = 1 << 16  # bytes of a message
MOST_CONNECTIONS = 16
MOST_EXPRESSIONS = 1024
HERE = ("localhost", "127.0.0.1", "::1")
NO_ORIGIN = "null"  # the origin that browsers give for pages in files, and for frames that hide their origin
SIZES = {part.name: part.size for part in PARTS}
COMPLAIN_EVERY = 1.0  # seconds between replies to refused messages
WANTED = 'want {"weights": {"jawOpen": 0.5}, "head": [x, y, z]}, FLAME parameters, or {"face": false}'


class Refused(Exception):
    """An error in a message."""


def read(message: str | bytes, names: frozenset[str]) -> Face:
    """The face in a message.

    Args:
        names: of the known weights.

    Raises:
        Refused: if it holds anything else.
    """
    try:
        content: Any = json.loads(message)
    except (ValueError, RecursionError):
        raise Refused(f"this is not JSON; {WANTED}") from None
    if not isinstance(content, dict):
        raise Refused(WANTED)
    unknown = content.keys() - SIZES.keys() - {"expr", "weights", "head", "time", "face"}
    if unknown:
        raise Refused(f"{sorted(unknown)[0][:40]!r} is unknown; {WANTED}")
    time_of = clock(content["time"]) if content.get("time") is not None else None
    if content.get("face") is False:
        return Face(time_of, found=False)
    flame = {name: content[name] for name in ("expr", *SIZES) if name in content}
    if flame:
        if "weights" in content or "head" in content:
            raise Refused("give either weights and head, or FLAME parameters")
        return Face(time_of, flame={name: _part(name, values) for name, values in flame.items()})
    weights = content.get("weights", {})
    if not isinstance(weights, dict):
        raise Refused("weights: want an object of names and numbers from 0 to 1")
    for name, value in weights.items():
        if name not in names:
            raise Refused(f"weights: {name[:40]!r} is unknown; there are {', '.join(sorted(names)[:3])}, ...")
        if numbers([value], 1) is None:
            raise Refused(f"weights: {name}: want a number from 0 to 1")
    head = numbers(content.get("head", [0, 0, 0]), 3)
    if head is None:
        raise Refused("head: want three numbers, an axis-angle in radians: x to the person's left, y up, z forward")
    return Face(time_of, weights={name: weight(value) for name, value in weights.items()}, head=(head[0], head[1], head[2]))


def _part(name: str, values: Any) -> list[float]:
    found = numbers(values, SIZES.get(name))
    if found is None or len(found) > MOST_EXPRESSIONS:
        raise Refused(f"{name}: want {SIZES.get(name, 'as many finite numbers as the head has expression components')}")
    return found


class WebSocket:
    """A source that programs connect to; web pages too, from this machine or from the allowed origin.

    Args:
        names: of the weights of the avatar's head.
        allowed: the only sender: an address, or the origin of web pages, such as https://example.org; "null"
            for a page that is a file.

    Raises:
        UserError: if it cannot listen there, or its library is not installed.
    """

    warning: str | None = None
    failure: str | None = None
    ended = False

    def __init__(self, host: str, port: int, names: tuple[str, ...], allowed: str | None = None) -> None:
        try:
            from websockets.sync.server import serve
        except ImportError:
            raise UserError("websocket needs websockets, which is not installed: pip install 'taichi-avatars[live]'") from None
        self.traffic = Traffic()
        self._names = frozenset(names)
        page = allowed is not None and ("://" in allowed or allowed == NO_ORIGIN)
        self._origin = allowed if page else None
        self._senders = OneSender(None if page else allowed)
        self._lock = threading.Lock()
        self._connections = 0
        self._take: Take | None = None
        silent = logging.Logger("live-websocket")  # it would print tracebacks for malformed connections
        silent.addHandler(logging.NullHandler())
        try:
            self._server: Server = serve(
                self._serve, host, port, process_request=self._refusal, max_size=LARGEST, compression=None, logger=silent
            )  # fmt: skip
        except (OSError, UnicodeError) as error:
            raise UserError(
                f"websocket: cannot listen on {host} port {port} ({error}); end the program that does, or choose another"
            ) from None
        self._handle = self._server.handler
        self._server.handler = self._let_in
        self.address: tuple[str, int] = self._server.socket.getsockname()[:2]
        self.name = f"websocket at ws://{self.address[0]}:{self.address[1]}"
        self._thread: threading.Thread | None = None

    def start(self, take: Take) -> None:
        self._take = take
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="live-source")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        if self._thread is not None:
            self._thread.join()

    def _refusal(self, connection: ServerConnection, request: Any) -> Any:
        """The answer to a page from elsewhere."""
        origin = request.headers.get("Origin")
        own = origin is None or urlsplit(origin).hostname in HERE
        if not (origin == self._origin if self._origin is not None else own):
            self.traffic.others += 1
            text = f"pages of {origin} may not move this avatar; start it with --sender {origin}\n"
            return connection.respond(http.HTTPStatus.FORBIDDEN, text)
        return None

    def _let_in(self, connection: socket.socket, address: Any) -> None:
        """Serves a connection on its thread, unless there are too many."""
        with self._lock:
            full = self._connections >= MOST_CONNECTIONS
            self._connections += not full
            self.traffic.others += full
        if full:
            connection.close()
            return
        try:
            self._handle(connection, address)
        finally:
            with self._lock:
                self._connections -= 1

    def _serve(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        with suppress(ConnectionClosed, OSError):
            complain = _Complaints(connection.send)
            address = connection.remote_address[:2]
            for message in connection:
                self._hear(message, address, complain)

    def _hear(self, message: str | bytes, address: tuple[str, int], complain: _Complaints) -> None:
        now = time.monotonic()
        with self._lock:  # no longer than this: a reply may have to wait until its connection accepts it
            admitted = self._senders.admits(address)
            self.traffic.others += not admitted
        if not admitted:
            complain("somebody else moves this avatar")
            return
        try:
            face = read(message, self._names)
        except Refused as error:
            self.traffic.refused += 1
            complain(str(error))
            return
        with self._lock:
            new = self._senders.heard(address)
            self.traffic.faces += 1
            if new:
                self.traffic.sender = f"{address[0]}:{address[1]}"
            assert self._take is not None
            self._take(face, now, new)


class _Complaints:
    """Tells a sender what is wrong, at intervals."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send, self._last = send, float("-inf")

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._last > COMPLAIN_EVERY:
            self._last = time.monotonic()
            self._send(json.dumps({"error": text}))
