"""Live replication: what the capture marks is reconciled and sent, at once and for as long as the session lives.

dirty set ──▶ reconciler (worker thread) ──▶ session
              large files go in slices between the jobs, so a hot or huge one holds nobody up
              what the backup node could not apply is compared again there
"""

from __future__ import annotations

import stat
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import trio

from i2core.api import Failure, Kind, Place, Record
from i2core.api.entries import GONE
from i2core.rule.content import SLICE_BYTES, Transfer
from i2core.rule.dirty import DirtySet, Mark
from i2core.rule.drafting import Large
from i2core.rule.mirror import Mirror, Scope
from i2core.rule.reconcile import Outcome, Reconciler
from i2core.rule.source import Source
from i2core.tasks import background
from i2core.wire.session import Packed, Session

SETTLE_S = 0.001
"""A created file is usually written at once: looking a moment later sends it once instead of twice."""
MARKS = 512
QUIET_FACTOR = 10
"""A growing large file sends its tail at once; the whole is compared again after so many times what that took."""
REPAIRS = 5
"""So often a place that the backup node cannot keep in step is compared within one session; then it is left out."""
REMOVALS = 1000
SUSPECTS = 20_000
"""Places remembered by name until they are durable; above it their roots are compared instead."""


class Suspects:
    """Places whose records are sent and not yet durable: compared again if the link breaks before they are. Each is
    given as in `Outcome.places`: True means that all beneath it may differ as well."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int, Mapping[Place, bool]]] = deque()
        self._count = 0
        self._carried: dict[Place, bool] = {}
        self.everything = False

    def sent(self, last_seq: int, since_ns: int, places: Mapping[Place, bool]) -> None:
        """Records about `places` went out; `since_ns` is when the first of them changed."""
        self._sent.append((last_seq, since_ns, places))
        self._count += len(places)

    def durable(self, seq: int) -> None:
        """Everything up to `seq` is safe."""
        while self._sent and self._sent[0][0] <= seq:
            self._count -= len(self._sent.popleft()[2])

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change that is sent and not durable happened."""
        return self._sent[0][1] if self._sent else None

    def carry(self, places: Mapping[Place, bool]) -> None:
        """The session is over: what was on its way is no longer certain."""
        if self._count + len(self._carried) > SUSPECTS:
            self.everything = True
            self._carried.clear()
        elif not self.everything:
            for _, _, sent in self._sent:
                _merge(self._carried, sent)
            _merge(self._carried, places)
        self._sent.clear()
        self._count = 0

    def take(self) -> dict[Place, bool]:
        """The uncertain places of earlier sessions, for the caller to compare now."""
        carried, self._carried = self._carried, {}
        return carried


def _merge(into: dict[Place, bool], places: Mapping[Place, bool]) -> None:
    for place, deep in places.items():
        into[place] = into.get(place, False) or deep


class _Made(NamedTuple):
    """What a job made, numbered and encoded: the catalog holds it for sent already."""

    packed: Packed | None
    outcome: Outcome


