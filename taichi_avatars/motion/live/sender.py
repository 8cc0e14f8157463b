"""Selects one of several senders: one at a time."""

from __future__ import annotations

import ipaddress
import time

SILENCE = 1.0  # seconds after which another sender may take over

Address = tuple[str, int]


class OneSender:
    """The first to send something valid controls the avatar until it falls silent. Not thread-safe.

    On this machine programs are distinguished by their port; a remote machine may use several.

    Args:
        allowed: the only address that may send; None for any.
    """

    def __init__(self, allowed: str | None = None) -> None:
        self._allowed = allowed
        self._current: object = None
        self._heard = 0.0

    def admits(self, address: Address) -> bool:
        """Whether a packet from this address should be read."""
        if self._allowed is not None and _plain(address[0]) != self._allowed:
            return False
        return self._current in (None, _who(address)) or time.monotonic() - self._heard > SILENCE

    def heard(self, address: Address) -> bool:
        """Records a valid packet; returns whether its sender differs from the previous one."""
        who = _who(address)
        new, self._current, self._heard = who != self._current, who, time.monotonic()
        return new


def _who(address: Address) -> object:
    host = _plain(address[0])
    return (host, address[1]) if host.startswith("127.") or host == "::1" else host


def _plain(host: str) -> str:
    """An IPv4 address as such, if a dual-stack socket reports it as IPv6."""
    try:
        mapped = getattr(ipaddress.ip_address(host), "ipv4_mapped", None)
    except ValueError:
        return host
    return str(mapped) if mapped is not None else host
