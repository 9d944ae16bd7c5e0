"""Large files, slice by slice: each slice is compared with the replica, and only differing blocks are sent.

Other work runs between the slices of a `Transfer`. It follows its file through renames of a directory above by asking
the catalog for the directory's present place. It gives up when the name belongs to another object: that change has a
hint of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs
import trio

from i2core.api import BLOCK_BYTES, Entry, Kind, Place, Record
from i2core.api.blockmap import DIGEST_BYTES, BlockMap
from i2core.api.records import Buffer
from i2core.rule.catalog.rows import Row
from i2core.rule.source.draft import attributes_record, content_bytes, piece_records, stage_record
from i2core.rule.source.large_file import LargeFile
from i2core.rule.source.scan import Scan, scan
from i2core.rule.source.source import Source
from i2core.tasks import background
from i2core.wire.batch import WireBatch
from i2core.wire.frame import FrameType
from i2core.wire.questions import HashQuery

SLICE_BLOCKS = 512
"""Blocks compared at a time: 32 MiB."""
SLICE_BYTES = SLICE_BLOCKS * BLOCK_BYTES
SEND_BYTES = 2 * 1024 * 1024
"""A slice ends early when it has so much to send, so that batches stay small."""
RESUME_BYTES = 64 * 1024 * 1024
"""From this size on a whole file first asks for what an interrupted run left in the staging file: asking costs a round
trip, sending a smaller file again costs less."""


class BatchSender(Protocol):
    """The parts of a session that a transfer needs; live replication keeps the batches until they are durable."""

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        """Numbers and encodes records."""

    async def send(self, packed: WireBatch) -> None:
        """Sends them."""

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Sends a question; awaiting what it returns gives the answer."""


@attrs.frozen(kw_only=True)
class Task:
    """Which file is to be sent, and how."""

    place: Place
    whole: bool
    """It is built in a staging file and published; otherwise the replica's file is patched in place."""
    trust: bool
    """Base digests come from the catalog if it has them; otherwise the backup node is asked."""
    first: int = 0
    """It is compared from this byte on; the part before was compared a moment ago."""
    inode: int = 0
    """The inode number of the file when it was found, to recognize two names of one file; 0: not known."""
    there: Entry | None = None
    """The replica is known to have the attributes and the size of this entry, so a file that still equals it and has
    the same content needs no record."""


