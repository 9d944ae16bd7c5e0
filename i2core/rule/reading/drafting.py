"""From an object on disk to the records that make it on the replica. All calls block; for worker threads."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from i2core.api import BLOCK_BYTES, Entry, Kind, Meta, Place, Record, Xattrs, xattr_digest
from i2core.api.entries import entry_of, xattrs_at, xattrs_of_fd
from i2core.pipeline.blocks import PIECE_BYTES, WHOLE_BYTES, Scan, digests, extents, read_range, scan

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Root may read without touching atime; others may only do so for their own files, and would get EPERM.
_NOATIME = os.O_NOATIME if os.geteuid() == 0 else 0


class Large(NamedTuple):
    """A file that is too large for one go. `whole`: there is no base on the replica that could be patched."""

    place: Place
    entry: Entry
    whole: bool
    since_ns: int = 0
    """`time.monotonic_ns` at which it was first named."""
    walked: bool = False
    """It was found by looking at all that is there; nobody told that it had changed."""


class Drafted(NamedTuple):
    """Records for one object, what it was when they were made, and its block digests when it has several blocks."""

    records: list[Record]
    entry: Entry
    digests: bytes = b""


def open_file(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """A regular file in an open directory, for reading, and what it is; never follows, never blocks on a FIFO.

    Raises:
        OSError: it cannot be opened.
        FileNotFoundError: there is no regular file of that name (any more).
    """
    fd = os.open(name, _READ | _NOATIME, dir_fd=dir_fd)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FileNotFoundError(2, "no longer a regular file", name)
    return fd, status


def is_sparse(fd: int, status: os.stat_result) -> bool:
    """True when the file has holes. Fewer blocks than the size needs may also come from compression."""
    return status.st_blocks * 512 < status.st_size and os.lseek(fd, 0, os.SEEK_HOLE) < status.st_size


def meta_of(entry: Entry, xattrs: Xattrs | None) -> Meta:
    """The metadata of an entry, for a record."""
    return Meta(entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs)


def setattr_record(dir_fd: int, place: Place, entry: Entry) -> Record:
    """SETATTR with all metadata of a name in an open directory (the directory itself when the name is empty)."""
    return Record(Kind.SETATTR, place.root, place.path, meta=meta_of(entry, xattrs_at(dir_fd, entry.name)))


def draft(dir_fd: int, place: Place, entry: Entry) -> Drafted | Large:
    """The records that make the object `entry`, found in the open directory, at `place`: created, or put in the place
    of whatever is there.

    Raises:
        OSError: it cannot be read, or is gone.
    """
    root, path = place
    kind = stat.S_IFMT(entry.mode)
    if kind == stat.S_IFREG:
        return _draft_file(dir_fd, place, entry)
    meta = meta_of(entry, xattrs_at(dir_fd, entry.name) if entry.xattrs else ())
    if kind == stat.S_IFDIR:
        return Drafted([Record(Kind.MKDIR, root, path, meta=meta)], entry)
    if kind == stat.S_IFLNK:
        return Drafted([Record(Kind.SYMLINK, root, path, other=entry.target, meta=meta)], entry)
    return Drafted([Record(Kind.MKNOD, root, path, meta=meta, size=entry.rdev)], entry)


def _draft_file(dir_fd: int, place: Place, entry: Entry) -> Drafted | Large:
    root, path = place
    fd, status = open_file(dir_fd, entry.name)
    try:
        # What is sent is what this descriptor shows; the listing may be older.
        size = status.st_size
        xattrs = xattrs_of_fd(fd)
        now = entry_of(entry.name, status, digest=xattr_digest(xattrs) if xattrs else 0)
        meta = meta_of(now, xattrs)
        if is_sparse(fd, status):
            if status.st_blocks * 512 > WHOLE_BYTES:
                return Large(place, now, whole=True)
        elif size > WHOLE_BYTES:
            return Large(place, now, whole=True)
        elif size <= PIECE_BYTES:
            data = os.read(fd, size) if size else b""
            if len(data) < size:
                data += os.read(fd, size - len(data))
            kept = b"".join(digests(memoryview(data))) if size > BLOCK_BYTES else b""
            return Drafted([Record(Kind.CREATE, root, path, meta=meta, data=data)], now, kept)
        records = [Record(Kind.STAGE, root, path)]
        for extent in extents(fd, 0, size):
            if extent.data:
                for at in range(extent.start, extent.end, PIECE_BYTES):
                    piece = read_range(fd, at, min(PIECE_BYTES, extent.end - at))
                    records.append(Record(Kind.WRITE, root, path, offset=at, data=piece, staged=True))
        records.append(Record(Kind.PUBLISH, root, path, meta=meta, size=size))
        return Drafted(records, now)
    finally:
        os.close(fd)


def draft_patch(dir_fd: int, place: Place, entry: Entry, base: bytes, *, always: bool) -> Drafted | Large:
    """Records for what of a file of a few blocks differs from the digests `base`; `always` for its attributes, too.

    Raises:
        OSError: it cannot be read, or is gone.
    """
    root, path = place
    file, status = open_file(dir_fd, entry.name)
    try:
        if (status.st_dev, status.st_ino) != (entry.dev, entry.ino):
            # Another file by now: patched in place it would show under all names of the one that was listed.
            return draft(dir_fd, place, entry)
        if status.st_size > WHOLE_BYTES:  # it has grown since it was listed
            return Large(place, entry, whole=False)
        found = scan(file, 0, status.st_size, base)
        now = entry_of(entry.name, status, digest=entry.xattrs)
        records = piece_records(place, found, staged=False)
        if records or always:
            records.append(Record(Kind.TRUNCATE, root, path, size=status.st_size))
            meta = meta_of(now, xattrs_of_fd(file))
            records.append(Record(Kind.SETATTR, root, path, meta=meta))
        # Nothing to send: what is known to be equal is what was listed, should its attributes have changed since.
        return Drafted(records, now if records else entry, found.hashes if status.st_size > BLOCK_BYTES else b"")
    finally:
        os.close(file)


def piece_records(place: Place, found: Scan, *, staged: bool) -> list[Record]:
    """The records that bring the differing pieces of a scan to the replica."""
    root, path = place
    records = []
    for offset, length, data in found.pieces:
        if data is None:
            records.append(Record(Kind.PUNCH, root, path, offset=offset, size=length, staged=staged))
        else:
            records.append(Record(Kind.WRITE, root, path, offset=offset, data=data, staged=staged))
    return records


def content_bytes(records: list[Record]) -> int:
    """Bytes of content and of extended attributes that the records carry."""
    total = 0
    for record in records:
        total += len(record.data)
        if record.meta is not None and record.meta.xattrs:
            total += sum(len(name) + len(value) for name, value in record.meta.xattrs)
    return total
