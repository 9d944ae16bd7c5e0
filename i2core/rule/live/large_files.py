"""Large files of live replication. Between the jobs one slice of a file is sent, of each file in turn, so that a hot or
huge file does not delay other changes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import trio

from i2core.api import Entry, Place, Record
from i2core.api.records import Buffer
from i2core.posix.descriptors import may_keep
from i2core.posix.errnos import GONE
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Doubt, Row
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.other_names import TICK_NS
from i2core.rule.live.part import NEVER, Part
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.outgoing.ledger import Doubts
from i2core.rule.repair.plan import RepairPlan
from i2core.rule.source.draft import Large
from i2core.rule.source.source import Source
from i2core.rule.source.transfer import SLICE_BYTES, Task, Transfer
from i2core.wire.batch import EncodedBatch, WireBatch
from i2core.wire.frame import FrameType
from i2core.wire.session import Session

QUIET_FACTOR = 10
"""Of a growing large file only the tail is sent at once. The whole file is compared again after this many times the
duration of its last compare."""
AT_ONCE = 64
"""At most so many files take turns, since each is open. Others wait until one is done."""
REMEMBERED = 512
"""For at most so many large files the time of the last compare is remembered."""

Keep = Callable[[EncodedBatch, int, Doubts], None]
"""Keeps a batch before it is sent: with the time of its oldest change (`time.monotonic_ns`) and its doubts."""


class LargeFileQueue(Part):
    """Large files whose transfer is running, and those to be checked once more."""

    def __init__(
        self, source: Source, dirty: DirtySet, reconciler: Reconciler, keep: Keep, over: Callable[[object], None]
    ) -> None:
        """`over` is called with each transfer that ends, whatever its result."""
        self._source = source
        self._dirty = dirty
        self._reconciler = reconciler
        self._keep = keep
        self._over = over
        self._transfers: deque[LiveTransfer] = deque()
        self._again: dict[Place, tuple[float, int]] = {}
        """Large files to be checked once more: when, and since when they have been waiting."""
        self._compared: dict[Place, tuple[float, float]] = {}
        """When a file was last compared as a whole, and how long that took."""

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change of all these files was reported."""
        under_way = (file.since_ns for file in self._transfers)
        return min((*under_way, *(since_ns for _, since_ns in self._again.values())), default=None)

    @property
    def is_due(self) -> bool:
        """True while a transfer is running."""
        return bool(self._transfers)

    @property
    def due_at(self) -> float:
        """When the next file is to be checked once more."""
        return min((at for at, _ in self._again.values()), default=NEVER)

    def look_again(self) -> None:
        """Marks the files whose second check is due."""
        now = trio.current_time()
        due = [(place, since_ns) for place, (at, since_ns) in self._again.items() if at <= now]
        for place, _ in due:
            del self._again[place]
        self._dirty.add_aged(due)

    def add(self, large: Large, session: Session, *, tail: bool, trust: bool = True) -> object:
        """Adds a large file. If its transfer is running already, the file is checked once more afterwards. The same
        holds for a second name, unless it is one object with the first on the replica: it is then sent as a link.

        A running transfer is checked again only if the file has changed since it was opened. Without this condition:
        two large files exchange their names. Each transfer makes the other file's names be checked, each check finds
        that the file differs from the catalog (it is not sent yet), and the two files would be sent for ever. The same
        with the names of one file, while a scan comes more often than a transfer ends.

        `tail`: of a file that has grown since its recent compare, only the added part is sent. `trust` False: the
        replica is asked for its digests, since records that the catalog notes as sent may not have been applied."""
        place, entry, whole, since_ns, walked, _ = large
        now, first = trio.current_time(), 0
        row = self._source.catalog.objects.get(place)
        for file in self._transfers:
            if place == file.place or entry.ino == file.inode:
                is_brought = place == file.place or (row is not None and 0 != row.inode == file.doubt.inode)
                if not is_brought or not file.transfer.reads(entry) or (not walked and _may_change_unseen(entry)):
                    self._again.setdefault(place, (now, since_ns))
                return file
        if not whole and tail and row is not None and entry.size > row.size > SLICE_BYTES:
            compared, took = self._compared.get(place, (-1e9, 0.0))
            due = compared + took * QUIET_FACTOR
            if now < due:
                first = row.size
                self._again[place] = (due, since_ns)
        added = LiveTransfer(self._source, session, large, first, self._keep, trust=trust)
        self._transfers.append(added)
        if not first:
            self._compared[place] = (now, 0.0)
        return added

    async def step(self) -> None:
        """Sends a slice of the first file, which then becomes the last one of those that take turns.

        Raises:
            LinkError: the link broke.
            StopRule: the file cannot be read, and the rule says to stop.
        """
        file = self._transfers[0]
        begun = trio.current_time()
        try:
            if not file.refused:
                await file.transfer.step()
        except OSError as error:
            # A file that cannot be read now cannot be read a moment later either: checking it again at once would loop.
            self._drop(file, again=error.errno in GONE)
            if error.errno not in GONE:
                self._source.unreadable(file.place, error)
            return
        if file.refused:
            self._drop(file, again=False)
            return
        if file.place in self._compared:
            at, took = self._compared[file.place]
            self._compared[file.place] = (at, took + trio.current_time() - begun)
        self._transfers.popleft()
        self._transfers.insert(may_keep(AT_ONCE) - 1, file)
        if file.transfer.done:
            self._drop(file)
            self._source.status.sent_files += 1
            if len(self._compared) > REMEMBERED:
                self._compared.pop(next(iter(self._compared)))

    def refused(self, place: Place) -> None:
        """The backup node could not apply a record of this file, so sending the rest is useless. The file is unverified
        and is compared later."""
        for file in self._transfers:
            if file.place == place:
                file.refused = True

    def yield_to(self, plan: RepairPlan) -> None:
        """Gives up the transfers of files that are about to be compared, and marks these again. The compare sends such
        a file itself; two transfers that write one staging file would corrupt it."""
        for file in list(self._transfers):
            if any(plan.covers(place) for place in self._source.catalog.doubts.places_of(file.doubt)):
                self._drop(file)
                self._dirty.add_places([file.place], content=True)

    def break_off(self) -> list[tuple[Doubt, int]]:
        """The session is over. Returns the files whose transfer was running, each with the time of its oldest
        change."""
        broken_off = [(file.doubt, file.since_ns) for file in self._transfers]
        # Also when one of them meets a catalog that cannot be written: the rule starts again and again until it can,
        # and would leave descriptors each time.
        with ExitStack() as all_of_them:
            for file in self._transfers:
                all_of_them.callback(file.transfer.close)
            self._transfers.clear()
        self._dirty.add_aged([(place, since_ns) for place, (_, since_ns) in self._again.items()])
        self._again.clear()
        return broken_off

    def _drop(self, file: LiveTransfer, *, again: bool = True) -> None:
        """A transfer is over. The names that it gave to its file changed the times of their directories on the replica.
        Changes during the transfer have marks of their own, or are found by a second check (`again`)."""
        self._transfers.remove(file)
        file.transfer.close()
        for place in (file.place, *file.transfer.linked):
            self._reconciler.directories.touch(place)
        if again:
            self._dirty.add_places([file.place])
        self._dirty.add_aged([(place, file.since_ns) for place in (*file.transfer.linked, *file.transfer.apart)])
        self._over(file)


