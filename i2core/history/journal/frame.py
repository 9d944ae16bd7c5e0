"""The bytes of a frame: what a planned batch says, and back.

    payload = head · log (zstd) · rows and changes of the catalog (zstd) · chunks of old bytes (each zstd, up to 64 KiB)

The journal keeps payloads in order, durable and proved by hashes; it does not look into them. A row of old bytes names
its chunk by place and size, so that 4 KiB of the past cost one small read and not a frame.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import pyzstd

from i2core.api.present import Identity
from i2core.history.index.batches import Batch
from i2core.history.index.partition import Rows
from i2core.history.journal.columns import Damaged, Reader, pack
from i2core.history.model.rows import (
    HOLE,
    CatalogChange,
    DataWas,
    Home,
    Left,
    LogRecord,
    MetaWas,
    NameWas,
    Object,
    SizeWas,
    Touch,
)

CHUNK_BYTES = 64 * 1024
"""Old bytes in one chunk, unpacked."""
_FAST, _SMALL = 1, 3
"""Levels of zstd: for old bytes, which are many; for log and rows."""
_BODY_BYTES = 1 << 30
_HEAD = struct.Struct("<BqqqIIIII")
"""Version, first seq, time of the first change, time applied, records, changes, losses, bytes of log and of rows."""
_VERSION = 1
_LOG = "qqqqbbqqb"
_ROWS = (("names", NameWas, "qbqqq"), ("metas", MetaWas, "qqb"), ("sizes", SizeWas, "qqq"))
_DATA, _TOUCH, _CATALOG = "qqqqqqqqq", "qq", "qqqbqqqqqq"
_HOME, _LEFT, _OBJECT = range(3)


class Head(NamedTuple):
    """What a frame says of itself."""

    first_seq: int
    first_ns: int
    """Time of the first change; of a frame without records: of the plan's first one, or 0 if that has none either."""
    applied_ns: int
    records: int = 0
    changes: int = 0
    """Records that changed something."""
    losses: int = 0
    """Records that destroyed something."""


class Size(NamedTuple):
    """Bytes of a payload, up to the end of a part."""

    log: int = 0
    rows: int = 0
    """Old bytes begin there."""


class Frame(NamedTuple):
    """What a frame says."""

    head: Head
    log: Sequence[LogRecord]
    rows: Rows
    """The places of old bytes are absolute once the frame is placed; before, they are counted from the payload's
    beginning."""
    catalog: Sequence[tuple[int, CatalogChange]]
    """(seq of the record, change); seq 0: a change that no record makes (see `packing.packed`)."""
    size: Size

    @property
    def ends_plan(self) -> bool:
        """False: it has old bytes of a plan whose records are in a later frame."""
        return self.head.records > 0 or not len(self.rows)

    def batch(self, segment: int, offset: int) -> Batch | None:
        """How the index finds the frame, whose payload begins there; None: it has no records."""
        head = self.head
        if not head.records:
            return None
        last = head.first_seq + head.records - 1
        return Batch(head.first_seq, last, head.first_ns, head.changes, head.losses, segment, offset, self.size.log)


def assembled(frame: Frame, old: bytes) -> tuple[bytes, Size]:
    """The payload and its size. Places in `frame.rows` are counted from the beginning of `old`."""
    log = pyzstd.compress(pack([_log_row(record) for record in frame.log], _LOG), _SMALL)
    tables = [pack(getattr(frame.rows, name), kinds) for name, _, kinds in _ROWS]
    tables += [pack(frame.rows.data, _DATA), pack(frame.rows.touches, _TOUCH)]
    tables.append(pack([_change_row(seq, change) for seq, change in frame.catalog], _CATALOG))
    body = pyzstd.compress(b"".join(tables), _SMALL)
    start = _HEAD.pack(_VERSION, *frame.head, len(log), len(body))
    size = Size(len(start) + len(log), len(start) + len(log) + len(body))
    return b"".join([start, log, body, old]), size


def chunk(old: Sequence[bytes]) -> bytes:
    """Old bytes as one chunk."""
    packed: bytes = pyzstd.compress(b"".join(old), _FAST)
    return packed


