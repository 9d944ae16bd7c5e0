"""Live replication: what the capture marks is reconciled and sent, at once, for as long as the rule runs.

dirty set ──▶ reconciler (worker thread) ──▶ outbox ──▶ session ──▶ … durable: forgotten
              large files go in slices between the jobs, so a hot or huge one holds nobody up
              what the backup node could not apply, or may not have applied, is compared again there

While there is no session the reconciler goes on, and its records gather in the outbox.
"""

from __future__ import annotations

import stat
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import trio

from i2core.api import Code, Failure, Kind, Place, Record
from i2core.rule.live.dirty import DirtySet, Mark
from i2core.rule.live.ledger import Doubts, Ledger
from i2core.rule.live.reconcile import Outcome, Reconciler
from i2core.rule.live.slices import Slices
from i2core.rule.mirror.mend import mend, plan
from i2core.rule.outgoing.outbox import Outbox
from i2core.rule.reading.catalog import OPEN, Doubt
from i2core.rule.reading.drafting import Large
from i2core.rule.reading.source import Source
from i2core.tasks import background
from i2core.wire.session import Sealed, SeqCounter, Session

SETTLE_S = 0.001
"""A created file is usually written at once: looking a moment later sends it once instead of twice."""
APART_S = 1.0
"""While the link is away a place that changes all the time gives a record so often, not as fast as it can."""
MARKS = 512
LEAST_BYTES = 4 * 1024 * 1024
"""With a session, so much may be on its way whatever the limits and the other rules leave."""
REPAIRS = 5
"""So often a place that the backup node cannot keep in step is compared within one session; then it is left out."""
SMALL_BYTES = 16 * 1024
"""Up to this size encoding costs less than a hop to a worker thread."""
WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
"""What could not be compared, for it had moved, is tried again after so long; each wait doubles."""


class _Made(NamedTuple):
    """What a job made, numbered: the catalog holds it for sent already."""

    batch: Sealed | None
    outcome: Outcome


