"""Drafts the records that create an object of the source on the replica. All calls block; for worker threads."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from typing import NamedTuple

from i2core.api import BLOCK_BYTES, Entry, Kind, Meta, Place, Record, Xattrs, xattr_digest
from i2core.api.blockmap import BlockMap
from i2core.api.content import digests, extents, is_sparse
from i2core.api.inode_flags import NOCOW, UNREAD, flags_of
from i2core.api.tree import AttributesUnreadable, OpenDirectory, OpenFile
from i2core.rule.catalog.rows import Row
from i2core.rule.source.scan import Scan, scan
from i2core.wire.encoding import ATTRIBUTES_BYTES
from i2core.wire.message_size import PIECE_BYTES, WHOLE_BYTES

OnOpen = Callable[[Place, OpenFile], None]
"""Called with the place of a file that is read, and the open file."""


class Large(NamedTuple):
    """A file that is too large for one batch. `whole`: the replica has no file that could be patched."""

    place: Place
    entry: Entry
    whole: bool
    since_ns: int = 0
    """`time.monotonic_ns` at which its change was first reported."""
    walked: bool = False
    """It was found by a walk, not by a report of a change."""
    same_meta: bool = False
    """The replica has it with the attributes and the size of `entry`: only content may differ."""


class Drafted(NamedTuple):
    """Records for one object, its entry when they were made, and its block digests if it has several blocks."""

    records: list[Record]
    entry: Entry
    digests: BlockMap = BlockMap()


def meta_of(entry: Entry, xattrs: Xattrs | None) -> Meta:
    """The metadata of an entry, for a record.

    Raises:
        AttributesUnreadable: it has more extended attributes than one message holds.
    """
    if xattrs:
        size = sum([len(name) + len(value) for name, value in xattrs])
        if size > ATTRIBUTES_BYTES:
            cause = f"{size} bytes of extended attributes, {ATTRIBUTES_BYTES} can be replicated"
            raise AttributesUnreadable(errno.E2BIG, cause, entry.name)
    return Meta(entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs, entry.flags)


def stage_record(place: Place, entry: Entry, *, again: bool = False) -> Record:
    """STAGE for a file that is to become `entry`; `again` continues a staging file that exists."""
    at_first = entry.flags != UNREAD and bool(flags_of(entry.flags) & NOCOW)
    meta = meta_of(entry, None) if at_first else None
    return Record(Kind.STAGE, place.root, place.path, size=int(again), meta=meta)


def setattr_record(directory: OpenDirectory, place: Place, entry: Entry, there: Row | None = None) -> Record:
    """SETATTR with all metadata of a name in an open directory (the directory itself when the name is empty). `there`
    is what the replica has, as far as is known."""
    return attributes_record(place, meta_of(entry, directory.xattrs(entry.name)), there)


def attributes_record(place: Place, meta: Meta, there: Row | None) -> Record:
    """SETATTR, with the present owner of the object on the replica if `there` has it."""
    return Record(Kind.SETATTR, place.root, place.path, meta=meta, offset=0 if there is None else there.uid + 1)


def draft(directory: OpenDirectory, place: Place, entry: Entry, on_open: OnOpen) -> Drafted | Large:
    """The records that create the object `entry` of the directory, at `place`, replacing whatever is there. `on_open`
    is called with each file that is opened for that.

    Raises:
        OSError: it cannot be read, or is gone.
    """
    root, path = place
    kind = stat.S_IFMT(entry.mode)
    if kind == stat.S_IFREG:
        with directory.open(entry.name) as file:
            on_open(place, file)
            return _draft_file(file, place, entry)
    meta = meta_of(entry, directory.xattrs(entry.name) if entry.xattrs else ())
    if kind == stat.S_IFDIR:
        return Drafted([Record(Kind.MKDIR, root, path, meta=meta)], entry)
    if kind == stat.S_IFLNK:
        return Drafted([Record(Kind.SYMLINK, root, path, other=entry.target, meta=meta)], entry)
    return Drafted([Record(Kind.MKNOD, root, path, meta=meta, size=entry.rdev)], entry)


def _draft_file(file: OpenFile, place: Place, entry: Entry) -> Drafted | Large:
    """The state of the open file is sent; the listed `entry` may be older."""
    root, path = place
    xattrs = file.xattrs()
    flags = UNREAD if entry.flags == UNREAD else file.flags()
    now = file.as_opened(xattr_digest(xattrs) if xattrs else 0, flags)
    size = now.size
    meta = meta_of(now, xattrs)
    if is_sparse(file, now):
        if now.blocks * 512 > WHOLE_BYTES:
            return Large(place, now, whole=True)
    elif size > WHOLE_BYTES:
        return Large(place, now, whole=True)
    elif size <= PIECE_BYTES:
        data = file.read(0, size) if size else memoryview(b"")
        kept = BlockMap(b"".join(digests(data)) if size > BLOCK_BYTES else b"")
        return Drafted([Record(Kind.CREATE, root, path, meta=meta, data=data)], now, kept)
    records = [stage_record(place, now)]
    for extent in extents(file, 0, size):
        if extent.data:
            for at in range(extent.start, extent.end, PIECE_BYTES):
                piece = file.read(at, min(PIECE_BYTES, extent.end - at))
                records.append(Record(Kind.WRITE, root, path, offset=at, data=piece, staged=True))
    records.append(Record(Kind.PUBLISH, root, path, meta=meta, size=size))
    return Drafted(records, now)


def draft_patch(
    directory: OpenDirectory, place: Place, entry: Entry, base: bytes, on_open: OnOpen, *, always: bool
) -> Drafted | Large:
    """Records for the blocks of a small file that differ from the digests `base`; with `always` also its attributes.

    Raises:
        OSError: it cannot be read, or is gone.
    """
    root, path = place
    with directory.open(entry.name) as file:
        now = file.as_opened(entry.xattrs, entry.flags)
        if (now.dev, now.ino) != (entry.dev, entry.ino):
            # It is another file by now. Patched in place, it would appear under all names of the listed one.
            return draft(directory, place, entry, on_open)
        if now.size > WHOLE_BYTES:  # it has grown since it was listed
            return Large(place, entry, whole=False)
        found = scan(file, 0, now.size, BlockMap(base), sparse=now.blocks * 512 < now.size)
        records = piece_records(place, found, there=entry)
        if records or always:
            records.append(Record(Kind.TRUNCATE, root, path, size=now.size))
            records.append(Record(Kind.SETATTR, root, path, meta=meta_of(now, file.xattrs())))
        # Nothing to send. The listed entry is known to be equal; its attributes may have changed since.
        kept = found.blocks if now.size > BLOCK_BYTES else BlockMap()
        return Drafted(records, now if records else entry, kept)


def piece_records(place: Place, found: Scan, *, there: Entry | Row | None) -> list[Record]:
    """The records that bring the differing pieces of a scan to the replica: into the staging file, or in place into the
    file that the replica has, as far as is known, with owner and mode of `there`."""
    staged = there is None
    expected = None if there is None else Meta(there.mode, there.uid, there.gid, 0)
    root, path = place
    records = []
    for offset, length, data in found.pieces:
        if data is None:
            records.append(Record(Kind.PUNCH, root, path, offset=offset, size=length, staged=staged, meta=expected))
        else:
            records.append(Record(Kind.WRITE, root, path, offset=offset, data=data, staged=staged, meta=expected))
    return records


def content_bytes(records: list[Record]) -> int:
    """Bytes of content and of extended attributes that the records carry."""
    total = 0
    for record in records:
        total += len(record.data)
        if record.meta is not None and record.meta.xattrs:
            total += sum(len(name) + len(value) for name, value in record.meta.xattrs)
    return total
