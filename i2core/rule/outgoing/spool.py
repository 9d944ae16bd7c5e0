"""The spool: batches on disk, for when the link is away longer than memory lasts, and across a restart.

Segments of whole batches, each batch with a checksum. A batch that a crash cut short ends its segment. Nothing here is
synced: after a crash of the system the replica is compared anyway.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import attrs
import xxhash

from i2core.api.records import Buffer
from i2core.wire.session import Sealed

SEGMENT_BYTES = 64 * 1024 * 1024
FREE_BYTES = 64 * 1024 * 1024
"""So much of the disk is left to others."""
_FIELDS = struct.Struct("<4sIQQq")
"""Magic, length, first seq, last seq, `since_ns`."""
_CHECKSUM_BYTES = 8
"""Behind the fields: xxh3-64 of them and of the content."""
_HEADER_BYTES = _FIELDS.size + _CHECKSUM_BYTES
_MAGIC = b"i2sp"
_SUFFIX = ".spool"


class Quota:
    """Bytes that several may use together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def left(self) -> int:
        """Bytes that may still be used."""
        return max(0, self.limit - self.used)


class Slip(NamedTuple):
    """Where a batch lies. `since_ns`: `time.monotonic_ns` of the oldest change in it."""

    first_seq: int
    last_seq: int
    since_ns: int
    segment: Path
    offset: int
    size: int


@attrs.define
class _Segment:
    path: Path
    fd: int
    size: int
    last_seq: int


class Spool:
    """The batches of one rule in `directory`. For one thread at a time."""

    def __init__(self, directory: Path, quota: Quota) -> None:
        self._directory = directory
        self._quota = quota
        self._segments: deque[_Segment] = deque()
        self.size = 0
        """Bytes on disk."""

    def has_room(self, size: int) -> bool:
        """True when so many bytes more fit into the quota and onto the disk."""
        if self._quota.left < size:
            return False
        try:
            disk = os.statvfs(self._directory)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= size + FREE_BYTES

    def open(self) -> Iterator[Slip]:
        """What an earlier run left, in seq order.

        Raises:
            OSError: it cannot be read.
        """
        os.makedirs(self._directory, 0o700, exist_ok=True)
        known = {segment.path for segment in self._segments}
        for name in sorted(name for name in os.listdir(self._directory) if name.endswith(_SUFFIX)):
            path = self._directory / name
            if path in known:
                continue
            segment = _Segment(path, os.open(path, os.O_RDWR), 0, 0)
            found = list(_slips(segment))
            if not found:
                os.close(segment.fd)
                os.unlink(path)
                continue
            segment.size, segment.last_seq = found[-1].offset + found[-1].size, found[-1].last_seq
            os.ftruncate(segment.fd, segment.size)
            self._segments.append(segment)
            self._account(segment.size)
            yield from found

    def append(self, batch: Sealed, since_ns: int) -> Slip:
        """Adds a batch; its seqs lie above all that is here, unless the spool is closed next.

        Raises:
            OSError: the disk is full, or fails; nothing was added.
        """
        header = _head(batch, since_ns)
        size = len(header) + len(batch.raw)
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.size + size > SEGMENT_BYTES or batch.first_seq <= segment.last_seq:
            path = self._directory / f"{batch.first_seq:020}{_SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            segment = _Segment(path, fd, 0, 0)
            self._segments.append(segment)
        try:
            _write(segment.fd, header, segment.size)
            _write(segment.fd, batch.raw, segment.size + len(header))
        except OSError:
            os.ftruncate(segment.fd, segment.size)
            raise
        slip = Slip(batch.first_seq, batch.last_seq, since_ns, segment.path, segment.size, size)
        segment.size += size
        segment.last_seq = batch.last_seq
        self._account(size)
        return slip

    def read(self, slip: Slip) -> Sealed:
        """The batch.

        Raises:
            OSError: it cannot be read, or is damaged.
        """
        segment = next(each for each in self._segments if each.path == slip.segment)
        data = os.pread(segment.fd, slip.size, slip.offset)
        found = _parse(data)
        if found is None or found[0].first_seq != slip.first_seq:
            raise OSError(5, "the spool is damaged", os.fspath(slip.segment))
        return found[0]

    def durable(self, seq: int) -> None:
        """Segments that hold nothing above `seq` go."""
        while self._segments and self._segments[0].last_seq <= seq:
            segment = self._segments.popleft()
            os.close(segment.fd)
            os.unlink(segment.path)
            self._account(-segment.size)

    def clear(self) -> None:
        """Everything goes."""
        self.durable((1 << 63) - 1)

    def close(self) -> None:
        """Lets the files go; what is in them stays."""
        for segment in self._segments:
            os.close(segment.fd)
            self._account(-segment.size)
        self._segments.clear()

    def _account(self, size: int) -> None:
        self.size += size
        self._quota.used += size


def _head(batch: Sealed, since_ns: int) -> bytes:
    fields = _FIELDS.pack(_MAGIC, len(batch.raw), batch.first_seq, batch.last_seq, since_ns)
    return fields + _checksum(fields, batch.raw)


def _checksum(fields: bytes, raw: Buffer) -> bytes:
    checksum = xxhash.xxh3_64(fields)
    checksum.update(raw)
    return checksum.digest()


def _parse(data: bytes) -> tuple[Sealed, int] | None:
    """A batch and its `since_ns`; None when the data are no whole batch."""
    if len(data) < _HEADER_BYTES:
        return None
    magic, length, first, last, since_ns = _FIELDS.unpack_from(data)
    batch = Sealed(first, last, data[_HEADER_BYTES:])
    if magic != _MAGIC or len(batch.raw) != length or first > last:
        return None
    sound = _checksum(data[: _FIELDS.size], batch.raw) == data[_FIELDS.size : _HEADER_BYTES]
    return (batch, since_ns) if sound else None


def _slips(segment: _Segment) -> Iterator[Slip]:
    offset, before = 0, 0
    while True:
        head = os.pread(segment.fd, _HEADER_BYTES, offset)
        if len(head) < _HEADER_BYTES:
            return
        size = _HEADER_BYTES + int(_FIELDS.unpack_from(head)[1])
        if size > os.fstat(segment.fd).st_size - offset:
            return
        found = _parse(os.pread(segment.fd, size, offset))
        if found is None or found[0].first_seq <= before:
            return
        batch, since_ns = found
        yield Slip(batch.first_seq, batch.last_seq, since_ns, segment.path, offset, size)
        offset, before = offset + size, batch.last_seq


def _write(fd: int, data: Buffer, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
