"""Large files of live replication: one slice of one after the other goes between the jobs, so that a hot or huge file
holds nobody up."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from i2core.api import Place, Record
from i2core.api.entries import GONE
from i2core.api.records import Buffer
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.ledger import Doubts
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.mirror.mend import Plan
from i2core.rule.reading.catalog import Catalog, Doubt, Row
from i2core.rule.reading.content import SLICE_BYTES, Transfer
from i2core.rule.reading.drafting import Large
from i2core.rule.reading.source import Source
from i2core.wire.frame import FrameType
from i2core.wire.session import Packed, Sealed, Session

QUIET_FACTOR = 10
"""A growing large file sends its tail at once; the whole is compared again after so many times what that took."""
REMEMBERED = 512
"""Of so many large files it is known when they were last compared."""

Keep = Callable[[Sealed, int, Doubts], None]
"""Notes a batch before it is sent: since when its oldest change waits (`time.monotonic_ns`), and what it is about."""


class Slices:
    """The large files that are under way, and those to be looked at once more."""

    def __init__(self, source: Source, dirty: DirtySet, reconciler: Reconciler, keep: Keep) -> None:
        self._source = source
        self._dirty = dirty
        self._reconciler = reconciler
        self._keep = keep
        self._transfers: deque[_Slicing] = deque()
        self._again: dict[Place, tuple[float, int]] = {}
        """Large files to be looked at once more: when, and since when they have waited for it."""
        self._compared: dict[Place, tuple[float, float]] = {}
        """When a file was last compared as a whole, and how long that took."""

    def __bool__(self) -> bool:
        """True while a file is under way."""
        return bool(self._transfers)

    @property
    def due_at(self) -> float | None:
        """When the next file is to be looked at once more, by trio's clock; None: there is none."""
        return min((at for at, _ in self._again.values()), default=None)

    @property
    def since_ns(self) -> list[int]:
        """When each of the files, under way or to be looked at once more, was first named."""
        return [transfer.since_ns for transfer in self._transfers] + [since_ns for _, since_ns in self._again.values()]

    def look_again(self) -> None:
        """Marks the files whose time has come."""
        now = trio.current_time()
        due = [place for place, (at, _) in self._again.items() if at <= now]
        for place in due:
            del self._again[place]
        self._dirty.add_places(due, content=True)

    def add(self, large: Large, session: Session, *, tail: bool) -> None:
        """A large file joins the round, unless it is in it already: then it is looked at once more afterwards. That
        holds for a second name as well, which then crosses as a link. A walk finds each file that is under way; only
        one that has changed meanwhile is news. With `tail` one that has grown since it was compared, a moment ago, only
        sends what was added."""
        place, entry, whole, since_ns, walked = large
        now = trio.current_time()
        for transfer in self._transfers:
            if place == transfer.place or entry.ino == transfer.inode:
                if not (walked and place == transfer.place and transfer.reads(entry)):
                    self._again.setdefault(place, (now, since_ns))
                return
        first = 0
        row = self._source.catalog.get(place)
        if not whole and tail and row is not None and entry.size > row.size > SLICE_BYTES:
            compared, took = self._compared.get(place, (-1e9, 0.0))
            due = compared + took * QUIET_FACTOR
            if now < due:
                first = row.size
                self._again[place] = (due, since_ns)
        lane = _KeptLane(session, self._source.catalog, large, self._keep)
        self._transfers.append(_Slicing(self._source, lane, large, first))
        if not first:
            self._compared[place] = (now, 0.0)

    async def step(self) -> None:
        """Sends a slice of the first file, which then stands last.

        Raises:
            LinkError: the link broke.
            StopRule: the file cannot be read, and the rule says to stop.
        """
        transfer = self._transfers[0]
        begun = trio.current_time()
        try:
            await transfer.step()
        except OSError as error:
            self._drop(transfer)
            if error.errno not in GONE:
                self._source.unreadable(transfer.place, error)
            return
        if transfer.place in self._compared:
            at, took = self._compared[transfer.place]
            self._compared[transfer.place] = (at, took + trio.current_time() - begun)
        self._transfers.rotate(-1)
        if transfer.done:
            self._drop(transfer)
            self._source.status.sent_files += 1
            if len(self._compared) > REMEMBERED:
                self._compared.pop(next(iter(self._compared)))

    def yield_to(self, plan: Plan) -> None:
        """What is about to be compared is given up, and looked at anew: the compare sends such a file itself, and two
        that build one staging file would spoil it."""
        for transfer in list(self._transfers):
            if any(plan.covers(place) for place in self._source.catalog.places_of(transfer.doubt)):
                self._drop(transfer)
                self._dirty.add_places([transfer.place], content=True)

    def break_off(self) -> list[tuple[Doubt, int]]:
        """The session is over. Gives the files that were under way, each with when it was first named."""
        broken_off = [(transfer.doubt, transfer.since_ns) for transfer in self._transfers]
        for transfer in self._transfers:
            transfer.close()
        self._transfers.clear()
        self._dirty.add_places(self._again, content=True)
        self._again.clear()
        return broken_off

    def _drop(self, transfer: _Slicing) -> None:
        """A transfer is over. Its staging file came and went in the replica's directory, and changes that came while it
        was under way have marks of their own, or are seen by a second look."""
        self._transfers.remove(transfer)
        transfer.close()
        self._reconciler.touch(transfer.place)
        self._dirty.add_places([transfer.place])
        self._dirty.add_places(transfer.apart, content=True)


class _KeptLane:
    """A session for one large file: what it sends is kept until it is durable."""

    def __init__(self, session: Session, catalog: Catalog, large: Large, keep: Keep) -> None:
        self._session = session
        self._catalog = catalog
        self._keep = keep
        self._since_ns = large.since_ns
        self._place = large.place
        self.doubt = catalog.doubt_at(large.place)
        self.shared: list[Doubt] = []
        """Other names that what is sent has changed."""

    def begin(self, row: Row) -> None:
        """What is sent is, or will be, the object of that row: a failure is looked into wherever it moves."""
        self.doubt = self.doubt._replace(node=row.id)

    def pack(self, records: Sequence[Record]) -> Packed:
        """Numbers and encodes records."""
        packed = self._session.pack(records)
        self._catalog.keep_doubts(packed.batch.last_seq, [self.doubt, *self.shared])
        return packed

    async def send(self, packed: Packed) -> None:
        """Keeps and sends them."""
        about: Doubts = {(self._place, doubt.node): doubt for doubt in (self.doubt, *self.shared)}
        self._keep(packed.batch, self._since_ns, about)
        await self._session.send(packed)

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """See `Session.post`."""
        return await self._session.post(question, payload)


class _Slicing(Transfer):
    """A large file between the jobs."""

    def __init__(self, source: Source, lane: _KeptLane, large: Large, first: int) -> None:
        super().__init__(
            source,
            lane,
            large.place,
            whole=large.whole,
            trust=True,
            first=first,
            inode=large.entry.ino,
            since_ns=large.since_ns,
        )
        self._kept = lane

    @property
    def doubt(self) -> Doubt:
        """Says where to find it, should the session end before it is through."""
        return self._kept.doubt

    def _begin(self) -> bool:
        begun = super()._begin()
        if begun and self._row is not None:
            self._kept.begin(self._row)
        return begun

    def _finish(self) -> list[Record]:
        records = super()._finish()
        self._kept.shared = self.shared
        return records