def unpacked_chunk(packed: bytes) -> bytes:
    """The old bytes of a chunk.

    Raises:
        Damaged: these bytes are none.
    """
    return _unzipped(packed, CHUNK_BYTES)


def unpacked_log(payload: bytes, oid: int | None = None) -> list[LogRecord]:
    """The log alone, or those of its records that changed the object; `payload` may end after the log.

    Raises:
        Damaged: these bytes are none.
    """
    head, size = _head(payload)
    rows = Reader(_unzipped(payload[_HEAD.size : size.log], _BODY_BYTES)).rows(_LOG)
    records = []
    for seq, (time_ns, op, about, root, path, other, offset, length, also) in enumerate(rows, head.first_seq):
        if oid is None or about == oid or oid in _oids(also):
            where = (op, about, root, path, other, offset, length)
            records.append(LogRecord(seq, time_ns, head.applied_ns, *where, _oids(also)))
    return records


def head_of(payload: bytes) -> Head:
    """What the frame says of itself; `payload` may end after the log.

    Raises:
        Damaged: these bytes are none.
    """
    return _head(payload)[0]


def unpacked(payload: bytes, segment: int = 0, offset: int = 0) -> Frame:
    """All that a frame says; the payload lies at `offset` in the segment, and may end after its rows.

    Raises:
        Damaged: these bytes are none.
    """
    head, size = _head(payload)
    reader, rows = Reader(_unzipped(payload[size.log : size.rows], _BODY_BYTES)), Rows()
    for name, kind, kinds in _ROWS:
        setattr(rows, name, [kind(*row) for row in reader.rows(kinds)])
    rows.data = [DataWas(*row) for row in reader.rows(_DATA)]
    rows.touches = [Touch(*row) for row in reader.rows(_TOUCH)]
    catalog = [_change(*row) for row in reader.rows(_CATALOG)]
    return Frame(head, unpacked_log(payload), placed(rows, segment, offset + size.rows), catalog, size)


def placed(rows: Rows, segment: int, offset: int) -> Rows:
    """The same rows, with their old bytes in that segment and shifted by `offset`."""
    rows.data = [
        row if row.segment == HOLE else row._replace(segment=segment, position=row.position + offset)
        for row in rows.data
    ]
    return rows


def _head(payload: bytes) -> tuple[Head, Size]:
    if len(payload) < _HEAD.size or payload[0] != _VERSION:
        raise Damaged("no frame of a history")
    _, *fields, log, body = _HEAD.unpack_from(payload)
    return Head(*fields), Size(_HEAD.size + log, _HEAD.size + log + body)


def _log_row(record: LogRecord) -> tuple[int, int, int, int, bytes, bytes, int, int, bytes]:
    also = struct.pack(f"<{len(record.also)}q", *record.also)
    _, time_ns, _, op, oid, root, path, other, offset, length, _ = record
    return time_ns, op, oid, root, path, other, offset, length, also


def _oids(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(packed) // 8}q", packed) if packed else ()


def _change_row(seq: int, change: CatalogChange) -> tuple[int, int, int, bytes, int, int, int, int, int, int]:
    if isinstance(change, Home):
        return seq, _HOME, change.parent, change.name, change.oid, change.since, 0, 0, 0, 0
    if isinstance(change, Left):
        return seq, _LEFT, change.parent, change.name, 0, 0, 0, 0, 0, 0
    identity = change.identity or Identity(-1, -1, -1)
    return seq, _OBJECT, 0, b"", change.oid, change.born, *identity, change.known


def _change(
    seq: int, kind: int, parent: int, name: bytes, oid: int, since: int, *rest: int
) -> tuple[int, CatalogChange]:
    if kind == _HOME:
        return seq, Home(parent, name, oid, since)
    if kind == _LEFT:
        return seq, Left(parent, name)
    device, inode, generation, known = rest
    return seq, Object(oid, since, None if inode < 0 else Identity(device, inode, generation), known)


def _unzipped(data: bytes, most: int) -> bytes:
    try:
        raw: bytes = pyzstd.decompress(data)
    except pyzstd.ZstdError as error:
        raise Damaged("not compressed data") from error
    if len(raw) > most:
        raise Damaged("too long")
    return raw
