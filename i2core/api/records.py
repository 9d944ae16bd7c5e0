"""Records: the ordered steps that change a tree, and their encoding.

A `Record` is what crosses from the work node to the backup node. Records are idempotent: applied twice, in order,
they leave the same tree (see `Sink.apply`). A batch is a list of records with consecutive seqs; its encoding
(`encode_records`) is what codecs compress and encrypt. docs/wire-format.md is the reference of the layout.

Whole files of at most one record's size travel as `CREATE` with their content. Larger ones are staged: `STAGE`,
any number of staged `WRITE`, then `PUBLISH`, which gives the file its name in one rename. A staged write whose
staging file is gone belongs to a file that was already published, and goes into that file: this keeps a repeated
tail of the stream harmless.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import xxhash

from i2core.api.errors import Code, ProtocolError

BLOCK_BYTES = 64 * 1024
"""Block of the content hashes (xxh3-128, 16 bytes a block; the last block of a file may be short)."""

RESERVED_PREFIX = b".i2-"
"""Names with this prefix belong to us (staging, parking): never listed, captured or replicated."""

Buffer = bytes | bytearray | memoryview
Xattrs = tuple[tuple[bytes, bytes], ...]
"""Sorted (name, value) pairs; POSIX ACLs are the pairs ``system.posix_acl_access`` and ``_default``."""


class Kind(enum.IntEnum):
    """A record's kind; the value is its code on the wire."""

    CREATE = 1
    """A regular file with its whole content: created, or atomically put in the place of what was there."""
    STAGE = 2
    """Begin a staged file. With `size` 1 a staging file that an earlier run left is gone on with."""
    WRITE = 3
    """`data` at `offset`; in place, or into the staging file when `staged`."""
    PUNCH = 4
    """The range [offset, offset + size) reads as zeros and occupies no space."""
    TRUNCATE = 5
    """The file's length becomes `size` bytes; a grown part is a hole."""
    PUBLISH = 6
    """The staging file, cut to `size`, gets `meta` and atomically takes the name `path`."""
    MKDIR = 7
    SYMLINK = 8
    """`other` is the link's text."""
    MKNOD = 9
    """FIFO, socket, character or block device: the type is in `meta.mode`, the device number in `size`."""
    LINK = 10
    """`path` becomes one more name of the file that is at `other`."""
    RENAME = 11
    """The object at `path` gets the name `other`, replacing what is there."""
    REMOVE = 12
    """The object at `path`, with all beneath it, is gone. When `staged`: its staging file alone."""
    SETATTR = 13
    """`meta` is set on the object at `path`."""
    BARRIER = 14
    """All records before this one belong to one consistent moment."""


class Meta(NamedTuple):
    """Metadata of an object. `mode` holds type and permissions (st_mode); times in nanoseconds since the epoch."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Xattrs | None = None
    """The exact set of extended attributes; None leaves the present ones alone."""


class Record(NamedTuple):
    """One step. Fields that a kind does not use stay at their defaults."""

    kind: Kind
    root: int
    path: bytes
    other: bytes = b""
    meta: Meta | None = None
    offset: int = 0
    size: int = 0
    data: Buffer = b""
    staged: bool = False


class Batch(NamedTuple):
    """Records with the seqs ``first_seq, first_seq + 1, …``. Seqs start at 1."""

    first_seq: int
    records: Sequence[Record]

    @property
    def last_seq(self) -> int:
        """Seq of the last record; ``first_seq - 1`` for an empty batch."""
        return self.first_seq + len(self.records) - 1


class Entry(NamedTuple):
    """One directory entry as `lstat` tells it, on either node. Times in ns, sizes in bytes."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    nlink: int = 1
    ino: int = 0
    dev: int = 0
    rdev: int = 0
    ctime_ns: int = 0
    blocks: int = 0
    """Allocated 512-byte units: fewer than the size needs means that the file has holes."""
    target: bytes = b""
    """A symlink's text."""
    xattrs: int = 0
    """`xattr_digest` of the extended attributes."""


