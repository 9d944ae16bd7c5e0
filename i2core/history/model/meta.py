"""Attributes of an object as bytes: how rows keep them."""

from __future__ import annotations

import struct

from i2core.api.records import Meta

# mode u32, uid u32, gid u32, seconds i64, nanoseconds u32, flags i64, then for each attribute: length of the name u16,
# length of the value u32, name, value. A time may have more than 64 bits in nanoseconds (`records.EARLIEST_NS`), so it
# is kept as two numbers.
_HEAD = struct.Struct("<IIIqIq")
_PAIR = struct.Struct("<HI")
_SECOND = 1_000_000_000


def pack(meta: Meta) -> bytes:
    """The attributes as bytes; equal attributes give equal bytes."""
    seconds, rest = divmod(meta.mtime_ns, _SECOND)
    head = _HEAD.pack(meta.mode, meta.uid, meta.gid, seconds, rest, meta.flags)
    return head + b"".join(_PAIR.pack(len(name), len(value)) + name + value for name, value in meta.xattrs or ())


def unpack(packed: bytes) -> Meta:
    """The attributes again.

    Raises:
        struct.error: these bytes are none.
    """
    mode, uid, gid, seconds, rest, flags = _HEAD.unpack_from(packed)
    at, pairs = _HEAD.size, []
    while at < len(packed):
        name, value = _PAIR.unpack_from(packed, at)
        at += _PAIR.size
        pairs.append((packed[at : at + name], packed[at + name : at + name + value]))
        at += name + value
    return Meta(mode, uid, gid, seconds * _SECOND + rest, tuple(pairs), flags)
