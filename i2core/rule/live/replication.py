"""Live replication: reconciles and sends the places that the capture marks, at once, while the rule runs.

dirty set ──▶ reconciler (worker thread) ──▶ outgoing ──▶ session ──▶ … durable: forgotten
              large files go in slices between the jobs, so a hot or huge one delays nothing
              records that failed there, or may have failed, lead to a compare of their places

While there is no session, the reconciler continues and its records wait in the outbox. All unfinished work is in the
`Backlog` and nowhere else; it outlives the sessions.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from functools import partial

import trio

from i2core.api import Code, Failure, Line, Place
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Doubt
from i2core.rule.live.backlog import Backlog, InWork, Sent, Unreadable
from i2core.rule.live.dirty import DirtySet, Mark
from i2core.rule.live.job import MARKS, Jobs
from i2core.rule.live.large_files import LargeFileQueue
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.live.repairer import Repairer
from i2core.rule.live.send import Sender
from i2core.rule.live.unverified import Unverified
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.repair.doubtful import is_left_out
from i2core.rule.source.source import Source
from i2core.tasks import background
from i2core.wire.session import Session

SETTLE_S = 0.001
"""A new file is usually written at once: checking it a moment later sends it once instead of twice."""
APART_S = 1.0
"""While the link is down, the least time between two records of a place that changes all the time."""
LEAST_BYTES = 4 * 1024 * 1024
"""With a session, at least so many bytes may be in flight, whatever the limits and other rules leave."""
ONCE_S = 60.0
"""How long a run that is to end waits for objects that cannot be read now."""
LONGEST_S = 3600.0
"""Longest wait when nothing happens."""


class LiveReplication:
    """Replicates over one session after the other. Backlog, catalog and outgoing batches outlive each session.

    More methods than a class should have: half of them pass on what the run asks and tells, the others are the rounds
    of a session."""

    def __init__(self, source: Source, dirty: DirtySet, outgoing: Outgoing) -> None:
        self._source = source
        self._outgoing = outgoing
        self._reconciler = reconciler = Reconciler(source)
        self.backlog = Backlog(
            dirty=dirty,
            directories=reconciler.directories,
            in_work=InWork(reconciler),
            in_transit=reconciler.in_transit,
            large=LargeFileQueue(source, dirty, reconciler, outgoing.keep, self._transfer_over),
            unreadable=Unreadable(source.passing),
            unpinned=reconciler.unpinned,
            unverified=Unverified(source, outgoing),
            sent=Sent(outgoing),
        )
        self._jobs = Jobs(source, self.backlog, outgoing, reconciler)
        self._repairer = Repairer(source, self.backlog, outgoing, reconciler)
        self._session: Session | None = None
        self._told_full = False
        self._room_first = False
        """The replica's disk was full: changes that make room there are sent first."""
        self._waiting = False
        self._until_ns: int | None = None
        """A run that is to end sends the changes reported before this time; None: it continues."""
        self._give_up_at = 0.0
        self._woken = trio.Event()
        source.passing.lasting = partial(_report_lasting, source)

    @property
    def settled(self) -> bool:
        """True when no work is left and everything sent is durable."""
        return self._waiting and self.backlog.is_empty

    @property
    def rests(self) -> bool:
        """As `settled`, except for names that cannot be replicated now and are tried again later."""
        return self._waiting and self.backlog.rests

    # ------------------------------------------------------------------------------------------ between runs

    def restore(self) -> list[Doubt]:
        """Takes over the batches that an earlier run left in the spool. Returns the doubts.

        Raises:
            OSError: the spool cannot be read.
        """
        return self._outgoing.restore(self._source.catalog)

    def make_room_first(self) -> None:
        """The run before ended because the replica's disk was full. The spooled batches would fill it again, even if
        files were removed meanwhile. So they are dropped instead of resent, and their places are unverified. Removals
        and truncations of the source are sent first now, also for unverified names; after that replication continues as
        usual.

        Raises:
            OSError: the spool cannot be cleared.
        """
        self._outgoing.outbox.clear()
        self._reconciler.make_room(time.monotonic_ns())
        self._room_first = True

    def touch_roots(self) -> None:
        """Sets the times of the roots once more. A sink keeps its private directory in a root. Creating or removing it
        changes the root's modification time, which is restored at once. A backup node that died in between has left the
        wrong time, and no record in flight corrects it."""
        for root in range(len(self._source.trees)):
            self.backlog.directories.touch(Place(root, b""))

    def leave(self) -> None:
        """Leaves unfinished work to the next run."""
        self._reconciler.walks.close()
        self._outgoing.outbox.close()
        self.backlog.unverified.save()
        self._source.catalog.doubts.drop(self._outgoing.durable_seq)
        self._source.catalog.memory.note(durable_seq=self._outgoing.durable_seq)

    def forget(self) -> None:
        """Forgets what an earlier run left, since everything is compared.

        Raises:
            OSError: the spool cannot be cleared.
        """
        self._outgoing.clear()
        self._room_made()  # a mirror makes room itself
        catalog = self._source.catalog
        unsaved = self.backlog.unverified.clear()
        catalog.doubts.owe_removals([*unsaved, *(doubt for some in catalog.doubts.by_seq().values() for doubt in some)])
        self.backlog.unreadable.clear()
        self.backlog.in_transit.clear()
        catalog.clear()
        catalog.memory.note(mirrored=False)
        catalog.commit()

    # ------------------------------------------------------------------------------------------ doubts

    def doubt(self, doubts: Iterable[Doubt]) -> None:
        """Adds doubts: these places are to be compared with the replica."""
        self.backlog.unverified.add(doubts)
        self._woken.set()

    def differ(self, places: Iterable[Place]) -> None:
        """Adds doubts about places that somebody else has found to differ, or to be only on the replica."""
        self.backlog.unverified.differ(places)
        self._woken.set()

    def failed(self, failures: list[Failure]) -> None:
        """Takes failures: the backup node could not apply these records."""
        for failure in failures:
            if is_left_out(failure):
                self.backlog.unverified.leave_out(failure)
            else:
                self.backlog.large.refused(failure.place)
                self.backlog.unverified.failed(failure)
        self._woken.set()

    def answered(self, applied_seq: int) -> None:
        """All records up to `applied_seq` are applied, and each failure among them was reported."""
        if not self.backlog.unverified.is_empty:
            self.backlog.unverified.answered(applied_seq)
            self._woken.set()

    def _transfer_over(self, transfer: object) -> None:
        self._repairer.transfer_over(self._session, transfer)

    # ------------------------------------------------------------------------------------------ with a session

    async def run(self, session: Session, *, until_quiet: bool = False) -> None:
        """Sends the batches in the outbox, then new changes, until cancelled; with `until_quiet` until all changes
        reported before this call are sent.

        Raises:
            LinkError: the link broke.
        """
        self._session, self._told_full = session, False
        sender = Sender(self._source, self.backlog, self._outgoing, session)
        self._until_ns = time.monotonic_ns() if until_quiet else None
        self.backlog.unverified.gives_up = until_quiet
        self._give_up_at = trio.current_time() + ONCE_S
        try:
            await self._resume(session, sender)
            while True:
                self._look_again()
                if self._until_ns is not None and not self.backlog.owes(self._until_ns):
                    await sender.send_unsent()
                    await sender.leave_no_staging()
                    if self.backlog.directories.is_empty:
                        return
                if not self.backlog.is_due:
                    await sender.leave_no_staging()
                    await self._wait()
                if not self._outgoing.outbox.has_room:
                    await sender.send_unsent()
                    # Batches in flight make room when they are durable; batches kept by another rule do not block this
                    # one.
                    await self._outgoing.outbox.wait_for_room(LEAST_BYTES)
                if len(self.backlog.dirty) < MARKS:
                    await trio.sleep(SETTLE_S)
                await self._round(session, sender)
        finally:
            self._session = None
            self.backlog.unsent.take()
            self.backlog.broken_off.add(self.backlog.large.break_off())

    async def _resume(self, session: Session, sender: Sender) -> None:
        """Sends again what the replica lacks, and checks again what the end of the last session interrupted."""
        self._repairer.link_lost()
        self.doubt(self._outgoing.resume(session.welcome))
        await sender.send_again(session.welcome.applied_seq)
        dirty = self.backlog.dirty
        # Taken only when all places are known: a session that breaks before leaves the files to the next one.
        catalog = self._source.catalog
        found = await trio.to_thread.run_sync(_places_of, catalog, self.backlog.broken_off.files)
        self.backlog.broken_off.clear()
        dirty.add_aged(found)
        await sender.look_at_staging()
        dirty.add_aged([(place, large.since_ns) for place, large in self.backlog.parked.take().items()])

    async def _wait(self) -> None:
        """Returns when there is something to do."""
        self._woken = trio.Event()
        if self.backlog.is_due:
            return  # work came while staging files were removed
        self._source.rest()
        self._waiting = True
        try:
            with trio.move_on_at(min(trio.current_time() + LONGEST_S, self.backlog.due_at)):
                async with background() as nursery:
                    nursery.start_soon(self._wake_when_dirty)
                    await self._woken.wait()
        finally:
            self._waiting = False
        self.backlog.large.look_again()

    async def _wake_when_dirty(self) -> None:
        await self.backlog.dirty.wait()
        self._woken.set()

    async def _round(self, session: Session, sender: Sender) -> None:
        """One job, while the batches of the previous one are sent; then one slice of a large file, then repairs."""
        backlog = self.backlog
        before = backlog.unsent.take()
        async with background() as nursery:
            sent = trio.Event()
            nursery.start_soon(sender.send, before, sent)
            made = await self._jobs.run()
            backlog.unsent.put(made.batches, made.outcome.since_ns)
            await sent.wait()
        for large in backlog.parked.take().values():
            backlog.large.add(large, session, tail=self._until_ns is None)
        # If another job follows at once, these records are sent while it runs. Otherwise they are sent now, before a
        # slice or a compare: the backup node handles everything in the order of arrival.
        follows = backlog.dirty.is_due or backlog.in_work.is_due
        if not follows or backlog.large.is_due or self._repairer.is_due:
            await sender.send_unsent()
        if backlog.large.is_due:
            await backlog.large.step()
        if self._room_first:
            if not self._reconciler.makes_room:
                await sender.send_unsent()
                await self._repairer.make_room(session)
                self._room_made()
        elif self._repairer.is_due:
            await sender.send_unsent()
            await self._repairer.run(session)

    def _room_made(self) -> None:
        """Room has been made. A run that ends before this, for whatever reason, leaves making room to the next one."""
        self._room_first = False
        self._source.catalog.memory.note(outgrown=False)

    # ------------------------------------------------------------------------------------------ without one

    async def produce(self) -> None:
        """While there is no session: makes records of changes, until cancelled or the outbox is full."""
        if self._room_first:
            await trio.sleep_forever()  # only doubts are left, and they need the replica
        while True:
            if not self._outgoing.outbox.has_room and not self._told_full:
                self._told_full = True
                lack = self._outgoing.outbox.lack
                full = Line(f"{lack}: changes are only marked until the link is back", obj=lack.obj, cause=lack)
                self._source.say(self._source.rule, Code.MIRROR_CANCELLED, full)
            await self._outgoing.outbox.wait_for_room()
            self._look_again()
            if not self.backlog.in_work.is_due:
                self._source.rest()
                work = self.backlog
                with trio.move_on_at(min(work.unreadable.due_at, work.unpinned.due_at, work.in_transit.due_at)):
                    await self.backlog.dirty.wait()
                await trio.sleep(APART_S)
                self._look_again()
            await self._jobs.run()

    def _look_again(self) -> None:
        """Marks objects that could not be read, and objects that have lost a pin, when their wait is over."""
        ends, gives_up = self._until_ns is not None, trio.current_time() >= self._give_up_at
        back: list[Mark] = []
        for each, since_ns in self.backlog.unreadable.take():
            if ends and each.error == errno.EIO:
                continue  # it was reported when it was put off
            if ends and gives_up:
                self._source.status.skip(self._source.show(each.place), Code.READ_SOURCE, each.cause)
            elif isinstance(each.mark, Mark):
                back.append(each.mark)
            else:
                back.append(Mark(each.place, since_ns, content=True, tree=True))
        self.backlog.dirty.put_back(back)
        if unpinned := self.backlog.unpinned.take():
            self.backlog.dirty.add_places(unpinned)


def _places_of(catalog: Catalog, files: Iterable[tuple[Doubt, int]]) -> list[tuple[Place, int]]:
    """The places to check for each interrupted file, each with the time of its change; for worker threads."""
    return [(place, since_ns) for doubt, since_ns in files for place in catalog.doubts.places_of(doubt)]


def _report_lasting(source: Source, place: Place, cause: str) -> None:
    line = f"{source.show(place)}: {cause}; it is looked at again until it can be read"
    source.say(source.rule, Code.SHORT, line)
