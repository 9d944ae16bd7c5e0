"""The sink under test, and the records for it."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import xxhash

from i2core.api import (
    BLOCK_BYTES,
    Batch,
    Buffer,
    Entry,
    Failure,
    Kind,
    Meta,
    Place,
    Record,
    Sink,
)
from i2core.api.drivers import Ask
from i2core.testing.picture import meta_of, names_in

FILE, DIR, LINK, FIFO = (
    meta_of(mode) for mode in (stat.S_IFREG | 0o640, stat.S_IFDIR | 0o750, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600)
)


def create_file(path: bytes, data: Buffer = b"", meta: Meta = FILE, root: int = 0) -> Record:
    """A `CREATE` record."""
    return Record(Kind.CREATE, root, path, meta=meta, data=data)


def make_dir(path: bytes, meta: Meta = DIR) -> Record:
    return Record(Kind.MKDIR, 0, path, meta=meta)


def make_symlink(path: bytes, text: bytes) -> Record:
    return Record(Kind.SYMLINK, 0, path, other=text, meta=LINK)


def remove(path: bytes) -> Record:
    return Record(Kind.REMOVE, 0, path)


def rename(old: bytes, new: bytes) -> Record:
    return Record(Kind.RENAME, 0, old, other=new)


def digests(data: bytes) -> bytes:
    pieces = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    return b"".join(map(xxhash.xxh3_128_digest, pieces))


class Trial:
    """The sink under test, with the next seq."""

    def __init__(self, sink: Sink, outside: Path) -> None:
        self.sink = sink
        self.outside = outside
        self.seq = 1

    async def apply(self, *records: Record) -> tuple[Failure, ...]:
        applied = await self.sink.apply(Batch(self.seq, records))
        self.seq += len(records)
        assert applied.applied_seq == self.seq - 1, (
            f"applied_seq {applied.applied_seq}, the batch ends at {self.seq - 1}"
        )
        return applied.failures

    async def done(self, *records: Record) -> None:
        failures = await self.apply(*records)
        assert not failures, f"records that can be applied failed: {failures}"

    async def fails(self, record: Record, *, repair: bool, path: bytes | None = None) -> None:
        """The record must fail, and the records before and after it must be applied."""
        seq = self.seq + 1
        failures = await self.apply(create_file(b"before"), record, create_file(b"after"))
        where = Place(record.root, record.path if path is None else path)
        what = f"{record.kind.name} {record.path!r}"
        assert [(f.seq, f.place) for f in failures] == [(seq, where)], f"{what} should fail, alone: {failures}"
        assert failures[0].repair is repair, f"{what}: repair should be {repair}: {failures[0]}"
        assert failures[0].message, f"{what}: the failure has no message"
        assert await self.entry(b"after") is not None, f"{what}: the record after it was not applied"
        await self.done(remove(b"before"), remove(b"after"))

    async def entry(self, path: bytes) -> Entry | None:
        above, _, name = path.rpartition(b"/")
        (found,) = await self.entries(above, name)
        return found

    async def entries(self, path: bytes, *names: bytes) -> Sequence[Entry | None]:
        """Entries of these names in the directory at `path`."""
        (seen,) = await self.sink.look([Ask(Place(0, path), names)])
        assert not seen.names, "look returned names that were not asked for"
        return seen.entries

    async def names(self, path: bytes) -> Sequence[bytes]:
        """All names in the directory at `path`."""
        return await names_in(self.sink, Place(0, path))

    async def holds(self, path: bytes, data: bytes, why: str) -> None:
        entry = await self.entry(path)
        assert entry is not None, f"{why}: {path!r} is missing"
        assert stat.S_ISREG(entry.mode), f"{why}: {path!r} has mode {entry.mode:o}"
        assert entry.size == len(data), f"{why}: {path!r} has {entry.size} bytes instead of {len(data)}"
        blocks = -(-len(data) // BLOCK_BYTES)
        hashes = await self.sink.hashes(Place(0, path), 0, blocks + 1)
        assert hashes == digests(data), f"{why}: {path!r} has other content, or hashes returned wrong digests"

    async def missing(self, path: bytes, why: str) -> None:
        assert await self.entry(path) is None, f"{why}: {path!r} exists"
