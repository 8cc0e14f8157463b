"""Live pictures over HTTP, for OBS' browser source and everything else that shows web pages.

`/` is a page that fills its window; `/alpha` the same without a background. `/stream.jpg`, `/stream.png` and `/stream.webp` are
endless (multipart/x-mixed-replace), the latter two without a background; `/picture.jpg`, `.png` and `.webp` are one picture.
"""

from __future__ import annotations

import io
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from taichi_avatars.errors import UserError
from taichi_avatars.video.live.frame import LiveFrame

PORT = 8090
MOST_VIEWERS, MOST_CONNECTIONS = 8, 32
PATIENCE = 5.0  # seconds that a viewer may take to receive a picture
REPEAT = 1.0  # seconds after which an unchanged picture is sent again
BOUNDARY = "picture"
OWN = ("127.0.0.1", "localhost", "::1")
# PNG with little compression, WebP with its fastest method: there are only milliseconds per picture.
FORMATS = {
    "jpg": ("image/jpeg", {"format": "jpeg", "quality": 90}),
    "png": ("image/png", {"format": "png", "compress_level": 1}),
    "webp": ("image/webp", {"format": "webp", "quality": 85, "method": 0}),
}
PAGE = (
    '<!doctype html><title>{title}</title><body style="margin:0;background:{background}">'
    '<img src="{stream}" alt="" style="display:block;width:100vw;height:100vh;object-fit:contain">'
)


class Mjpeg:
    """A web server for pictures. Everybody who can reach it may watch.

    Raises:
        UserError: if it cannot listen there.
    """

    def __init__(self, host: str, port: int, title: str, background: tuple[float, float, float]) -> None:
        self._changed = threading.Condition()
        self._frame: LiveFrame | None = None
        self._number = 0
        self._closed = False
        self._encoded: dict[str, tuple[int, bytes]] = {}
        self._encoding = {kind: threading.Lock() for kind in FORMATS}
        self.places = threading.BoundedSemaphore(MOST_VIEWERS)
        self.local = host in OWN
        color = "#" + "".join(f"{round(255 * part):02x}" for part in background)
        self.pages = {
            "/": PAGE.format(title=title, background=color, stream="stream.jpg"),
            "/alpha": PAGE.format(title=title, background="transparent", stream="stream.webp"),
        }
        try:
            self._server = _Server((host, port), _Handler)
        except (OSError, UnicodeError, OverflowError) as error:
            raise UserError(f"mjpeg: cannot listen on {host} port {port} ({error}); choose another: --to mjpeg:PORT") from None
        self._server.pictures = self
        self.port: int = self._server.server_address[1]
        shown = "localhost" if host in (*OWN, "0.0.0.0", "::") else host
        self.name = f"http://{shown}:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True, name="live-mjpeg").start()

    def show(self, frame: LiveFrame, now: float) -> None:
        with self._changed:
            self._frame, self._number = frame, self._number + 1
            self._changed.notify_all()

    def close(self, *, failed: bool = False) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def following(self, number: int) -> tuple[int, bool]:
        """Waits briefly for a picture after another one. Returns its number, and whether there will be more."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._closed, REPEAT)
            return self._number, not self._closed

    def picture(self, kind: str) -> bytes:
        """The newest picture as a file; encoded once for all viewers."""
        with self._encoding[kind]:
            with self._changed:
                self._changed.wait_for(lambda: self._frame is not None or self._closed, PATIENCE)
                frame, number = self._frame, self._number
            if frame is None:
                return b""
            if (known := self._encoded.get(kind)) is not None and known[0] == number:
                return known[1]
            file = io.BytesIO()
            Image.fromarray(frame.image if kind == "jpg" else frame.cutout).save(file, **FORMATS[kind][1])
            self._encoded[kind] = number, file.getvalue()
            return file.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pictures: Mjpeg

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves a connection on its own thread, unless there are too many."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Viewers may disconnect at any moment, and send anything before: that is not an error here."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = PATIENCE

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        pictures = self.server.pictures
        # DNS rebinding: a page from elsewhere could point its own name at this machine, and then read the pictures.
        if pictures.local and urlsplit(f"//{self.headers.get('Host', '')}").hostname not in OWN:
            return self.send_error(HTTPStatus.FORBIDDEN)
        path = self.path.partition("?")[0]
        if path in pictures.pages:
            return self._send("text/html; charset=utf-8", pictures.pages[path].encode())
        name, _, kind = path.rpartition(".")
        if kind not in FORMATS or name not in ("/stream", "/picture"):
            return self.send_error(HTTPStatus.NOT_FOUND)
        if name == "/picture":
            return self._send(FORMATS[kind][0], pictures.picture(kind))
        if not pictures.places.acquire(blocking=False):
            return self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")
        try:
            self._stream(kind)
        finally:
            pictures.places.release()

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(f"--{BOUNDARY}\r\n".encode())
        number, going = 0, True
        while going:
            content = self.server.pictures.picture(kind)
            head = f"Content-Type: {FORMATS[kind][0]}\r\nContent-Length: {len(content)}\r\n\r\n"
            # The boundary after a picture marks it as complete at once.
            self.wfile.write(head.encode() + content + f"\r\n--{BOUNDARY}\r\n".encode())
            number, going = self.server.pictures.following(number)
