"""Sources by their names on the command line."""

from __future__ import annotations

import socket
from pathlib import Path

from taichi_avatars.errors import UserError
from taichi_avatars.motion.live import ifacialmocap, livelink, vmc, websocket
from taichi_avatars.motion.live.datagrams import Datagrams
from taichi_avatars.motion.live.source import Source
from taichi_avatars.motion.live.websocket import WebSocket

HOST = "127.0.0.1"
KINDS = "webcam[:N], a video file, livelink[:PORT], ifacialmocap:PHONE, vmc[:PORT], websocket[:PORT]"
PORTS = {"livelink": livelink.PORT, "vmc": vmc.PORT, "websocket": websocket.PORT}


def open_source(text: str, names: tuple[str, ...], *, host: str = HOST, sender: str | None = None) -> Source:
    """Opens a source; it yields nothing before its `start`.

    Args:
        text: as on the command line.
        names: of the weights of the avatar's head.
        host: to listen on.
        sender: the only address that is listened to, None for the first that sends.

    Raises:
        UserError: if there is no such source, or it cannot be opened.
    """
    kind, _, detail = text.partition(":")
    if kind == "webcam" or (kind not in (*PORTS, "ifacialmocap") and Path(text).is_file()):
        from taichi_avatars.motion.live.webcam import Webcam

        return Webcam(detail or "0") if kind == "webcam" else Webcam(file=Path(text))
    if kind == "ifacialmocap":
        return _phone(detail, host)
    if kind not in PORTS:
        raise UserError(f"{text}: is not a source of motion; want {KINDS}")
    port = _port(text, detail) if detail else PORTS[kind]
    if kind == "websocket":
        source: Source = WebSocket(host, port, names, sender)
    elif kind == "livelink":
        source = Datagrams("livelink", host, port, livelink.read, allowed=sender)
    else:
        source = Datagrams("vmc", host, port, vmc.Reader().read, allowed=sender)
    if host not in websocket.HERE:
        whom = f"{sender} alone" if sender else "whoever reaches it: name the one sender with --sender"
        source.warning = f"{kind}: listens at {host}, without a password, to {whom}"
    return source


def _phone(detail: str, host: str) -> Source:
    """A phone must be greeted, and answers the address that greeted it."""
    name, _, port_text = detail.partition(":")
    if not name:
        raise UserError("ifacialmocap: which phone? Its app shows an address: ifacialmocap:192.168.1.20")
    port = _port(f"ifacialmocap:{detail}", port_text) if port_text else ifacialmocap.PORT
    try:
        phone = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)[0][4]
        with socket.socket(socket.AF_INET6 if ":" in str(phone[0]) else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(phone)  # sends nothing; finds the address of this machine that routes there
            own = probe.getsockname()[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"ifacialmocap: {name} cannot be reached ({error}); its app shows the address to give") from None
    address = str(phone[0]), int(phone[1])
    local = 0 if address[0] == own else ifacialmocap.PORT  # both cannot use one port if the "phone" is this machine
    listen = own if host == HOST else host
    return Datagrams(
        f"ifacialmocap:{name}", listen, local, ifacialmocap.read, allowed=address[0],
        greeting=(ifacialmocap.GREETING, address),
    )  # fmt: skip


def _port(text: str, detail: str) -> int:
    if not detail.isascii() or not detail.isdigit() or not 0 <= int(detail) < 65536:
        raise UserError(f"{text}: want a port from 0 (any that is free) to 65535 after the last colon")
    return int(detail)
