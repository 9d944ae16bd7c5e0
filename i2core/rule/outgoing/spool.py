"""The spool: batches on disk, while the link is down for longer than memory lasts, and across a restart.

It consists of segments: files of whole batches, each batch with a checksum. A segment ends before a batch that a crash
cut short. Nothing here is synced: after a crash of the system the replica is compared anyway.
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

from i2core.api import Line
from i2core.api.records import Buffer
from i2core.config.words import bilingual
from i2core.posix.durable import write_all
from i2core.wire.batch import EncodedBatch

SEGMENT_BYTES = 64 * 1024 * 1024
FREE_BYTES = 64 * 1024 * 1024
"""So much of the disk is left for other programs."""
_FIELDS = struct.Struct("<4sIQQq")
"""Magic, length, first seq, last seq, `since_ns`."""
_CHECKSUM_BYTES = 8
"""After the fields: xxh3-64 of them and of the content."""
_HEADER_BYTES = _FIELDS.size + _CHECKSUM_BYTES
_MAGIC = b"i2sp"
_SUFFIX = ".spool"


class Quota:
    """A limit in bytes that several users share."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def left(self) -> int:
        """Bytes that may still be used."""
        return max(0, self.limit - self.used)


@attrs.define
class Budget:
    """What records that wait may take, of memory and of disk."""

    memory: Quota = attrs.field(factory=lambda: Quota(0))
    disk: Quota = attrs.field(factory=lambda: Quota(0))

    def limit(self, *, memory: int, disk: int) -> None:
        """The limits are these from now on, in bytes."""
        self.memory.limit, self.disk.limit = memory, disk


