"""Large files, slice by slice: compared with what the replica has, and only differing blocks sent.

A `Transfer` goes on across slices while other work runs between them. It follows its file through renames of a
directory above it by asking the catalog where the directory is now, and gives up when the name has become another
object: whatever happened there has a hint of its own.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import trio

from i2core.api import BLOCK_BYTES, Entry, Kind, Place, Record
from i2core.api.entries import entry_of, xattrs_of_fd
from i2core.api.records import Buffer
from i2core.pipeline.blocks import DIGEST_BYTES, Scan, scan
from i2core.rule.reading.catalog import Doubt, Row
from i2core.rule.reading.drafting import content_bytes, meta_of, open_file, piece_records
from i2core.rule.reading.source import Source
from i2core.tasks import background
from i2core.wire.frame import FrameType
from i2core.wire.listing import HashQuery
from i2core.wire.session import Packed

SLICE_BLOCKS = 512
"""Blocks compared at a time: 32 MiB."""
SLICE_BYTES = SLICE_BLOCKS * BLOCK_BYTES
SEND_BYTES = 2 * 1024 * 1024
"""A slice ends early when it has found so much to send, so that batches stay small."""
RESUME_BYTES = 64 * 1024 * 1024
"""From this size on a whole file first asks for what an interrupted run left in the staging file: asking costs a round
trip, sending a smaller file again costs less."""


class Lane(Protocol):
    """What a transfer sends and asks by: a session, or one whose batches are kept until they are durable."""

    def pack(self, records: Sequence[Record]) -> Packed:
        """Numbers and encodes records."""

    async def send(self, packed: Packed) -> None:
        """Sends them."""

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Sends a question; awaiting what it returns gives the answer."""