def _may_change_unseen(entry: Entry) -> bool:
    """True when another change of the file could have the same change time."""
    return abs(time.time_ns() - entry.ctime_ns) < TICK_NS


class RetainedSender:
    """The session as one large file uses it: everything sent is kept until it is durable."""

    def __init__(self, session: Session, catalog: Catalog, large: Large, keep: Keep) -> None:
        self._session = session
        self._catalog = catalog
        self._keep = keep
        self._since_ns = large.since_ns
        self._place = large.place
        self.doubt = catalog.doubts.at(large.place)

    def about(self, row: Row) -> None:
        """The records are about the object of that row: after a failure it is compared wherever it has moved, under all
        of its names."""
        self.doubt = self.doubt._replace(node=row.id, inode=row.inode)

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        """Numbers and encodes records."""
        packed = self._session.pack(records)
        for each in packed:
            self._catalog.doubts.keep(each.batch.last_seq, [self.doubt])
        return packed

    async def send(self, packed: WireBatch) -> None:
        """Keeps the batch, then sends it."""
        about: Doubts = {(self._place, self.doubt.node): self.doubt}
        self._keep(packed.batch, self._since_ns, about)
        await self._session.send(packed)

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """See `Session.post`."""
        return await self._session.post(question, payload)


class LiveTransfer:
    """The transfer of a large file, with the state that live replication keeps for it."""

    def __init__(self, source: Source, session: Session, large: Large, first: int, keep: Keep, *, trust: bool) -> None:
        self._sender = RetainedSender(session, source.catalog, large, keep)
        task = Task(place=large.place, whole=large.whole, trust=trust, first=first, inode=large.entry.ino)
        self.transfer = Transfer(source, self._sender, task, on_row=self._sender.about)
        self.inode = large.entry.ino
        self.since_ns = large.since_ns
        """`time.monotonic_ns` at which the change was first reported."""
        self.refused = False
        """The backup node could not apply one of its records."""

    @property
    def place(self) -> Place:
        """Where the file was when last looked at."""
        return self.transfer.place

    @property
    def doubt(self) -> Doubt:
        """The doubt for this file, if the session ends before its transfer."""
        return self._sender.doubt
