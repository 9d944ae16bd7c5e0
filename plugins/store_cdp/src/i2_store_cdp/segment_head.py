"""The beginning of a segment's file: whose it is, and where in the chain. It never changes.

In a merged segment it names what is replaced, and the segment's own frames are chained from its hash: so the hash of
the last one, which the live chain seals, proves all of it.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import NamedTuple, Self

from i2_store_cdp.manifest import VERSION, Entry
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import HASH_BYTES

_MAGIC = b"i2cdpseg"
_END = f"QQQQqq{HASH_BYTES}s"
_HEAD = struct.Struct(f"<8sHHIQ{_END}{_END}")
_FIELDS = len(ChainEnd._fields)
_CHECK_BYTES = 16
SEGMENT_HEAD_BYTES = _HEAD.size + _CHECK_BYTES


class SegmentHead(NamedTuple):
    """What a segment's file begins with."""

    number: int
    merged: bool
    begin: ChainEnd
    end: ChainEnd
    """Of a merged segment: at the end of what it replaces; else the same as `begin`."""

    @classmethod
    def of(cls, entry: Entry) -> Self:
        """What the file of this entry must begin with."""
        merged = entry.seal is not None
        return cls(entry.number, merged, entry.begin, entry.end if merged else entry.begin)

    def encode(self) -> bytes:
        """The bytes."""
        part = _HEAD.pack(_MAGIC, VERSION, self.merged, 0, self.number, *self.begin, *self.end)
        return part + _check(part)

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """The head again; None when these bytes are none."""
        part = data[: _HEAD.size]
        if len(data) < SEGMENT_HEAD_BYTES or data[_HEAD.size : SEGMENT_HEAD_BYTES] != _check(part):
            return None
        magic, version, merged, _, number, *fields = _HEAD.unpack(part)
        if magic != _MAGIC or version != VERSION:
            return None
        return cls(number, bool(merged), ChainEnd(*fields[:_FIELDS]), ChainEnd(*fields[_FIELDS:]))

    def first_link(self) -> ChainEnd:
        """What the segment's first frame follows."""
        if not self.merged:
            return self.begin
        return ChainEnd(journal=self.begin.journal, hash=blake2b(self.encode(), digest_size=HASH_BYTES).digest())


def _check(part: bytes) -> bytes:
    return blake2b(part, digest_size=_CHECK_BYTES).digest()