class Live:
    """Replicates over one session. `suspects`, the dirty set and the catalog outlive it."""

    def __init__(
        self, source: Source, session: Session, dirty: DirtySet, reconciler: Reconciler, suspects: Suspects
    ) -> None:
        self._source = source
        self._session = session
        self._dirty = dirty
        self._reconciler = reconciler
        self._suspects = suspects
        self._marks: deque[Mark] = deque()
        self._transfers: deque[Transfer] = deque()
        self._repairs: dict[Place, bool] = {}
        self._repairing: dict[Place, bool] = {}
        self._doubted: list[Place] = []
        """Places of `_repairs` that the catalog still believes in: they may move before they are compared."""
        self._repaired: dict[Place, int] = {}
        self._compared: dict[Place, tuple[float, float]] = {}
        self._again: dict[Place, tuple[float, int]] = {}
        """Large files to be looked at once more: when, and since when they have waited for it."""
        self._pending: _Made | None = None
        self._made: _Made | None = None
        self._waiting = False
        self._until_ns: int | None = None
        self._woken = trio.Event()

    @property
    def settled(self) -> bool:
        """True when nothing waits, nothing is under way, and all that was sent is durable."""
        idle = self._waiting and not (self._again or self._repairs or self._dirty)
        return idle and self._suspects.oldest_ns is None

    def failed(self, failures: list[Failure]) -> None:
        """The backup node could not apply records."""
        for failure in failures:
            tries = self._repaired[failure.place] = self._repaired.get(failure.place, 0) + failure.repair
            if failure.repair and tries <= REPAIRS:
                self._repairs[failure.place] = True
                self._doubted.append(failure.place)
            else:
                shown = self._source.show(failure.place)
                self._source.status.skip(shown, failure.code, failure.message)
                self._source.say(self._source.rule, failure.code, f"{shown}: {failure.message}")
        self._woken.set()

    async def run(self, *, until_quiet: bool = False) -> None:
        """Compares what earlier sessions left in doubt, then sends what changes, until cancelled; with `until_quiet`
        until all is sent that was named before.

        Raises:
            LinkError: the link broke; `suspects` and the dirty set know what was on its way.
        """
        if until_quiet:
            self._until_ns = time.monotonic_ns()
        try:
            _merge(self._repairs, self._suspects.take())
            self._doubted += self._repairs
            while True:
                if self._until_ns is not None and not self._owes(self._until_ns):
                    await self._send_pending(trio.Event())
                    return
                if not self._busy:
                    await self._wait()
                if len(self._dirty) < MARKS:
                    await trio.sleep(SETTLE_S)
                self._marks.extend(self._dirty.take(MARKS - len(self._marks)))
                await self._round()
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        """The session is over. What was not looked at waits on; what was sent, or half sent, is in doubt."""
        self._dirty.put_back(self._marks)
        self._dirty.add_places(self._again, content=True)
        doubtful = {transfer.place: False for transfer in self._transfers}
        _merge(doubtful, self._repairs)
        _merge(doubtful, self._repairing)
        for made in (self._pending, self._made):
            if made is not None:
                _merge(doubtful, made.outcome.places)
                self._dirty.add_places((large.place for large in made.outcome.large), content=True)
        for transfer in self._transfers:
            transfer.close()
        self._suspects.carry(doubtful)

    @property
    def _busy(self) -> bool:
        waiting = self._dirty or self._marks or self._transfers or self._repairs or self._pending
        return bool(waiting) or self._reconciler.oldest_ns is not None

    def _owes(self, until_ns: int) -> bool:
        """True while something is not sent that was named up to then."""
        named = [mark.since_ns for mark in self._marks]
        named += [transfer.since_ns for transfer in self._transfers]
        named += [since_ns for _, since_ns in self._again.values()]
        if self._reconciler.oldest_ns is not None:
            named.append(self._reconciler.oldest_ns)
        return bool(self._repairs) or self._dirty.has_since(until_ns) or min(named, default=until_ns + 1) <= until_ns

    async def _wait(self) -> None:
        """Until something is to do."""
        self._woken = trio.Event()
        until = min((at for at, _ in self._again.values()), default=trio.current_time() + 3600)
        self._waiting = True
        try:
            with trio.move_on_at(until):
                async with background() as nursery:
                    nursery.start_soon(self._wake_when_dirty)
                    await self._woken.wait()
        finally:
            self._waiting = False
        due = [place for place, (at, _) in self._again.items() if at <= trio.current_time()]
        for place in due:
            del self._again[place]
        self._dirty.add_places(due, content=True)

    async def _wake_when_dirty(self) -> None:
        await self._dirty.wait()
        self._woken.set()

    async def _round(self) -> None:
        """One job, with the batch before it being sent meanwhile; then one slice of a large file, then repairs."""
        async with background() as nursery:
            sent = trio.Event()
            nursery.start_soon(self._send_pending, sent)
            # Kept at once: when the link breaks meanwhile, what the job made must not be forgotten.
            self._made = await trio.to_thread.run_sync(self._job)
            await sent.wait()
        made, self._made = self._made, None
        if made.packed is not None:
            self._pending = made
        for large in made.outcome.large:
            self._queue(large)
        made.outcome.large.clear()
        if not (self._dirty or self._marks or self._reconciler.oldest_ns) or self._transfers or self._repairs:
            await self._send_pending(trio.Event())
        if self._transfers:
            await self._step()
        if self._repairs:
            await self._repair()

    def _job(self) -> _Made:
        doubted, self._doubted = self._doubted, []
        for place in doubted:
            row = self._source.catalog.get(place)
            if row is not None:
                self._source.catalog.doubt(row)
        outcome = self._reconciler.job(self._marks)
        self._source.status.sent_bytes += outcome.content_bytes
        return _Made(self._session.pack(outcome.records) if outcome.records else None, outcome)

    async def _send_pending(self, sent: trio.Event) -> None:
        if self._pending is not None:
            packed, outcome = self._pending
            assert packed is not None
            await self._session.send(packed)
            self._suspects.sent(packed.last_seq, outcome.since_ns, outcome.places)
            self._pending = None
        sent.set()

    # ------------------------------------------------------------------------------------------ large files

    def _queue(self, large: Large) -> None:
        """A large file joins the round, unless it is in it already: then it is looked at once more afterwards. That
        holds for a second name as well, which then crosses as a link."""
        place, entry, whole, since_ns = large
        now = trio.current_time()
        if any(place == transfer.place or entry.ino == transfer.inode for transfer in self._transfers):
            self._again.setdefault(place, (now, since_ns))
            return
        first = 0
        row = self._source.catalog.get(place)
        if not whole and self._until_ns is None and row is not None and entry.size > row.size > SLICE_BYTES:
            compared, took = self._compared.get(place, (-1e9, 0.0))
            due = compared + took * QUIET_FACTOR
            if now < due:
                first = row.size
                self._again[place] = (due, since_ns)
        transfer = Transfer(
            self._source,
            self._session,
            place,
            whole=whole,
            trust=True,
            first=first,
            inode=entry.ino,
            since_ns=since_ns,
        )
        self._transfers.append(transfer)
        if not first:
            self._compared[place] = (now, 0.0)

    async def _step(self) -> None:
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
        self._suspects.sent(self._session.last_sent, transfer.since_ns, {transfer.place: False})
        self._transfers.rotate(-1)
        if transfer.done:
            self._drop(transfer)
            self._source.status.sent_files += 1
            if len(self._compared) > MARKS:
                self._compared.pop(next(iter(self._compared)))

    def _drop(self, transfer: Transfer) -> None:
        """A transfer is over. Its staging file came and went in the replica's directory, and changes that came while it
        was under way have marks of their own, or are seen by a second look."""
        self._transfers.remove(transfer)
        transfer.close()
        self._reconciler.touch(transfer.place)
        self._dirty.add_places([transfer.place])
        self._dirty.add_places(transfer.apart, content=True)

    # ------------------------------------------------------------------------------------------ repair

    async def _repair(self) -> None:
        """Compares the places of failed records with the backup node."""
        self._repairing, self._repairs = self._repairs, {}
        for transfer in list(self._transfers):
            # The compare sends such a file itself; two that build one staging file would spoil it.
            if transfer.place in self._repairing or transfer.place.above in {place.above for place in self._repairing}:
                self._drop(transfer)
                self._dirty.add_places([transfer.place], content=True)
        await compare_places(self._source, self._session, self._repairing)
        self._repairing = {}


