"""Packets over UDP: listens, and survives malformed input."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from taichi_avatars.errors import UserError
from taichi_avatars.motion.live.face import Face
from taichi_avatars.motion.live.sender import Address, OneSender
from taichi_avatars.motion.live.source import Take, Traffic

LARGEST = 65536  # bytes of a packet
BUFFER = 1 << 20  # bytes that the system buffers while this thread waits
PATIENCE = 0.2  # seconds between checks for the end
GREET_EVERY = 2.0  # seconds
SHARE = 0.3  # fraction of one core that reading packets may use
STORED = 0.1  # seconds of that budget that may accumulate


class Datagrams:
    """A source whose packets each contain a face or a part of one.

    Args:
        name: for display.
        host, port: to listen on; port 0 for any free one.
        read: returns the face that a packet completes, None for none; must not raise.
        allowed: see `OneSender`.
        greeting: sent to an address until it answers.

    Raises:
        UserError: if it cannot listen there.
    """

    warning: str | None = None
    failure: str | None = None
    ended = False

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        read: Callable[[bytes], Face | None],
        *,
        allowed: str | None = None,
        greeting: tuple[bytes, Address] | None = None,
    ) -> None:
        self.traffic = Traffic()
        self._read, self._greeting = read, greeting
        self._senders = OneSender(allowed)
        self._socket = _bound(name, host, port)
        self.address: Address = self._socket.getsockname()[:2]
        self.name = f"{name} at {self.address[0]}:{self.address[1]}"
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, take: Take) -> None:
        self._thread = threading.Thread(target=self._listen, args=(take,), daemon=True, name="live-source")
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def _listen(self, take: Take) -> None:
        credit, before = STORED, time.monotonic()
        greeted = heard = -GREET_EVERY
        while not self._closed.is_set():
            if self._greeting is not None and before - max(greeted, heard) >= GREET_EVERY:
                greeted = before
                with suppress(OSError):  # the phone may not be reachable yet
                    self._socket.sendto(*self._greeting)
            try:
                packet, address = self._socket.recvfrom(LARGEST)
            except TimeoutError:
                before = time.monotonic()
                continue
            except OSError:  # the reply that nobody listens on the greeted port
                self._closed.wait(0.01)
                continue
            now = time.monotonic()
            credit = min(credit + SHARE * (now - before), STORED)
            before = now
            if not self._senders.admits(address):
                self.traffic.others += 1
            elif credit <= 0.0:
                self.traffic.skipped += 1
            elif (face := self._read(packet)) is None:
                self.traffic.refused += 1
                credit -= time.monotonic() - now
            else:
                heard = now
                new = self._senders.heard(address)
                self.traffic.faces += 1
                if new:
                    self.traffic.sender = f"{address[0]}:{address[1]}"
                take(face, now, new)
                credit -= time.monotonic() - now


def _bound(name: str, host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{name}: {host} is not an address to listen on ({error}); use 127.0.0.1 or one of this machine"
        ) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise UserError(
            f"{name}: cannot listen on {host} port {port} ({error.strerror or error}); end the program that does, or choose "
            "another port"
        ) from None
    listening.settimeout(PATIENCE)
    return listening
