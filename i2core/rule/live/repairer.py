"""Compares unverified names with the replica when they are due."""

from __future__ import annotations

import time

import trio

from i2core.api import Code, Failure
from i2core.rule.catalog.rows import Depth, Doubt
from i2core.rule.live.backlog import Backlog
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.outgoing.ledger import without_places
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.repair.making_room import make_room_among
from i2core.rule.repair.plan import Extent, RepairPlan, Unresolved, plan
from i2core.rule.repair.repair import repair
from i2core.rule.source.source import Source
from i2core.rule.survey.lister import is_within
from i2core.wire.session import Session

WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
"""First wait before a name that had moved, and so could not be compared, is tried again; each wait doubles."""


class Repairer:
    """Compares unverified names with the replica. The records that this sends may fail again; then the name is
    unverified again."""

    def __init__(self, source: Source, backlog: Backlog, outgoing: Outgoing, reconciler: Reconciler) -> None:
        self._source = source
        self._backlog = backlog
        self._outgoing = outgoing
        self._reconciler = reconciler
        self._wait_s = WAIT_S
        self._large: dict[object, list[Doubt]] = {}
        """Doubts whose large file is being sent in slices, by transfer."""

    @property
    def is_due(self) -> bool:
        """True when a name is to be compared now."""
        return self._backlog.unverified.cases.is_due

    def link_lost(self) -> None:
        """The link broke: pending answers will not arrive."""
        self._backlog.unverified.cases.lost()
        self._large.clear()

    async def run(self, session: Session) -> None:
        """Compares the names that are due. The caller has sent all earlier records.

        Raises:
            LinkError: the link broke.
        """
        for stuck in (False, True):
            doubts = self._backlog.unverified.cases.take(stuck=stuck)
            if doubts:
                await self._compare(session, doubts, stuck=stuck)

    async def make_room(self, session: Session) -> None:
        """After a full disk on the replica: of the names that are due, and of all beneath those that are unverified
        with everything beneath, those gone on the source are removed, and files that are shorter on the source are
        truncated. They stay unverified and are compared later.

        Raises:
            LinkError: the link broke.
        """
        cases = self._backlog.unverified.cases
        doubts = cases.take(stuck=False) | cases.take(stuck=True)
        before, begun_ns = session.last_sent, time.monotonic_ns()
        try:
            planned = await trio.to_thread.run_sync(plan, self._source, list(doubts), Extent.UNVERIFIED)
            await make_room_among(self._source, session, planned)
        finally:
            cases.put_back(doubts)
        if session.last_sent > before:
            self._enter(session.last_sent, begun_ns, doubts, planned)

    def transfer_over(self, session: Session | None, transfer: object) -> None:
        """The doubts of a large file are answered by the ack of its last record."""
        doubts = self._large.pop(transfer, [])
        if doubts and session is not None:
            self._backlog.unverified.asked(doubts, session.last_sent)

    async def _compare(self, session: Session, doubts: dict[Doubt, None], *, stuck: bool) -> None:
        unverified, looked = self._backlog.unverified, dict(doubts)
        before, begun_ns = session.last_sent, time.monotonic_ns()
        try:
            extent = Extent.NAMES if stuck else Extent.DIRECTORIES
            planned = await trio.to_thread.run_sync(plan, self._source, list(doubts), extent)
            unverified.compared = {}
            for place, doubt in planned.compared:
                unverified.compared.setdefault(place, []).append(doubt)
            self._backlog.large.yield_to(planned)
            unresolved = await repair(self._source, session, planned, looked)
        except BaseException:
            unverified.cases.put_back(looked)
            raise
        last_seq = session.last_sent
        if last_seq > before:
            self._enter(last_seq, begun_ns, looked, planned)
        # Names beneath a stuck directory were not compared.
        over = [doubt for doubt in looked if not (stuck and doubt.deep)]
        await trio.to_thread.run_sync(self._source.catalog.doubts.number, last_seq, over)
        self._put_off(unresolved, stuck=stuck)
        await self._try_again(planned, last_seq)
        right = self._send_large(session, unresolved, doubts, begun_ns)
        unverified.asked(right, last_seq if last_seq > before else None)

    def _enter(self, last_seq: int, begun_ns: int, looked: dict[Doubt, None], planned: RepairPlan) -> None:
        """Enters the compare in the ledger. Its records are not kept and cannot be sent again: if their ack is lost,
        their places are unverified again."""
        about = without_places(looked)
        about |= {(place, doubt.node): doubt for place, doubt in planned.compared}
        self._outgoing.sent_unkept(last_seq, begun_ns, about)

    def _put_off(self, unresolved: Unresolved, *, stuck: bool) -> None:
        """Names that could not be compared wait; directories in which something has moved are compared with the
        catalog."""
        dirty, unverified = self._backlog.dirty, self._backlog.unverified
        for place in unresolved.touched:
            self._reconciler.directories.touch(place)
            dirty.add_places([place])
        if unresolved.doubts:
            unverified.add(unresolved.doubts, after_s=self._wait_s)
            # It may wait for a long time, for a large file for example, and each search for it costs a walk.
            self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
            dirty.add_places(unresolved.moved, tree=True)
        elif not stuck:
            self._wait_s = WAIT_S
        unverified.add(unresolved.deeper)  # its entries, as soon as the directory itself is there

    async def _try_again(self, planned: RepairPlan, last_seq: int) -> None:
        """Passes names that could not be compared to the part that resolves the reason."""
        unverified, unresolved = self._backlog.unverified, planned.unresolved
        for place, why in unresolved.unread.items():
            doubt = await trio.to_thread.run_sync(unverified.doubt_at, place)
            if doubt.deep and is_within(place, planned.removing):
                doubt = doubt._replace(deep=Depth.REPLACED)
            unverified.failed_again(doubt, Failure(last_seq, place, Code.SHORT, f"it cannot be read now: {why}"))
        for place, doubt in unresolved.absent:
            lacking = "its directory was missing on the replica"
            unverified.failed_again(doubt, Failure(last_seq, place, Code.OPEN_REPLICA, lacking))

    def _send_large(
        self, session: Session, unresolved: Unresolved, doubts: dict[Doubt, None], begun_ns: int
    ) -> dict[Doubt, None]:
        """Has large files that differ sent in slices. Returns the doubts that are answered by the records sent so
        far."""
        right = dict(doubts)
        for large in unresolved.large:
            transfer = self._backlog.large.add(large._replace(since_ns=begun_ns), session, tail=False, trust=False)
            compared = self._backlog.unverified.compared.get(large.place, [])
            about_it = [doubt for doubt in compared if right.pop(doubt, 0) is None]
            self._large.setdefault(transfer, []).extend(about_it)
        return right