# ---------------------------------------------------------------------------------------------- comparing


class _Doubts(NamedTuple):
    """What is to be done about doubtful places."""

    scopes: list[Scope]
    gone: list[Place]
    """Neither the source nor, as far as we know, the replica has anything here."""


async def compare_places(source: Source, session: Session, places: Mapping[Place, bool]) -> None:
    """Compares these places strictly with the replica, and mends what differs.

    Raises:
        LinkError: the link broke.
    """
    doubts = await trio.to_thread.run_sync(_sort, source, places)
    for at in range(0, len(doubts.gone), REMOVALS):
        part = doubts.gone[at : at + REMOVALS]
        await session.send_records([Record(Kind.REMOVE, place.root, place.path) for place in part])
    mirror = Mirror(source, session, orphans=False, strict=True)
    await mirror.run(doubts.scopes)
    links = await trio.to_thread.run_sync(_links, source, [*places, *mirror.renewed])
    for at in range(0, len(links), REMOVALS):
        await session.send_records(links[at : at + REMOVALS])


def _sort(source: Source, places: Mapping[Place, bool]) -> _Doubts:
    scopes: dict[Place, bool] = {}
    gone = []
    for place, deep in places.items():
        entry = source.trees[place.root].lookup(place.path)
        if place.path:
            # Also behind a removal: the directory's own times were to be set.
            scopes.setdefault(Place(place.root, nearest(source, place)), False)
        if entry is not None:
            if stat.S_ISDIR(entry.mode) and source.catalog.get(place) is not None:
                scopes[place] = scopes.get(place, False) or deep
            continue
        row = source.catalog.get(place)
        if row is not None:
            # Moved or removed since, with a hint that is still to come: where it is then, it is looked at anew.
            source.catalog.doubt(row)
        elif place.path:
            gone.append(place)
    tops = [place for place, deep in scopes.items() if deep]
    covered = {place for place in scopes if any(_is_beneath(place, top) for top in tops)}
    return _Doubts([Scope(place, deep=scopes[place]) for place in sorted(scopes.keys() - covered)], gone)


def _is_beneath(place: Place, top: Place) -> bool:
    return place.root == top.root and place.path.startswith(top.path + b"/" if top.path else b"") and place != top


def _links(source: Source, places: Iterable[Place]) -> list[Record]:
    """What was compared by itself is made one again with the other names of its file."""
    records: dict[Place, Record] = {}
    for place in places:
        tree, row = source.trees[place.root], source.catalog.get(place)
        entry = tree.lookup(place.path)
        if row is None or entry is None or entry.nlink < 2 or not stat.S_ISREG(entry.mode) or not row.is_object(entry):
            continue
        for other in map(source.catalog.place, source.catalog.other_names(row)):
            there = tree.lookup(other.path) if other.root == place.root else None
            if there is not None and there.ino == entry.ino and place not in records:
                records.setdefault(other, Record(Kind.LINK, other.root, other.path, other=place.path))
    return list(records.values())


def nearest(source: Source, place: Place) -> bytes:
    """The directory of a place, or the nearest above it that the replica is known to have."""
    path = place.above.path
    while path and source.catalog.get(Place(place.root, path)) is None:
        path = path.rpartition(b"/")[0]
    return path