class SpoolEntry(NamedTuple):
    """Where a batch is in the spool. `since_ns`: `time.monotonic_ns` of the oldest change in it."""

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
    """Open while batches are added to it; -1 afterwards, for there may be many."""
    size: int
    last_seq: int

    def read(self, size: int, offset: int) -> bytes:
        """`size` bytes from `offset` on."""
        if self.fd >= 0:
            return os.pread(self.fd, size, offset)
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Closes the file: no more batches are added to it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Spool:
    """The batches of one rule in `directory`. For one thread at a time."""

    def __init__(self, directory: Path, quota: Quota) -> None:
        self._directory = directory
        self._quota = quota
        self._segments: deque[_Segment] = deque()
        self.size = 0
        """Bytes on disk."""

    def has_room(self, size: int) -> bool:
        """True when `size` more bytes fit into the quota and on the disk."""
        return self.lack(size) is None

    def lack(self, size: int) -> Line | None:
        """Why `size` more bytes do not fit; None: they fit."""
        if self._quota.left < size:
            return Line(bilingual("disk_limit is used up", "disk_limit 已用尽"))
        place = os.fsdecode(self._directory.parent)
        try:
            disk = os.statvfs(self._directory)
        except OSError as error:
            why = error.strerror or str(error)
            return Line(bilingual(f"cache_dir {place}: {why}", f"cache_dir {place}：{why}"), obj=place)
        free = disk.f_bavail * disk.f_frsize
        if free >= size + FREE_BYTES:
            return None
        left = f"{free / 1e6:.0f} MB"
        return Line(
            bilingual(
                f"the disk of cache_dir {place} is full: only {left} of space are left, reserved for other programs",
                f"cache_dir {place} 所在磁盘空间不足：仅剩 {left}，须留给其他程序",
            ),
            obj=place,
        )

    def open(self) -> Iterator[SpoolEntry]:
        """Loads the batches that an earlier run left, in seq order.

        Raises:
            OSError: they cannot be read. Then all files are closed, and none counts in the quota.
        """
        try:
            yield from self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> Iterator[SpoolEntry]:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        known = {segment.path for segment in self._segments}
        for name in sorted(name for name in os.listdir(self._directory) if name.endswith(_SUFFIX)):
            path = self._directory / name
            if path in known:
                continue
            segment = _Segment(path, os.open(path, os.O_RDWR), 0, 0)
            try:
                found = list(_entries(segment))
                if found:
                    segment.size, segment.last_seq = found[-1].offset + found[-1].size, found[-1].last_seq
                    os.ftruncate(segment.fd, segment.size)
            except BaseException:
                segment.close()
                raise
            if not found:
                segment.close()
                os.unlink(path)
                continue
            self._end_segment()
            self._segments.append(segment)
            self._account(segment.size)
            yield from found

    def append(self, batch: EncodedBatch, since_ns: int) -> SpoolEntry:
        """Appends a batch. Its seqs are above all seqs in the spool, unless the spool is about to be closed.

        Raises:
            OSError: the disk is full, or fails; nothing was added.
        """
        header = _head(batch, since_ns)
        size = len(header) + len(batch.raw)
        segment = self._segments[-1] if self._segments else None
        # Seqs ascend within a segment: when it is loaded, it ends where they do not. Segments are loaded in the order
        # of their first seqs.
        if segment is None or segment.size + size > SEGMENT_BYTES or batch.first_seq <= segment.last_seq:
            path = self._directory / f"{batch.first_seq:020}{_SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            self._end_segment()
            segment = _Segment(path, fd, 0, 0)
            self._segments.append(segment)
        try:
            write_all(segment.fd, header, segment.size)
            write_all(segment.fd, batch.raw, segment.size + len(header))
        except OSError:
            os.ftruncate(segment.fd, segment.size)
            raise
        entry = SpoolEntry(batch.first_seq, batch.last_seq, since_ns, segment.path, segment.size, size)
        segment.size += size
        segment.last_seq = batch.last_seq
        self._account(size)
        return entry

    def read(self, entry: SpoolEntry) -> EncodedBatch:
        """Reads a batch.

        Raises:
            OSError: it cannot be read, or is damaged.
        """
        segment = next(each for each in self._segments if each.path == entry.segment)
        data = segment.read(entry.size, entry.offset)
        found = _parse(data)
        if found is None or found[0].first_seq != entry.first_seq:
            raise OSError(5, "the spool is damaged", os.fspath(entry.segment))
        return found[0]

    def durable(self, seq: int) -> None:
        """Records up to `seq` are durable: removes the segments that contain no others."""
        while self._segments and self._segments[0].last_seq <= seq:
            segment = self._segments.popleft()
            segment.close()
            os.unlink(segment.path)
            self._account(-segment.size)

    def clear(self) -> None:
        """Removes all batches."""
        self.durable((1 << 63) - 1)

    def close(self) -> None:
        """Closes the files; their content stays."""
        for segment in self._segments:
            segment.close()
            self._account(-segment.size)
        self._segments.clear()

    def _end_segment(self) -> None:
        """Before the next segment begins: closes the last one. It is opened again for each batch that is read from
        it."""
        if self._segments:
            self._segments[-1].close()

    def _account(self, size: int) -> None:
        self.size += size
        self._quota.used += size


def _head(batch: EncodedBatch, since_ns: int) -> bytes:
    fields = _FIELDS.pack(_MAGIC, len(batch.raw), batch.first_seq, batch.last_seq, since_ns)
    return fields + _checksum(fields, batch.raw)


def _checksum(fields: bytes, raw: Buffer) -> bytes:
    checksum = xxhash.xxh3_64(fields)
    checksum.update(raw)
    return checksum.digest()


def _parse(data: bytes) -> tuple[EncodedBatch, int] | None:
    """A batch and its `since_ns`; None when the data are not one whole batch."""
    if len(data) < _HEADER_BYTES:
        return None
    magic, length, first, last, since_ns = _FIELDS.unpack_from(data)
    batch = EncodedBatch(first, last, data[_HEADER_BYTES:])
    if magic != _MAGIC or len(batch.raw) != length or first > last:
        return None
    sound = _checksum(data[: _FIELDS.size], batch.raw) == data[_FIELDS.size : _HEADER_BYTES]
    return (batch, since_ns) if sound else None


def _entries(segment: _Segment) -> Iterator[SpoolEntry]:
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
        yield SpoolEntry(batch.first_seq, batch.last_seq, since_ns, segment.path, offset, size)
        offset, before = offset + size, batch.last_seq