def xattr_digest(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """A 64-bit digest of a set of extended attributes; 0 for the empty set."""
    packed = b"".join(struct.pack("<HI", len(n), len(v)) + n + v for n, v in sorted(pairs))
    return xxhash.xxh3_64_intdigest(packed) if packed else 0


# ------------------------------------------------------------------------------------------------ encoding
# record  = head, [meta], path, other, [xattrs], data
# head    = kind u8, flags u8, root u16, path_len u16, other_len u16, xattr_len u32, data_len u32, offset u64, size u64
# xattrs  = (name_len u16, value_len u32, name, value)*

_HEAD = struct.Struct("<BBHHHIIQQ")
_META = struct.Struct("<IIIq")
RECORDS_LIMIT, PAIRS_LIMIT = 10_000, 100_000
"""Most records, and extended attributes of them all, in one payload: ten times what fills one. If a hostile peer so
wants, each takes thirty times the memory that it takes on the wire."""
_PAIR = struct.Struct("<HI")
_COUNT = struct.Struct("<I")
_STAGED, _HAS_META, _HAS_XATTRS = 1, 2, 4
_KINDS = {int(k): k for k in Kind}
_ALL_FLAGS = _STAGED | _HAS_META | _HAS_XATTRS
_TWO_PATHS = (Kind.LINK, Kind.RENAME)


def encoded_overhead(path: bytes) -> int:
    """Bytes that a record of `path` takes on the wire beside its data; for filling batches."""
    return _HEAD.size + _META.size + len(path)


def _pack_xattrs(xattrs: Xattrs) -> bytes:
    return b"".join([_PAIR.pack(len(n), len(v)) + n + v for n, v in xattrs]) if xattrs else b""


def _unpack_xattrs(raw: bytes, most: int) -> Xattrs:
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


def encode_records(records: Sequence[Record]) -> bytes:
    """The records as one payload: a count, then each record. The inverse of `decode_records`."""
    parts: list[Buffer] = [_COUNT.pack(len(records))]
    add = parts.append
    for kind, root, path, other, meta, offset, size, data, staged in records:
        flags = _STAGED if staged else 0
        xattrs = b""
        if meta is not None:
            flags |= _HAS_META
            if meta.xattrs is not None:
                flags |= _HAS_XATTRS
                xattrs = _pack_xattrs(meta.xattrs)
        add(_HEAD.pack(kind, flags, root, len(path), len(other), len(xattrs), len(data), offset, size))
        if meta is not None:
            add(_META.pack(meta.mode, meta.uid, meta.gid, meta.mtime_ns))
        add(path)
        if other:
            add(other)
        if xattrs:
            add(xattrs)
        add(data)
    return b"".join(parts)


def safe_path(path: bytes) -> bool:
    """True for a relative path without empty, ``.`` or ``..`` components and without NUL; ``b""`` is the root."""
    if not path:
        return True
    framed = b"/" + path + b"/"
    return b"//" not in framed and b"/./" not in framed and b"/../" not in framed and b"\0" not in framed


def safe_name(name: bytes) -> bool:
    """True for one component of a safe path."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def decode_records(payload: Buffer) -> list[Record]:
    """Records of one payload; `data` are views into it, not copies.

    Raises:
        ProtocolError: the payload is not exactly one well-formed sequence of records with safe paths.
    """
    # One bytes object for the short fields, one view of it for content: slicing the one copies, the other does not.
    raw = payload if isinstance(payload, bytes) else bytes(payload)
    view = memoryview(raw)
    total = len(raw)
    if total < _COUNT.size:
        raise ProtocolError("batch cut short")
    (count,) = _COUNT.unpack_from(raw, 0)
    at = _COUNT.size
    if count * _HEAD.size > total:
        raise ProtocolError("batch claims more records than it can hold")
    if count > RECORDS_LIMIT:
        raise ProtocolError(f"a batch of {count} records exceeds the limit of {RECORDS_LIMIT}")
    pairs_left = PAIRS_LIMIT
    records: list[Record] = []
    add, make = records.append, tuple.__new__
    head_size, meta_size = _HEAD.size, _META.size
    unpack_head, unpack_meta = _HEAD.unpack_from, _META.unpack_from
    for _ in range(count):
        if at + head_size > total:
            raise ProtocolError("record cut short")
        code, flags, root, path_len, other_len, xattr_len, data_len, offset, size = unpack_head(raw, at)
        at += head_size
        kind = _KINDS.get(code)
        if kind is None or flags & ~_ALL_FLAGS:
            raise ProtocolError(f"unknown record kind {code} or flags {flags:#x}")
        if offset >= 1 << 63 or size >= 1 << 63:
            raise ProtocolError("offset or size out of range", code=Code.WRITE_FRAGMENT)
        has_meta = flags & _HAS_META
        end = at + (meta_size if has_meta else 0) + path_len + other_len + xattr_len + data_len
        if end > total:
            raise ProtocolError("record cut short", code=Code.WRITE_FRAGMENT)
        mode = uid = gid = mtime_ns = 0
        if has_meta:
            mode, uid, gid, mtime_ns = unpack_meta(raw, at)
            at += meta_size
        path = raw[at : at + path_len]
        at += path_len
        other = b""
        if other_len:
            other = raw[at : at + other_len]
            at += other_len
        xattrs: Xattrs | None = None
        if flags & _HAS_XATTRS:
            xattrs = _unpack_xattrs(raw[at : at + xattr_len], pairs_left) if xattr_len else ()
            pairs_left -= len(xattrs)
        elif xattr_len:
            raise ProtocolError("extended attributes without their flag")
        meta = make(Meta, (mode, uid, gid, mtime_ns, xattrs)) if has_meta else None
        data = view[end - data_len : end] if data_len else b""
        at = end
        if not safe_path(path) or (other and code in _TWO_PATHS and not safe_path(other)):
            raise ProtocolError(f"unsafe path in a {kind.name} record")
        # tuple.__new__ with all fields: a third of the time of calling the class, and there is one for each file.
        add(make(Record, (kind, root, path, other, meta, offset, size, data, bool(flags & _STAGED))))
    if at != total:
        raise ProtocolError("bytes left over behind the last record")
    return records