class Transfer:
    """One large file on its way.

    `whole` builds a staging file and publishes it; else the replica's file is patched in place. `first`, `end` limit
    the compare (bytes; `end` None: to the file's end). `trust` takes base digests from the catalog where it has them;
    else the backup node is asked.
    """

    def __init__(
        self,
        source: Source,
        lane: Lane,
        place: Place,
        *,
        whole: bool,
        trust: bool,
        first: int = 0,
        end: int | None = None,
        inode: int = 0,
        since_ns: int = 0,
    ) -> None:
        self._source = source
        self._lane = lane
        self._root = place.root
        self._name = place.path.rpartition(b"/")[2]
        self._place = place
        self._whole = whole
        self._trust = trust
        self._end = end
        self._at = first // BLOCK_BYTES * BLOCK_BYTES
        self._fd = -1
        self._entry: Entry | None = None
        self._row: Row | None = None
        self._reserved = False
        self._directory: Row | None = None
        self._begun = False
        self._cleared = False
        self._asks = not (whole and self._at == 0)
        self._ahead: tuple[int, Callable[[], Awaitable[bytes]]] | None = None
        self.done = False
        self.shared: list[Doubt] = []
        """Other names of the file, which changed with it."""
        self.apart: list[Place] = []
        """Other names of the file, which are to be looked at when it is done."""
        self.brought = 0
        """Inode number of the file that crossed to its end; 0: none did."""
        self.inode = inode
        """Of the file as it was found, to tell two names of one file; 0: not known."""
        self.since_ns = since_ns
        """`time.monotonic_ns` at which the change was first named."""

    @property
    def place(self) -> Place:
        """Where the file was when last looked at."""
        return self._place

    def reads(self, entry: Entry) -> bool:
        """True when the file is, as far as its times tell, still as it was when the transfer opened it."""
        seen = self._entry
        return seen is not None and (seen.ino, seen.dev, seen.size, seen.mtime_ns, seen.ctime_ns) == (
            entry.ino,
            entry.dev,
            entry.size,
            entry.mtime_ns,
            entry.ctime_ns,
        )

    def close(self) -> None:
        """Lets the file go; one that is not done leaves nothing in the catalog."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._reserved and self._row is not None:
            self._source.catalog.digests.drop(self._row.id)
            self._row = None

    async def run(self) -> None:
        """All slices, one after the other; the next is read while the one before is being sent.

        Raises:
            LinkError: the link broke; the transfer is void.
            OSError: the file cannot be read.
        """
        packed: Packed | None = None
        try:
            while not self.done:
                base = await self._prepared()
                async with background() as nursery:
                    sent = trio.Event()
                    nursery.start_soon(self._send, packed, sent)
                    packed = None if base is None else await trio.to_thread.run_sync(self._slice, base)
                    await sent.wait()
            await self._send(packed, trio.Event())
        finally:
            self.close()

    async def step(self) -> None:
        """One slice: at most `SLICE_BYTES` compared, about `SEND_BYTES` sent. Sets `done` behind the last.

        Raises:
            LinkError: the link broke; the transfer is void.
            OSError: the file cannot be read.
        """
        base = await self._prepared()
        if base is not None:
            await self._send(await trio.to_thread.run_sync(self._slice, base), trio.Event())

    async def _prepared(self) -> bytes | None:
        """The base digests of the next slice; None when the file is gone."""
        if not self._begun:
            if not await trio.to_thread.run_sync(self._begin):
                self.done = True
                return None
            await self._greet()
        return await self._base(self._at)

    async def _send(self, packed: Packed | None, sent: trio.Event) -> None:
        if packed is not None:
            await self._lane.send(packed)
        sent.set()

    async def _greet(self) -> None:
        """Finds out whether an interrupted run left a staging file worth going on with."""
        self._begun = True
        assert self._entry is not None
        if self._whole and self._entry.size >= RESUME_BYTES:
            self._asks = bool(await self._ask(0))
        if self._whole:
            stage = Record(Kind.STAGE, self._root, self._place.path, size=1 if self._asks else 0)
            await self._lane.send(self._lane.pack([stage]))

    def _begin(self) -> bool:
        """Opens the file; False when it is gone."""
        tree, catalog = self._source.trees[self._root], self._source.catalog
        above = self._place.path.rpartition(b"/")[0]
        try:
            with tree.directory(above) as dir_fd:
                self._fd, _ = open_file(dir_fd, self._name)
                self._entry = tree.entry(dir_fd, self._name)
        except FileNotFoundError:
            return False
        self._directory = catalog.get(Place(self._root, above))
        if self._entry is None or self._directory is None or not self._is_open(self._entry):
            return False
        if self.inode not in (0, self._entry.ino) and not self._whole:
            # Another file has taken the name: in place it would be written under all names of the one before.
            self._whole, self._at, self._asks = True, 0, False
        self._row = catalog.get(self._place)
        if self._whole or self._row is None or not self._row.is_object(self._entry):
            self._row, self._reserved = catalog.reserve(), True
            catalog.begin_staging(self._place)
            # The staging file changes the directory's times on the replica.
            catalog.doubt(self._directory, digests=True)
        else:
            # Until it is done the replica has neither the old content nor the new, wherever the file goes meanwhile.
            catalog.doubt(self._row, digests=True)
            if self._entry.nlink > 1:
                for other in catalog.other_names(self._row):
                    catalog.digests.drop(other.id)
        return True

    def _is_open(self, entry: Entry) -> bool:
        """True when `entry` is the file that was opened."""
        status = os.fstat(self._fd)
        return (entry.dev, entry.ino) == (status.st_dev, status.st_ino)

    async def _base(self, at: int) -> bytes:
        """Digests of the slice at `at`, with the next slice's already on their way."""
        if not self._asks:
            return b""
        first = at // BLOCK_BYTES
        row = self._row
        if self._trust and row is not None and not self._reserved:
            kept = await trio.to_thread.run_sync(self._source.catalog.digests.get, row.id, first, SLICE_BLOCKS)
            if kept is not None:
                return kept
        if self._ahead is not None and self._ahead[0] == first:
            base = await self._ahead[1]()
        else:
            base = await self._ask(first)
        self._ahead = None
        if len(base) == SLICE_BLOCKS * DIGEST_BYTES:
            self._ahead = (first + SLICE_BLOCKS, await self._post(first + SLICE_BLOCKS))
        return base

    async def _post(self, first: int) -> Callable[[], Awaitable[bytes]]:
        query = HashQuery(self._root, self._place.path, first, SLICE_BLOCKS, self._whole)
        wait = await self._lane.post(FrameType.HASHES, query.encode())

        async def answer() -> bytes:
            return bytes(await wait())

        return answer

    async def _ask(self, first: int) -> bytes:
        return await (await self._post(first))()

    def _still_there(self) -> bool:
        """Follows the directory; False when the name is no longer this file, or not yet on the replica."""
        assert self._directory is not None and self._row is not None
        directory = self._source.catalog.row(self._directory.id)
        if directory is None:
            return False
        above = self._source.catalog.place(directory).path
        self._place = Place(self._root, above + b"/" + self._name if above else self._name)
        if not self._reserved:
            row = self._source.catalog.get(self._place)
            if row is None or row.id != self._row.id:
                return False
        now = self._source.trees[self._root].lookup(self._place.path)
        return now is not None and self._is_open(now)

    def _slice(self, base: bytes) -> Packed | None:
        if not self._still_there():
            self.done = True
            if self._whole:
                self._source.catalog.end_staging(self._place)
                abandon = Record(Kind.REMOVE, self._root, self._place.path, staged=True)
                return self._lane.pack([abandon])
            return None
        size = os.fstat(self._fd).st_size
        end = size if self._end is None else min(self._end, size)
        stop = min(self._at + SLICE_BYTES, end)
        found = scan(self._fd, self._at, stop, base, SEND_BYTES)
        records = piece_records(self._place, found, staged=self._whole)
        if self._whole:
            # A fresh staging file is all hole: punching one is of use only on what an earlier run left.
            records = [r for r in records if self._asks or r.kind is not Kind.PUNCH]
        elif records and not self._cleared:
            # A staging file that an interrupted run left under this name is of no use any more.
            records.insert(0, Record(Kind.REMOVE, self._root, self._place.path, staged=True))
            self._cleared = True
        self._keep(found)
        short = found.end < stop and found.end - self._at < SEND_BYTES
        self._source.status.checked_bytes += found.end - self._at
        self._at = found.end
        if self._at >= end or short:
            records += self._finish()
        self._source.status.sent_bytes += content_bytes(records)
        return self._lane.pack(records) if records else None

    def _keep(self, found: Scan) -> None:
        assert self._row is not None
        first = self._at // BLOCK_BYTES
        if not first or self._source.catalog.digests.get(self._row.id, first - 1, 1) is not None:
            self._source.catalog.digests.put(self._row.id, first, found.hashes)

    def _finish(self) -> list[Record]:
        self.done = True
        status = os.fstat(self._fd)
        assert self._entry is not None
        # Replica and catalog get the times from before the reading: a write that came in between shows as newer.
        now = entry_of(self._name, status, digest=self._entry.xattrs)._replace(mtime_ns=self._entry.mtime_ns)
        meta = meta_of(now, xattrs_of_fd(self._fd))
        root, path = self._place
        seen = self._entry._replace(size=status.st_size)
        assert self._row is not None
        self._source.catalog.digests.cut(self._row.id, status.st_size)
        row = self._source.catalog.put(self._place, seen, reserved=self._row if self._reserved else None)
        self._reserved = False
        self.brought = seen.ino
        others: list[Place] = []
        if status.st_nlink > 1 and (self._trust or not self._whole):
            others = self._other_names(row)
            self.shared, self.apart = self._source.catalog.share(row, seen)
        if self._whole:
            self._source.catalog.end_staging(self._place)
            # Names that were sent while this one was under way are files of their own on the replica. A mirror makes
            # them one by itself: its verdicts on them may be older.
            self.apart += others
            links = [Record(Kind.LINK, root, other.path, other=path) for other in others]
            return [Record(Kind.PUBLISH, root, path, meta=meta, size=status.st_size), *links]
        return [
            Record(Kind.TRUNCATE, root, path, size=status.st_size),
            Record(Kind.SETATTR, root, path, meta=meta),
        ]

    def _other_names(self, row: Row) -> list[Place]:
        """Beneath the same root."""
        places = map(self._source.catalog.place, self._source.catalog.other_names(row))
        return [place for place in places if place.root == self._root]
