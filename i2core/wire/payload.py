"""What the payloads of listings and questions have in common: a reader that refuses what is malformed, and names.

A hostile peer may send anything. A payload is read from its first byte to its last, and nothing may be left over."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from i2core.api import ProtocolError
from i2core.api.records import Buffer, safe_name

NAMES_LIMIT = 65_536
"""Most names in one answer: twice the normal number."""
COUNT = struct.Struct("<I")
"""The number of items that follow."""
_NAME = struct.Struct("<H")
"""The length of a name, before the name."""


class PayloadReader:
    """Reads a payload; truncated or malformed data raises `ProtocolError`."""

    def __init__(self, payload: Buffer) -> None:
        self.raw = bytes(payload)
        self.at = 0

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        """The next fields."""
        end = self.at + layout.size
        if end > len(self.raw):
            raise ProtocolError("listing cut short")
        values = layout.unpack_from(self.raw, self.at)
        self.at = end
        return values

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.at + count
        if end > len(self.raw):
            raise ProtocolError("listing cut short")
        part = self.raw[self.at : end]
        self.at = end
        return part

    def names(self, count: int) -> list[bytes]:
        """The next `count` names, as `pack_names` makes them."""
        names = [self.take(self.unpack(_NAME)[0]) for _ in range(count)]
        # Each end joins the names to a directory of its own: a name with a slash could lead out of it.
        if not all(map(safe_name, names)):
            raise ProtocolError("unsafe name in a listing")
        return names

    def finish(self) -> None:
        """Refuses what is left over."""
        if self.at != len(self.raw):
            raise ProtocolError("bytes left over after a listing")


def pack_names(names: Sequence[bytes]) -> bytes:
    """The names, each after its length."""
    return b"".join([_NAME.pack(len(name)) + name for name in names])


def name_bytes(name: bytes) -> int:
    """Bytes that a name takes in `pack_names`."""
    return _NAME.size + len(name)
