"""Open Sound Control 1.0, as far as face-tracking programs use it; a packet with anything else is rejected.

Not python-osc: a bundle whose element claims a negative size sends it (1.10.2) into an infinite loop, and an unknown type makes
it write to the log of the whole process.
"""

from __future__ import annotations

import struct

BUNDLE = b"#bundle\0"
MOST_NESTED, MOST_MESSAGES, MOST_ARGUMENTS = 4, 512, 32
_INT, _FLOAT = struct.Struct(">i"), struct.Struct(">f")
_CONSTANTS = {"T": True, "F": False, "N": None}

Message = tuple[str, list[object]]


class NoOsc(Exception):
    """The packet is not of this protocol."""


def messages(packet: bytes) -> list[Message]:
    """Addresses and arguments (int, float, str, bool, None) of all messages, in order.

    Raises:
        NoOsc: if anything in it is wrong.
    """
    out: list[Message] = []
    try:
        _collect(packet, 0, out)
    except (struct.error, UnicodeDecodeError, ValueError):
        raise NoOsc from None
    return out


def _collect(content: bytes, depth: int, out: list[Message]) -> None:
    if not content.startswith(BUNDLE):
        out.append(_message(content))
        if len(out) > MOST_MESSAGES:
            raise NoOsc
        return
    if depth == MOST_NESTED:
        raise NoOsc
    at = len(BUNDLE) + 8  # the time at which it should take effect is ignored
    while at < len(content):
        (size,) = _INT.unpack_from(content, at)
        at += _INT.size
        if not 0 < size <= len(content) - at:
            raise NoOsc
        _collect(content[at : at + size], depth + 1, out)
        at += size


def _message(content: bytes) -> Message:
    address, at = _string(content, 0)
    if not address.startswith("/"):
        raise NoOsc
    if at == len(content):  # old programs omit the types if there are no arguments
        return address, []
    types, at = _string(content, at)
    if not types.startswith(",") or len(types) > MOST_ARGUMENTS + 1:
        raise NoOsc
    arguments: list[object] = []
    for kind in types[1:]:
        if kind == "s":
            value, at = _string(content, at)
        elif kind in "if":
            (value,) = (_INT if kind == "i" else _FLOAT).unpack_from(content, at)
            at += 4
        elif kind in _CONSTANTS:
            value = _CONSTANTS[kind]
        else:
            raise NoOsc
        arguments.append(value)
    return address, arguments


def _string(content: bytes, at: int) -> tuple[str, int]:
    """A zero-terminated string, and the offset of the next item, a multiple of four bytes."""
    end = content.index(0, at)
    return content[at:end].decode("utf-8"), end + 4 - end % 4