class Live:
    """Replicates over one session after the other. Dirty set, catalog, outbox and ledger outlive it."""

    def __init__(self, source: Source, dirty: DirtySet, seqs: SeqCounter, outbox: Outbox, ledger: Ledger) -> None:
        self._source = source
        self._dirty = dirty
        self._seqs = seqs
        self._outbox = outbox
        self._ledger = ledger
        self._reconciler = Reconciler(source)
        self._session: Session | None = None
        self._marks: deque[Mark] = deque()
        self._slices = Slices(source, dirty, self._reconciler, self.keep)
        self._parked: dict[Place, Large] = {}
        """Large files that wait for a session."""
        self._broken_off: list[Doubt] = []
        """Large files whose transfer the end of a session broke off."""
        self._repairs: dict[Doubt, None] = {}
        self._repair_at = 0.0
        self._repair_wait_s = WAIT_S
        self._doubtful_ns: int | None = None
        """Since when something has been in doubt; None: nothing is."""
        self._failed: list[Place] = []
        """Places of failures that no entry of the ledger knows."""
        self._doubted: list[Doubt] = []
        """Of `_repairs`, what the catalog still believes in: it may move before it is compared."""
        self._repaired: dict[Place, int] = {}
        self._told_full = False
        self._working_ns: int | None = None
        """When the oldest of what the reconciler works on was named."""
        self._pending: Sealed | None = None
        self._waiting = False
        self._until_ns: int | None = None
        self._woken = trio.Event()

    @property
    def settled(self) -> bool:
        """True when nothing waits, nothing is under way, and all that was sent is durable."""
        idle = self._waiting and not (self._slices.due_at is not None or self._repairs or self._dirty)
        return idle and self._ledger.oldest_ns is None

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change happened that is not durable on the replica; None: there is none."""
        ages = [self._ledger.oldest_ns, self._dirty.oldest_ns, self._working_ns, self._doubtful_ns]
        ages += self._slices.since_ns
        ages += [large.since_ns for large in self._parked.values()]
        return min((age for age in ages if age is not None), default=None)

    def restore(self) -> None:
        """Takes up what an earlier run left: batches that wait in the spool, and what is in doubt.

        Raises:
            OSError: the spool cannot be read.
        """
        doubts = self._source.catalog.doubts()
        self._ledger.durable_seq = self._source.catalog.fact("durable_seq") or 0
        for kept in self._outbox.open():
            about: Doubts = {(Place(0, each.name), each.node): each for each in doubts.pop(kept.last_seq, ())}
            self._ledger.add(kept.last_seq, kept.since_ns, about, kept=True)
            self._seqs.next = max(self._seqs.next, kept.last_seq + 1)
        self.doubt(each for some in doubts.values() for each in some)

    def leave(self) -> None:
        """Leaves what is not done to the next run."""
        self._outbox.close()
        self._source.catalog.keep_doubts(OPEN, self._doubted)
        self._source.catalog.drop_doubts(self._ledger.durable_seq)
        self._source.catalog.set_fact("durable_seq", self._ledger.durable_seq)

    def forget(self) -> None:
        """What an earlier run left is of no use: all is compared.

        Raises:
            OSError: the spool cannot be cleared.
        """
        self._outbox.clear()
        self._ledger.clear()
        for some in (self._repairs, self._doubted, self._failed):
            some.clear()
        self._may_be_sure()
        self._source.catalog.clear()
        self._source.catalog.set_fact("mirrored", 0)
        self._source.catalog.commit()

    def doubt(self, doubts: Iterable[Doubt]) -> None:
        """These places are to be compared with the replica."""
        fresh = list(doubts)
        if fresh:
            self._doubtful_since(time.monotonic_ns())
        self._repairs.update(dict.fromkeys(fresh))
        self._doubted += fresh
        self._woken.set()

    def keep_doubts(self) -> None:
        """What came in doubt stays so across a restart, and is believed no more. The caller commits the catalog."""
        catalog = self._source.catalog
        doubted, self._doubted = self._doubted, []
        failed, self._failed = self._failed, []
        found = [catalog.doubt_at(place, deep=True) for place in failed]
        self._repairs.update(dict.fromkeys(found))
        catalog.keep_doubts(OPEN, [*doubted, *found])
        for doubt in [*doubted, *found]:
            row = catalog.row(doubt.node) if doubt.node else None
            if row is not None:
                catalog.doubt(row)

    def failed(self, failures: list[Failure]) -> None:
        """The backup node could not apply records."""
        for failure in failures:
            tries = self._repaired[failure.place] = self._repaired.get(failure.place, 0) + failure.repair
            if failure.repair and tries <= REPAIRS:
                known = self._ledger.about(failure.seq, failure.place)
                self.doubt(known)
                if not known:
                    self._doubtful_since(time.monotonic_ns())
                    self._failed.append(failure.place)
            else:
                shown = self._source.show(failure.place)
                self._source.status.skip(shown, failure.code, failure.message)
                self._source.say(self._source.rule, failure.code, f"{shown}: {failure.message}")
        self._woken.set()

    def _doubtful_since(self, since_ns: int) -> None:
        self._doubtful_ns = min(since_ns, self._doubtful_ns or since_ns)

    def _may_be_sure(self) -> None:
        """Something was looked into: perhaps it was the last that was in doubt."""
        if not (self._repairs or self._failed or self._broken_off):
            self._doubtful_ns = None

    # ------------------------------------------------------------------------------------------ the two lives

    async def run(self, session: Session, *, until_quiet: bool = False) -> None:
        """Sends what waits in the outbox, then what changes, until cancelled; with `until_quiet` until all is sent that
        was named before.

        Raises:
            LinkError: the link broke.
        """
        self._session, self._repaired, self._told_full = session, {}, False
        self._until_ns = time.monotonic_ns() if until_quiet else None
        try:
            await self._resume(session)
            while True:
                if self._until_ns is not None and not self._owes(self._until_ns):
                    await self._send_pending()
                    return
                if not self._busy:
                    await self._wait()
                if not self._outbox.has_room:
                    await self._send_pending()
                    # What is on its way makes room; what another rule keeps does not hold this one up.
                    await self._outbox.wait_for_room(LEAST_BYTES)
                if len(self._dirty) < MARKS:
                    await trio.sleep(SETTLE_S)
                await self._round()
        finally:
            self._session, self._pending = None, None
            self._break_off()

    async def produce(self) -> None:
        """While there is no session: makes records of what changes, until cancelled or the outbox is full."""
        while True:
            if not self._outbox.has_room and not self._told_full:
                self._told_full = True
                full = "memory_limit and disk_limit are used up: changes are only marked until the link is back"
                self._source.say(self._source.rule, Code.MIRROR_CANCELLED, full)
            await self._outbox.wait_for_room()
            if not (self._marks or self._reconciler.oldest_ns):
                await self._dirty.wait()
                await trio.sleep(APART_S)
            await self._job()

    async def _resume(self, session: Session) -> None:
        welcome = session.welcome
        self.doubt(self._ledger.resume(welcome.applied_seq, exact=welcome.exact))
        # Its last ack may have been lost with its connection.
        self._ledger.durable(welcome.durable_seq)
        self._outbox.durable(welcome.durable_seq)
        seq = welcome.applied_seq
        while (batch := await trio.to_thread.run_sync(self._outbox.after, seq)) is not None:
            await session.skip_to(batch.first_seq)
            await session.send(await trio.to_thread.run_sync(session.encode, batch))
            seq = batch.last_seq
        await session.skip_to(self._seqs.next)
        broken_off, self._broken_off = self._broken_off, []
        for doubt in broken_off:
            places = await trio.to_thread.run_sync(self._source.catalog.places_of, doubt)
            self._dirty.add_places(places, content=True)
        await self._clear_staging()
        parked, self._parked = self._parked, {}
        self._dirty.add_places(parked, content=True)
        self._may_be_sure()

    async def _clear_staging(self) -> None:
        """Files that were being staged are looked at again; staging files of those that are gone are removed."""
        for place in list(self._source.catalog.staging):
            entry = await trio.to_thread.run_sync(self._source.trees[place.root].lookup, place.path)
            if entry is None or not stat.S_ISREG(entry.mode):
                self._source.catalog.end_staging(place)
                self._reconciler.touch(place)
                batch = self._seqs.seal([Record(Kind.REMOVE, place.root, place.path, staged=True)])
                self.keep(batch, time.monotonic_ns(), {})
                await self._send(batch, trio.Event())
            self._dirty.add_places([place], content=True)

    def _break_off(self) -> None:
        for doubt, since_ns in self._slices.break_off():
            self._broken_off.append(doubt)
            self._doubtful_since(since_ns)

    @property
    def _busy(self) -> bool:
        waiting = self._dirty or self._marks or self._slices or self._pending or self._failed or self._doubted
        return bool(waiting) or self._reconciler.oldest_ns is not None or self._repair_due

    @property
    def _repair_due(self) -> bool:
        return bool(self._repairs) and trio.current_time() >= self._repair_at

    def _owes(self, until_ns: int) -> bool:
        """True while something is not sent that was named up to then."""
        named = [mark.since_ns for mark in self._marks] + self._slices.since_ns
        if self._reconciler.oldest_ns is not None:
            named.append(self._reconciler.oldest_ns)
        if self._repairs or self._failed:
            return True
        return self._dirty.has_since(until_ns) or min(named, default=until_ns + 1) <= until_ns

    async def _wait(self) -> None:
        """Until something is to do."""
        self._woken = trio.Event()
        due_at = self._slices.due_at
        until = trio.current_time() + 3600 if due_at is None else due_at
        if self._repairs:
            until = min(until, self._repair_at)
        self._waiting = True
        try:
            with trio.move_on_at(until):
                async with background() as nursery:
                    nursery.start_soon(self._wake_when_dirty)
                    await self._woken.wait()
        finally:
            self._waiting = False
        self._slices.look_again()

    async def _wake_when_dirty(self) -> None:
        await self._dirty.wait()
        self._woken.set()

    async def _round(self) -> None:
        """One job, with the batch before it being sent meanwhile; then one slice of a large file, then repairs."""
        before, self._pending = self._pending, None
        async with background() as nursery:
            sent = trio.Event()
            nursery.start_soon(self._send, before, sent)
            self._pending = await self._job()
            await sent.wait()
        parked, self._parked = self._parked, {}
        for large in parked.values():
            assert self._session is not None
            self._slices.add(large, self._session, tail=self._until_ns is None)
        if not (self._dirty or self._marks or self._reconciler.oldest_ns) or self._slices or self._repair_due:
            await self._send_pending()
        if self._slices:
            await self._slices.step()
        if self._repair_due:
            await self._send_pending()
            await self._repair()

    async def _job(self) -> Sealed | None:
        """Makes records of marks, and puts them into the outbox."""
        self._marks.extend(self._dirty.take(MARKS - len(self._marks)))
        self._working_ns = self._oldest_work_ns()
        made = await trio.to_thread.run_sync(self._make)
        # At once, without a checkpoint: when the link breaks meanwhile, what the job made must not be forgotten.
        self._parked.update((large.place, large) for large in made.outcome.large)
        if made.batch is not None:
            self.keep(made.batch, made.outcome.since_ns, made.outcome.doubts)
        self._working_ns = self._oldest_work_ns()
        return made.batch

    def _oldest_work_ns(self) -> int | None:
        ages = [mark.since_ns for mark in self._marks]
        if self._reconciler.oldest_ns is not None:
            ages.append(self._reconciler.oldest_ns)
        return min(ages, default=None)

    def keep(self, batch: Sealed, since_ns: int, doubts: Doubts) -> None:
        """Notes a batch before it is sent."""
        self._outbox.put(batch, since_ns)
        self._ledger.add(batch.last_seq, since_ns, doubts, kept=True)

    def _make(self) -> _Made:
        catalog = self._source.catalog
        # Failures are told no later than that what lies behind them is durable: so they are kept before it is dropped.
        durable_seq = self._ledger.durable_seq
        self.keep_doubts()
        outcome = self._reconciler.job(self._marks)
        self._source.status.sent_bytes += outcome.content_bytes
        batch = self._seqs.seal(outcome.records) if outcome.records else None
        if batch is not None:
            catalog.keep_doubts(batch.last_seq, outcome.doubts.values())
        catalog.drop_doubts(durable_seq)
        catalog.set_fact("next_seq", self._seqs.next)
        catalog.set_fact("durable_seq", durable_seq)
        catalog.commit()
        return _Made(batch, outcome)

    async def _send(self, batch: Sealed | None, sent: trio.Event) -> None:
        if batch is not None:
            assert self._session is not None
            small = len(batch.raw) <= SMALL_BYTES
            encode = self._session.encode
            packed = encode(batch) if small else await trio.to_thread.run_sync(encode, batch)
            await self._session.send(packed)
        sent.set()

    async def _send_pending(self) -> None:
        batch, self._pending = self._pending, None
        await self._send(batch, trio.Event())

    # ------------------------------------------------------------------------------------------ repair

    async def _repair(self) -> None:
        """Compares what is in doubt with the backup node."""
        assert self._session is not None
        before, begun_ns = self._session.last_sent, time.monotonic_ns()
        repairing = self._repairs
        self._repairs = {}
        try:
            planned = await trio.to_thread.run_sync(plan, self._source, list(repairing))
            self._slices.yield_to(planned)
            waiting = await mend(self._source, self._session, planned, repairing)
        except BaseException:
            self._repairs = repairing | self._repairs
            raise
        if self._session.last_sent > before:
            about: Doubts = {(Place(0, doubt.name), doubt.node): doubt for doubt in repairing}
            self._ledger.add(self._session.last_sent, begun_ns, about, kept=False)
        await trio.to_thread.run_sync(self._source.catalog.close_doubts, self._session.last_sent)
        for place in waiting.touched:
            self._reconciler.touch(place)
            self._dirty.add_places([place])
        if waiting.doubts:
            self.doubt(waiting.doubts)
            self._repair_at = trio.current_time() + self._repair_wait_s
            # What it waits for may take its time, a large file for example; and looking for it costs a walk.
            self._repair_wait_s = min(self._repair_wait_s * 2, LONGEST_WAIT_S)
            self._dirty.add_places(waiting.moved, tree=True)
        else:
            self._repair_wait_s = WAIT_S
        self._may_be_sure()