class Transfer:
    """The transfer of one large file. `on_row` is called with the row of the object that is sent, before any of its
    records is numbered, and again at the end, when its names may share a row. It runs in the thread that works on the
    catalog."""

    def __init__(
        self, source: Source, sender: BatchSender, task: Task, on_row: Callable[[Row], None] = lambda row: None
    ) -> None:
        self._source = source
        self._sender = sender
        self._task = task
        self._on_row = on_row
        self._file = LargeFile(source, task.place)
        self._whole = task.whole
        self._at = task.first // BLOCK_BYTES * BLOCK_BYTES
        self._base = _BaseDigests(source, sender, trust=task.trust, asks=not (task.whole and self._at == 0))
        self._begun = False
        self._cleared = False
        self.sent = False
        """Something was staged or sent."""
        self.done = False
        self.linked: list[Place] = []
        """Other names that became links to it."""
        self.apart: list[Place] = []
        """Other names of the file, which are to be checked when it is done."""
        self.brought = 0
        """Inode number of the file when it was sent completely; 0: it was not."""

    @property
    def place(self) -> Place:
        """The place of the file at the last check."""
        return self._file.place

    def reads(self, entry: Entry) -> bool:
        """True when the file's times show no change since the transfer opened it."""
        return self._file.is_as_opened(entry)

    def close(self) -> None:
        """Closes the file; an unfinished one leaves nothing in the catalog."""
        self._file.close()

    async def run(self) -> None:
        """Sends all slices, one after the other. The next one is read while the previous one is being sent.

        Raises:
            LinkError: the link broke; the transfer is void.
            OSError: the file cannot be read.
        """
        packed: list[WireBatch] = []
        try:
            while not self.done:
                base = await self._prepared()
                async with background() as nursery:
                    sent = trio.Event()
                    nursery.start_soon(self._send, packed, sent)
                    try:
                        packed = [] if base is None else await trio.to_thread.run_sync(self._slice, base)
                    finally:
                        # Also if the file cannot be read: the error ends this file alone, and half a message would end
                        # the session.
                        await sent.wait()
            await self._send(packed, trio.Event())
        finally:
            self.close()

    async def step(self) -> None:
        """Sends one slice: compares at most `SLICE_BYTES`, sends about `SEND_BYTES`. Sets `done` after the last.

        Raises:
            LinkError: the link broke; the transfer is void.
            OSError: the file cannot be read.
        """
        base = await self._prepared()
        if base is not None:
            await self._send(await trio.to_thread.run_sync(self._slice, base), trio.Event())

    async def _prepared(self) -> BlockMap | None:
        """The base digests of the next slice; None when the file is gone."""
        if not self._begun:
            if not await trio.to_thread.run_sync(self._begin):
                self.done = True
                return None
            await self._greet()
        return await self._base.at(self._at, self._file, whole=self._whole)

    async def _send(self, packed: list[WireBatch], sent: trio.Event) -> None:
        for each in packed:
            await self._sender.send(each)
        sent.set()

    async def _greet(self) -> None:
        """Finds out whether an interrupted run left a staging file that can be continued."""
        self._begun = True
        if not self._whole:
            return
        if self._file.entry.size >= RESUME_BYTES:
            self._base.asks = bool(await self._base.ask(0, self._file, whole=True))
        self.sent = True
        stage = stage_record(self._file.place, self._file.entry, again=self._base.asks)
        with self._source.catalog.unit():
            packed = self._sender.pack([stage])
        await self._send(packed, trio.Event())

    def _begin(self) -> bool:
        """Opens the file; False when it is gone."""
        with self._source.catalog.unit():
            if not self._file.open():
                return False
            if self._task.inode not in (0, self._file.entry.ino) and not self._whole:
                # Another file has the name now: patched in place, it would appear under all names of the previous one.
                self._whole, self._at, self._base.asks = True, 0, False
            self._on_row(self._file.claim_row(whole=self._whole))
            return True

    def _slice(self, base: BlockMap) -> list[WireBatch]:
        with self._source.catalog.unit():
            if self._file.is_still_there():
                return self._sender.pack(self._next(base))
            return self._give_up()

    def _give_up(self) -> list[WireBatch]:
        """The name belongs to another object, or to none: removes the staging file."""
        self.done = True
        if not self._whole:
            return []
        self._source.catalog.staging.end(self._file.place)
        root, path = self._file.place
        return self._sender.pack([Record(Kind.REMOVE, root, path, staged=True)])

    def _next(self, base: BlockMap) -> list[Record]:
        """The records of one slice, and the last ones if the file ends there. The size is read for each slice: the file
        may have grown or shrunk since the last one."""
        file = self._file
        end = file.size()
        stop = end
        if base.data_blocks >= SLICE_BLOCKS:  # more may be known after it
            stop = min(self._at + base.blocks * BLOCK_BYTES, end)
        found = scan(file.open_file, self._at, stop, base, SEND_BYTES, SLICE_BYTES)
        records = self._records_of(found)
        file.keep_digests(self._at // BLOCK_BYTES, found.blocks)
        self._source.status.checked_bytes += found.end - self._at
        self._at = found.end
        self.sent = self.sent or bool(records)
        if self._at >= end or found.ended:
            records += self._finish()
        self._source.status.sent_bytes += content_bytes(records)
        return records

    def _records_of(self, found: Scan) -> list[Record]:
        file = self._file
        if self._whole:
            records = piece_records(file.place, found, there=None)
            # A new staging file has no data: a hole must be punched only in one that an earlier run left.
            return [record for record in records if self._base.asks or record.kind is not Kind.PUNCH]
        # In a mirror, the replica's answer has shown that its file has the owner of the source's.
        records = piece_records(file.place, found, there=file.entry if file.is_new else file.row)
        if records and not self._cleared:
            # A staging file that an interrupted run left under this name is useless now.
            root, path = file.place
            records.insert(0, Record(Kind.REMOVE, root, path, staged=True))
            self._cleared = True
        return records

    def _finish(self) -> list[Record]:
        """The file is compared to its end: returns the records that publish it, or set its size and attributes."""
        self.done = True
        file = self._file
        there = None if file.is_new else file.row
        seen, meta = file.as_read(in_part=self._task.first > 0)
        row, links = self._note(seen)
        self._on_row(row)
        root, path = file.place
        if self._whole:
            return [Record(Kind.PUBLISH, root, path, meta=meta, size=seen.size), *links]
        if not self.sent and self._task.there is not None and _looks(self._task.there) == _looks(seen):
            return []
        return [Record(Kind.TRUNCATE, root, path, size=seen.size), attributes_record(file.place, meta, there)]

    def _note(self, seen: Entry) -> tuple[Row, list[Record]]:
        """Notes in the catalog that the file was sent. Returns its row and, if it is published, records that make its
        other names links to it."""
        catalog, file = self._source.catalog, self._file
        names, place_of = catalog.names, catalog.objects.place
        row, root = file.put_row(seen), file.place.root
        self.brought = seen.ino
        others: list[Row] = []
        if seen.nlink > 1:
            row = names.share(row)
            if self._task.trust or not self._whole:
                others = [
                    other for other in catalog.names.apart(row, root) if catalog.objects.place(other).root == root
                ]
                self.apart = catalog.names.stale_elsewhere(row)
        catalog.staging.end(file.place)  # also for a file that was compared in place: it is not checked again
        if not self._whole:
            return row, []
        # Names that were sent during this transfer are separate files on the replica. A mirror links them by itself,
        # since its verdicts about them may be older.
        self.linked = [place_of(names.join(other, row)) for other in others]
        return row, [Record(Kind.LINK, root, other.path, other=file.place.path) for other in self.linked]


class _BaseDigests:
    """The digests of the replica's blocks: from the catalog if it is trusted, otherwise from the backup node."""

    def __init__(self, source: Source, sender: BatchSender, *, trust: bool, asks: bool) -> None:
        self._source = source
        self._sender = sender
        self._trust = trust
        self._ahead: tuple[int, Callable[[], Awaitable[BlockMap]]] | None = None
        self.asks = asks
        """False when there is nothing on the replica to compare with: a new file in a new staging file."""

    async def at(self, at: int, file: LargeFile, *, whole: bool) -> BlockMap:
        """Digests of the slice at that byte. Those of the next slice are requested already."""
        if not self.asks:
            return BlockMap()
        first = at // BLOCK_BYTES
        if self._trust and not file.is_new:
            digests = self._source.catalog.digests
            kept = await trio.to_thread.run_sync(digests.get, file.row.key, first, SLICE_BLOCKS)
            if kept is not None:
                return kept
        if self._ahead is not None and self._ahead[0] == first:
            base = await self._ahead[1]()
        else:
            base = await self.ask(first, file, whole=whole)
        self._ahead = None
        if base.data_blocks == SLICE_BLOCKS:
            behind = first + base.blocks
            self._ahead = (behind, await self._post(behind, file, whole=whole))
        return base

    async def ask(self, first: int, file: LargeFile, *, whole: bool) -> BlockMap:
        """Digests from block `first` on, from the backup node."""
        return await (await self._post(first, file, whole=whole))()

    async def _post(self, first: int, file: LargeFile, *, whole: bool) -> Callable[[], Awaitable[BlockMap]]:
        root, path = file.place
        query = HashQuery(root, path, first, SLICE_BLOCKS, whole, file.sparse)
        wait = await self._sender.post(FrameType.HASHES, query.encode())

        async def answer() -> BlockMap:
            raw = await wait()
            return BlockMap.decode(raw) if query.runs else BlockMap(bytes(raw[: SLICE_BLOCKS * DIGEST_BYTES]))

        return answer


def _looks(entry: Entry) -> tuple[int, ...]:
    return entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.xattrs, entry.flags
