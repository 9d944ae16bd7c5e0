"""Records as bytes: the payload of a batch before codecs compress and encrypt it. docs/wire-format.md is the
reference of the layout.

A hostile peer may send anything: a payload that is not exactly one well-formed sequence of records is refused, before
it uses more memory than its size on the wire times a known factor.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from i2core.api.errors import Code, ProtocolError
from i2core.api.inode_flags import EVERY_FLAG, UNREAD
from i2core.api.records import EARLIEST_NS, LATEST_NS, Buffer, Kind, Meta, Record, Xattrs, safe_path

# payload = count u32, [time u64], record *; the count's highest bit says that there is a time
# record  = head, [meta, [era], [iflags]], path, other, [xattrs], data
# head    = kind u8, flags u8, root u16, path_len u16, other_len u16, xattr_len u32, data_len u32, offset u64, size u64
# meta    = mode u32, uid u32, gid u32, mtime i64; era i32, for a time beyond 1677 to 2262 alone
# iflags  = u64: inode flags << 32 | project id
# xattrs  = (name_len u16, value_len u32, name, value)*

_HEAD = struct.Struct("<BBHHHIIQQ")
_HEAD_BYTES = _HEAD.size
_META = struct.Struct("<IIIq")
_ERA = struct.Struct("<i")
_IFLAGS = struct.Struct("<Q")
RECORDS_LIMIT, PAIRS_LIMIT = 10_000, 100_000
"""Most records, and extended attributes of them all, in one payload: ten times the normal number. A hostile peer
can make each use thirty times its size on the wire."""
ATTRIBUTES_BYTES = 4 * 1024 * 1024
"""Most bytes of extended attributes that one object may have: with two paths and a piece of content a record of it must
fit into a frame."""
_PAIR = struct.Struct("<HI")
_COUNT = struct.Struct("<I")
_TIME = struct.Struct("<Q")
TIME_BYTES = _TIME.size
_TIMED = 1 << 31
_STAGED, _HAS_META, _HAS_XATTRS, _HAS_ERA, _HAS_IFLAGS = 1, 2, 4, 8, 16
_KINDS = {int(k): k for k in Kind}
_ALL_FLAGS = _STAGED | _HAS_META | _HAS_XATTRS | _HAS_ERA | _HAS_IFLAGS
_TWO_PATHS = (Kind.LINK, Kind.RENAME)


def _fixed_bytes(flags: int) -> int:
    """Bytes of a record before its path; 0 for flags that no record has."""
    parts = ((_HAS_META, _META), (_HAS_ERA, _ERA), (_HAS_IFLAGS, _IFLAGS))
    if flags & ~_ALL_FLAGS or (flags & (_HAS_ERA | _HAS_IFLAGS) and not flags & _HAS_META):
        return 0
    return _HEAD_BYTES + sum(part.size for flag, part in parts if flags & flag)


_FIXED_BYTES = tuple(map(_fixed_bytes, range(256)))
"""By flags."""


def encoded_bytes(record: Record) -> int:
    """Bytes that the record takes within the payload of `encode_records`."""
    _, _, path, other, meta, _, _, data, _, _ = record
    size = _HEAD_BYTES + len(path) + len(other) + len(data)
    if meta is not None:
        size += _META.size
        if not EARLIEST_NS <= meta.mtime_ns <= LATEST_NS:
            size += _ERA.size
        if meta.flags != UNREAD:
            size += _IFLAGS.size
        if meta.xattrs:
            size += sum([_PAIR.size + len(name) + len(value) for name, value in meta.xattrs])
    return size


def _pack_xattrs(xattrs: Xattrs) -> bytes:
    return b"".join([_PAIR.pack(len(n), len(v)) + n + v for n, v in xattrs]) if xattrs else b""


def _unpack_xattrs(raw: bytes, flags: int, most: int) -> Xattrs:
    if not flags & _HAS_XATTRS:
        raise ProtocolError("extended attributes without their flag")
    pairs: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(raw):
        if len(pairs) == most:
            raise ProtocolError(f"a batch of more than {PAIRS_LIMIT} extended attributes")
        if at + _PAIR.size > len(raw):
            raise ProtocolError("extended attributes cut short")
        name_len, value_len = _PAIR.unpack_from(raw, at)
        at += _PAIR.size
        end = at + name_len + value_len
        if end > len(raw) or not name_len:
            raise ProtocolError("extended attributes cut short")
        pairs.append((raw[at : at + name_len], raw[at + name_len : end]))
        at = end
    return tuple(pairs)


def encode_records(records: Sequence[Record], time_ns: int = 0) -> bytes:
    """The records as one payload: a count, then each record. The inverse of `decode_records`. `time_ns`: the time of
    each of them, whatever they have themselves; 0: none."""
    parts: list[Buffer] = [_pack_top(len(records), time_ns)]
    add = parts.append
    mtime_ns, earliest, latest = 0, EARLIEST_NS, LATEST_NS
    for kind, root, path, other, meta, offset, size, data, staged, _ in records:
        flags = _STAGED if staged else 0
        xattrs = b""
        if meta is not None:
            flags |= _HAS_META
            mtime_ns = meta.mtime_ns
            if not earliest <= mtime_ns <= latest:
                flags |= _HAS_ERA
            if meta.flags != UNREAD:
                flags |= _HAS_IFLAGS
            if meta.xattrs is not None:
                flags |= _HAS_XATTRS
                xattrs = _pack_xattrs(meta.xattrs)
        add(_HEAD.pack(kind, flags, root, len(path), len(other), len(xattrs), len(data), offset, size))
        if meta is not None:
            if flags & _HAS_ERA:
                era, mtime_ns = split_time(mtime_ns)
                add(_META.pack(meta.mode, meta.uid, meta.gid, mtime_ns) + _ERA.pack(era))
            else:
                add(_META.pack(meta.mode, meta.uid, meta.gid, mtime_ns))
            if flags & _HAS_IFLAGS:
                add(_IFLAGS.pack(meta.flags))
        add(path)
        if other:
            add(other)
        if xattrs:
            add(xattrs)
        add(data)
    return b"".join(parts)


def decode_records(payload: Buffer) -> list[Record]:
    """Records of one payload; `data` are views into it, not copies.

    Raises:
        ProtocolError: the payload is not exactly one well-formed sequence of records with safe paths.
    """
    # Short fields are sliced from a bytes object, which copies; content is sliced from a view, which does not.
    raw = payload if isinstance(payload, bytes) else bytes(payload)
    view, total, pairs_left = memoryview(raw), len(raw), PAIRS_LIMIT
    records: list[Record] = []
    add, make, unpack_head = records.append, tuple.__new__, _HEAD.unpack_from
    count, time_ns, at = _unpack_top(raw)
    for _ in range(count):
        if at + _HEAD_BYTES > total:
            raise ProtocolError("record cut short")
        code, flags, root, path_len, other_len, xattr_len, data_len, offset, size = unpack_head(raw, at)
        kind, fixed = _KINDS.get(code), _FIXED_BYTES[flags]
        path_at = at + fixed
        other_at = path_at + path_len
        xattrs_at = other_at + other_len
        data_at = xattrs_at + xattr_len
        end = data_at + data_len
        if kind is None or not fixed or offset >= 1 << 63 or size >= 1 << 63 or end > total:
            raise _refused(code, flags, offset, size)
        path, other = raw[path_at:other_at], raw[other_at:xattrs_at] if other_len else b""
        if not safe_path(path) or (other and code in _TWO_PATHS and not safe_path(other)):
            raise ProtocolError(f"unsafe path in a {kind.name} record")
        xattrs: Xattrs | None = () if flags & _HAS_XATTRS else None
        if xattr_len:
            xattrs = _unpack_xattrs(raw[xattrs_at:data_at], flags, pairs_left)
            pairs_left -= len(xattrs)
        meta = _unpack_meta(raw, at + _HEAD_BYTES, flags, xattrs) if flags & _HAS_META else None
        data = view[data_at:end] if data_len else b""
        # tuple.__new__ with all fields takes a third of the time of calling the class, and there is one for each file.
        add(make(Record, (kind, root, path, other, meta, offset, size, data, bool(flags & _STAGED), time_ns)))
        at = end
    if at != total:
        raise ProtocolError("bytes left over after the last record")
    return records


def _pack_top(count: int, time_ns: int) -> bytes:
    return _COUNT.pack(count | _TIMED) + _TIME.pack(time_ns) if time_ns else _COUNT.pack(count)


def _unpack_top(raw: bytes) -> tuple[int, int, int]:
    """The number of records that the payload claims, their time, and where the first one begins."""
    if len(raw) < _COUNT.size:
        raise ProtocolError("batch cut short")
    (count,) = _COUNT.unpack_from(raw, 0)
    time_ns, at = 0, _COUNT.size
    if count & _TIMED:
        if len(raw) < _COUNT.size + TIME_BYTES:
            raise ProtocolError("batch cut short")
        (time_ns,) = _TIME.unpack_from(raw, at)
        if not 0 < time_ns < 1 << 63:
            raise ProtocolError("a time out of range")
        count, at = count & ~_TIMED, at + TIME_BYTES
    if count * _HEAD_BYTES > len(raw):
        raise ProtocolError("batch claims more records than it can hold")
    if count > RECORDS_LIMIT:
        raise ProtocolError(f"a batch of {count} records exceeds the limit of {RECORDS_LIMIT}")
    return count, time_ns, at


def _refused(code: int, flags: int, offset: int, size: int) -> ProtocolError:
    """Why a record with this head is refused."""
    if code not in _KINDS or flags & ~_ALL_FLAGS:
        return ProtocolError(f"unknown record kind {code} or flags {flags:#x}")
    if offset >= 1 << 63 or size >= 1 << 63:
        return ProtocolError("offset or size out of range", code=Code.WRITE_FRAGMENT)
    if not _FIXED_BYTES[flags]:
        return ProtocolError("a time's era, or inode flags, without metadata")
    return ProtocolError("record cut short", code=Code.WRITE_FRAGMENT)


def _unpack_meta(raw: bytes, at: int, flags: int, xattrs: Xattrs | None) -> Meta:
    mode, uid, gid, mtime_ns = _META.unpack_from(raw, at)
    iflags = UNREAD
    if flags & _HAS_ERA:
        mtime_ns = join_time(_ERA.unpack_from(raw, at + _META.size)[0], mtime_ns)
    if flags & _HAS_IFLAGS:
        (iflags,) = _IFLAGS.unpack_from(raw, at + _META.size + (_ERA.size if flags & _HAS_ERA else 0))
        if iflags & ~EVERY_FLAG:
            raise ProtocolError(f"inode flags that are not replicated: {iflags >> 32:#x}")
    return tuple.__new__(Meta, (mode, uid, gid, mtime_ns, xattrs, iflags))


def split_time(time_ns: int) -> tuple[int, int]:
    """(era, signed 64 bits) of a time in nanoseconds since the epoch; the inverse of `join_time`."""
    era, rest = divmod(time_ns - EARLIEST_NS, 1 << 64)
    return era, rest + EARLIEST_NS


def join_time(era: int, rest: int) -> int:
    """The time in nanoseconds since the epoch; the inverse of `split_time`."""
    return (era << 64) + rest
