"""The work side of a rule, from start to stop: catch changes, mirror, replicate; when the link breaks, resume.

Changes are caught from before the mirror begins until the rule stops, whatever the link does meanwhile. The mirror and
the live records have a connection each, and share one row of seqs: the mirror ends before live records begin.

    run_rule ── again after a damaged catalog, or for want of something (`Restarts`)
      └─ _Run.run ── one catalog, opened: restored from the run before, left to the next
           ├─ Catching, Progress, the watch over the roots      beside it all
           └─ _connect ── again after a broken link
                └─ _attempt ── one session: mirror if need be, then live replication
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from i2core.api import Channel, ClientTransport, Code, I2Error, LinkError, PeerRefused, ProtocolError, StopRule
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers
from i2core.rule.life.disk_full import own_disk
from i2core.rule.life.life import Life
from i2core.rule.life.report import Line, Say
from i2core.rule.life.states import Cause, Event
from i2core.rule.life.status import RuleStatus
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.replication import LiveReplication
from i2core.rule.outgoing.outbox import Outbox
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.outgoing.record_clock import RecordClock, shown_time
from i2core.rule.outgoing.spool import Spool
from i2core.rule.source.source import Source
from i2core.rule.work.catching import Catching
from i2core.rule.work.connector import Connector
from i2core.rule.work.holds import Holds
from i2core.rule.work.mirroring import REPLICA_IS_FULL, Mirroring
from i2core.rule.work.opening import open_capture, open_source
from i2core.rule.work.progress import Progress
from i2core.rule.work.restarts import Restarts
from i2core.rule.work.resume import Opened, Resume
from i2core.rule.work.root_watch import watch_roots
from i2core.rule.work.work_rule import WorkRule
from i2core.tasks import background
from i2core.wire.batch import SeqCounter, no_time
from i2core.wire.messages import Ack, FailedRecord, Welcome

BACKOFF_S = (0.5, 30.0)
"""First and longest wait before reconnecting; each wait doubles, with jitter so that nodes do not reconnect all at
once."""
ONCE_ATTEMPTS = 3
CATCH_FIRST_S = 0.5
"""How long the mirror waits for the capture; the first byte is to be sent within a second."""
UNNOTED_SEQS = 1 << 20
"""More than one run gives out before it notes how far it is."""
UNNOTED_NS = 1_000_000_000
"""As long as the time of a record usually waits to be noted durably, and longer."""


async def run_rule(
    work: WorkRule,
    *,
    registry: Drivers,
    transport: ClientTransport,
    status: RuleStatus,
    state_dir: Path | None,
    once: bool,
    say: Say,
    life: Life | None = None,
) -> None:
    """Runs a rule until cancelled. With `once` it returns when the mirror, and what changed meanwhile, is durable on
    the replica. Without `state_dir` the catalog is temporary. `life` is that of a rule that was started already.

    Raises:
        StopRule, UsageError, PeerRefused: it needs a human.
        LinkError: with `once`, when the link broke too often.
    """
    restarts = Restarts(work.rule, state_dir, say, once=once)
    clock = RecordClock(partial(_report_clock, work.rule.name, say))
    while True:
        begun = trio.current_time()
        try:
            with own_disk(state_dir):
                async with open_source(work, registry, status, state_dir, say, once=once) as (source, opened):
                    if life is None:
                        life = Life(status, say)
                        life.advance(Event.START)
                    elif restarts.event is not None:
                        life.advance(restarts.event)
                    await _Run(work, registry, transport, source, opened, once, life, clock).run()
            return
        except sqlite3.DatabaseError as error:
            restarts.catalog_lost(error)
        except OSError as error:
            await restarts.exhausted(error, ran_s=trio.current_time() - begun)
        status.mirrored = False


class _Run:
    """One run of one rule, with one catalog."""

    def __init__(
        self,
        work: WorkRule,
        registry: Drivers,
        transport: ClientTransport,
        source: Source,
        opened: Opened,
        once: bool,
        life: Life,
        clock: RecordClock,
    ) -> None:
        self._work = work
        self._source = source
        self._once = once
        self._life = life
        self._resumed = isinstance(opened.start, Resume)
        self._fruitful = False
        """The backup node has acknowledged something in this attempt."""
        dirty = DirtySet()
        self._outgoing = _outgoing(work, source, clock, clean=opened.clean)
        self._live = LiveReplication(source, dirty, self._outgoing)
        self._holds = Holds(work, source, life)
        self._connector = Connector(
            work, registry, transport, source, self._outgoing, on_ack=self._acked, on_hold=self._holds.tell
        )
        self._mirroring = Mirroring(work, source, self._connector, self._live, life, once=once)
        self._catching = Catching(source, dirty, compares=self._resumed)
        self._progress = Progress(source.status, dirty, self._live, self._outgoing, self._catching, self._connector)
        self._capture = open_capture(work.rule, registry, source)

    async def run(self) -> None:
        """Catches changes, and carries them over, until it is stopped."""
        with self._progress.shown(), self._work.view.of(self._live, self._life):
            async with self._restored(), background() as nursery:
                nursery.start_soon(self._catching.catch, self._capture)
                nursery.start_soon(self._catching.rescan, self._work.rule.rescan_s)
                nursery.start_soon(self._progress.watch)
                nursery.start_soon(watch_roots, self._source, self._rests, self._has_lost_a_root)
                await self._connect()

    @asynccontextmanager
    async def _restored(self) -> AsyncIterator[None]:
        """Takes up what the run before left, and leaves what this one has."""
        memory = self._source.catalog.memory
        if self._resumed and memory.now.outgrown:
            await trio.to_thread.run_sync(self._live.make_room_first)
        if self._resumed:
            self._live.doubt(await trio.to_thread.run_sync(self._live.restore))
        else:
            await trio.to_thread.run_sync(self._live.forget)
        try:
            yield
        except StopRule as error:
            if error.code in REPLICA_IS_FULL:
                memory.note(outgrown=True)
            raise
        finally:
            self._live.leave()

    def _rests(self) -> bool:
        """True when nothing is to be done now: see `LiveReplication.rests`."""
        return self._live.rests

    def _has_lost_a_root(self) -> bool:
        """True when its removal was released: its replica is empty, although the catalog does not know."""
        return self._holds.has_lost_a_root

    # ------------------------------------------------------------------------------------------ attempts

    async def _connect(self) -> None:
        """Connects and works, again and again until it is stopped."""
        if self._resumed:
            self._life.advance(Event.RESUMED)
            self._source.status.mirrored = True
        await self._catching.watching_soon(CATCH_FIRST_S)
        wait_s, attempts = BACKOFF_S[0], 0
        while True:
            self._fruitful = False
            try:
                await self._attempt()
                return
            except PeerRefused:
                raise
            except (LinkError, ProtocolError) as error:
                attempts = 0 if self._fruitful else attempts + 1
                if self._once and attempts >= ONCE_ATTEMPTS:
                    raise
                self._lost(error)
            wait_s = BACKOFF_S[0] if self._fruitful else min(wait_s * 2, BACKOFF_S[1])
            async with self._producing():
                await trio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)

    @asynccontextmanager
    async def _producing(self) -> AsyncIterator[None]:
        """Meanwhile there is no link: what changes gathers in the outbox."""
        async with background() as nursery:
            if self._life.phase.mirrored:
                nursery.start_soon(self._live.produce)
            yield

    async def _attempt(self) -> None:
        """One session: mirrors if need be, then replicates until the link breaks."""
        async with self._connector.open(Channel.REPLICATION, meanwhile=self._producing()) as session:
            may_have_died = self._back() or not session.welcome.exact
            lost = self._replica_forgot(session.welcome)
            if lost or not self._life.phase.mirrored:
                if lost or not session.welcome.exact:
                    self._mirroring.distrust()
                await self._mirroring.run()
            elif may_have_died:
                self._live.touch_roots()
            if session.welcome.anew:
                await session.confirm()
            await self._catching.watching()
            await self._live.run(session, until_quiet=self._once)
            await session.settle()

    def _replica_forgot(self, welcome: Welcome) -> bool:
        """True when the replica has lost what it called durable: it is not the one that was mirrored."""
        reported, known = welcome.durable_seq, self._outgoing.durable_seq
        if reported >= known and not (welcome.anew and self._life.phase.mirrored):
            return False
        had = f"it had record {known} safe, and now has {reported}" if reported < known else "it begins with nothing"
        cause = f"{had}; both sides are compared again"
        line = Line(f"{self._work.peer.name}: {cause}", obj=self._work.peer.name, cause=cause)
        self._source.say(self._source.rule, Code.ILLEGAL_TASK, line)
        self._outgoing.lost(reported)
        return True

    # ------------------------------------------------------------------------------------------ acks

    def _acked(self, ack: Ack) -> None:
        """Station 11: places of failed records are unverified from now on, and what is durable is forgotten.

        Failures are handled first. The doubts of a failed record are found in the ledger, by its seq. One ack may
        report both a failure and that everything up to this seq is durable. If the ledger entry were forgotten first,
        the failed place would be lost."""
        self._fruitful = True
        if ack.failures:
            self._take_up(ack.failures)
        self._outgoing.acknowledged(ack.applied_seq, ack.durable_seq)
        self._live.answered(ack.applied_seq)

    def _take_up(self, failures: list[FailedRecord]) -> None:
        """Takes failures: the backup node could not apply these records."""
        if not self._life.phase.mirrored:
            self._mirroring.distrust()
        skipped = self._source.status.skipped_count
        self._live.failed([record.failure() for record in failures])
        if self._source.status.skipped_count > skipped:
            # It is not looked at again in this run; what stood in its way may be gone at the next start.
            self._source.catalog.memory.note(left_out=True)

    # ------------------------------------------------------------------------------------------ states

    def _lost(self, error: I2Error) -> None:
        if self._life.phase.cause is Cause.LINK:
            self._life.advance(Event.LINK_RETRYING, error)
        else:
            self._life.advance(Event.LINK_LOST, error)

    def _back(self) -> bool:
        """There is a link; True when there was none before."""
        if self._life.phase.state.value not in ("abnormal", "invalid"):
            return False
        self._life.advance(Event.LINK_BACK)
        self._source.say(self._source.rule, Code.NETWORK, "the link is back")
        return True


def _outgoing(work: WorkRule, source: Source, clock: RecordClock, *, clean: bool) -> Outgoing:
    """Where the run keeps what it sends. Seqs and times go on where the run before ended; what a killed run gave out
    after its last note is not given out again."""
    memory = source.catalog.memory
    kept_seq, kept_ns = memory.now.next_seq, memory.now.record_ns
    clock.begin(kept_ns if clean or not kept_ns else kept_ns + UNNOTED_NS, lambda ns: memory.note(record_ns=ns))
    next_seq = 1 if kept_seq is None else kept_seq if clean else kept_seq + UNNOTED_SEQS
    seqs = SeqCounter(next_seq, no_time if work.rule.cdp is None else clock.now)
    spool = Spool(work.cache_dir / source.key, work.disk) if work.cache_dir is not None else None
    return Outgoing(seqs, Outbox(work.memory, spool), source.status)


def _report_clock(rule: str, say: Say, last_ns: int) -> None:
    shown = shown_time(last_ns)
    line = bilingual(
        f"the system clock was set back: changes get the time {shown} in the history until the clock has passed it",
        f"系统时钟被调回：在时钟超过 {shown} 之前，历史中的变化均记为该时间",
    )
    say(rule, Code.TIME_STAMP, line)
