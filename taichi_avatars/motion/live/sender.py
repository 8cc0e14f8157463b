"""Which of many senders is listened to: one at a time."""

from __future__ import annotations

import ipaddress
import time

SILENCE = 1.0  # seconds after which another sender may take over

Address = tuple[str, int]


class OneSender:
    """The first who sends something valid has the avatar until it falls silent. Not for several threads at once.

    On this machine programs are told apart by their port; elsewhere a machine may use several.

    Args:
        allowed: the only address that is listened to; None for any.
    """

    def __init__(self, allowed: str | None = None) -> None:
        self._allowed = allowed
        self._current: object = None
        self._heard = 0.0

    def admits(self, address: Address) -> bool:
        """Whether a packet from there is worth reading."""
        if self._allowed is not None and _plain(address[0]) != self._allowed:
            return False
        return self._current in (None, _who(address)) or time.monotonic() - self._heard > SILENCE

    def heard(self, address: Address) -> bool:
        """Notes a valid packet; returns whether its sender is another than the one before."""
        who = _who(address)
        new, self._current, self._heard = who != self._current, who, time.monotonic()
        return new


def _who(address: Address) -> object:
    host = _plain(address[0])
    return (host, address[1]) if host.startswith("127.") or host == "::1" else host


def _plain(host: str) -> str:
    """An IPv4 address as such, where a socket for both kinds has it as IPv6."""
    try:
        mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
    except ValueError:
        return host
    return str(mapped) if mapped is not None else host
