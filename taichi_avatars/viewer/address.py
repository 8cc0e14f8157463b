"""The viewer's server and its address."""

from __future__ import annotations

import importlib.util
import io
import socket
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from taichi_avatars.errors import UserError

if TYPE_CHECKING:
    import asyncio

    import viser

HOST, PORT = "127.0.0.1", 8080
OWN = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::")


def check_address(host: str, port: int) -> str | None:
    """Checks that a viewer can listen; returns a warning if others could reach it.

    Raises:
        UserError: if viser is not installed, or this machine has no such address.
    """
    if importlib.util.find_spec("viser") is None:
        raise UserError("the viewer needs viser, which is not installed: pip install 'taichi-avatars[viewer]'")
    if not 0 <= port < 65536:
        raise UserError(f"port {port}: want 0 (any that is free) to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{host}: the viewer cannot listen there ({error}); use {HOST}, or an address of this machine"
        ) from None
    if host in OWN:
        return None
    return f"anybody who reaches {host} can see this avatar and use the controls: there is no password and no encryption"


def listen(host: str, port: int, label: str) -> viser.ViserServer:
    """Starts the server; on the next free port if this one is taken."""
    import viser

    _push_on_the_loop()
    with redirect_stdout(io.StringIO()):  # viser prints a table of addresses
        server = viser.ViserServer(host=host, port=port, label=label, verbose=False)
    loop = server.get_event_loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, _refused)
    return server


@cache
def _push_on_the_loop() -> None:
    """Makes viser queue all messages on the thread of its event loop.

    By default it uses the caller's, and sets an asyncio.Event that the loop may be waiting for. That is not thread-safe: at
    some fifty pictures a second it raised, or left a browser waiting forever, within minutes.
    """
    from viser.infra._async_message_buffer import AsyncMessageBuffer

    push = AsyncMessageBuffer.push

    def push_here(self: AsyncMessageBuffer, message: Any) -> None:
        if not self.done:  # the browser is still connected
            push(self, message)

    def push_there(self: AsyncMessageBuffer, message: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has stopped, and nobody receives the message
            self.event_loop.call_soon_threadsafe(push_here, self, message)

    AsyncMessageBuffer.push = push_there


def _refused(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Browser messages that viser could not handle become one line, instead of asyncio's traceback."""
    error = context.get("exception")
    print(f"viewer: refused a browser's message ({type(error).__name__}: {error})", file=sys.stderr, flush=True)


def url(host: str, port: int) -> str:
    """The address for a browser on this machine."""
    name = "localhost" if host in (*OWN, *EVERYWHERE) else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"
