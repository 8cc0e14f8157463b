"""Reads flatbuffers without their compiler: a table is an offset into the file, its fields are found by number."""

from __future__ import annotations

import struct


class Table:
    """One table of a flatbuffer. Fields have the numbers that they have in the schema, from 0."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.directory = position - struct.unpack_from("<i", data, position)[0]
        self.directory_size = struct.unpack_from("<H", data, self.directory)[0]

    @staticmethod
    def root(data: bytes) -> Table:
        return Table(data, struct.unpack_from("<I", data, 0)[0])

    def _field(self, field: int) -> int | None:
        entry = 4 + 2 * field
        offset = struct.unpack_from("<H", self.data, self.directory + entry)[0] if entry < self.directory_size else 0
        return self.position + offset if offset else None

    def _target(self, field: int) -> int | None:
        at = self._field(field)
        return None if at is None else at + struct.unpack_from("<I", self.data, at)[0]

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A scalar field; `form` is struct's letter."""
        at = self._field(field)
        return default if at is None else struct.unpack_from("<" + form, self.data, at)[0]

    def numbers(self, field: int, form: str) -> list[int]:
        """A vector of scalars."""
        at = self._target(field)
        if at is None:
            return []
        count = struct.unpack_from("<I", self.data, at)[0]
        return list(struct.unpack_from(f"<{count}{form}", self.data, at + 4))

    def bytes(self, field: int) -> bytes:
        """A vector of bytes, or a string."""
        at = self._target(field)
        if at is None:
            return b""
        return self.data[at + 4 : at + 4 + struct.unpack_from("<I", self.data, at)[0]]

    def table(self, field: int) -> Table | None:
        at = self._target(field)
        return None if at is None else Table(self.data, at)

    def tables(self, field: int) -> list[Table]:
        at = self._target(field)
        if at is None:
            return []
        count = struct.unpack_from("<I", self.data, at)[0]
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [Table(self.data, p + struct.unpack_from("<I", self.data, p)[0]) for p in places]
