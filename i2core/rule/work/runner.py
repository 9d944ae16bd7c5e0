"""The work side of a rule, from start to stop: catch changes, mirror, replicate; when the link breaks, resume.

Changes are caught from before the mirror begins until the rule stops, whatever the link does meanwhile. The mirror and
the live records have a connection each, and share one row of seqs: the mirror ends before live records begin.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import trio

from i2core.api import (
    Capture,
    Channel,
    ClientTransport,
    Code,
    I2Error,
    LinkError,
    Peer,
    PeerRefused,
    Place,
    ProtocolError,
    StopRule,
)
from i2core.config.model import OrphanAction, Rule, Verify
from i2core.config.words import Spoken
from i2core.pipeline.chain import CodecChain
from i2core.pipeline.select import Drivers, open_codecs
from i2core.pipeline.throttle import Throttle, ThrottledStream
from i2core.rule.full import own_disk
from i2core.rule.life import Life
from i2core.rule.line import Line, Say
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.ledger import Ledger
from i2core.rule.live.live import Live
from i2core.rule.mirror.lister import Scope
from i2core.rule.mirror.mirror import Mirror
from i2core.rule.outgoing.outbox import Outbox
from i2core.rule.outgoing.spool import Quota, Spool
from i2core.rule.reading.catalog import Doubt
from i2core.rule.reading.source import Source
from i2core.rule.states import Cause, Event
from i2core.rule.status import RuleStatus
from i2core.rule.work.hello import hello
from i2core.rule.work.losses import Losses
from i2core.rule.work.opening import open_capture, open_source
from i2core.rule.work.resume import may_resume, selection
from i2core.rule.work.roots import watch_roots
from i2core.rule.work.watchdog import watch_session
from i2core.tasks import background
from i2core.wire.messages import ROOT_GONE, Ack, Hold
from i2core.wire.session import SeqCounter, Session, open_session

BACKOFF_S = (0.5, 30.0)
"""First and longest wait before connecting anew; each wait doubles, with jitter so that nodes do not come in step."""
ONCE_ATTEMPTS = 3
CATCH_FIRST_S = 0.5
"""The mirror waits so long for the capture; the first byte is to leave within a second."""
TICK_S = 0.2
UNNOTED_SEQS = 1 << 20
"""More than one run gives out before it notes how far it is."""


@attrs.frozen(kw_only=True)
class WorkRule:
    """A rule with the peer that receives it."""

    rule: Rule
    peer: Peer
    epoch: int = 1
    memory: Quota = attrs.field(factory=lambda: Quota(256_000_000))
    """Bytes of records that are not durable on the replica; rules may share it."""
    disk: Quota = attrs.field(factory=lambda: Quota(4_096_000_000))
    cache_dir: Path | None = None
    """Where records wait on disk; None: only in memory."""
    throttle: Throttle = attrs.field(factory=Throttle)
    """Limits what is sent; those that nobody sets are none."""
    compare: bool = False
    """Compare everything, whatever an earlier run left."""
    release_step: str = ""
    """How a held delete goes on where no daemon has the replica, so that nobody could be told to release it."""


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
    with own_disk(state_dir):
        async with open_source(work.rule, registry, status, state_dir, say) as source:
            if life is None:
                life = Life(status, say)
                life.advance(Event.START)
            runner = _Runner(work, registry, transport, source, once, life)
            async with runner.restored(), background() as nursery:
                nursery.start_soon(runner.catch, open_capture(work.rule, registry, source))
                nursery.start_soon(runner.rescan)
                nursery.start_soon(runner.tell)
                nursery.start_soon(watch_roots, source, runner.is_settled, runner.has_lost_a_root)
                await runner.run()
                runner.tell_now()


class _Runner:
    """One run of one rule."""

    def __init__(
        self,
        work: WorkRule,
        registry: Drivers,
        transport: ClientTransport,
        source: Source,
        once: bool,
        life: Life,
    ) -> None:
        self._work = work
        self._registry = registry
        self._transport = transport
        self._source = source
        self._status = source.status
        self._once = once
        kept_seq = source.catalog.fact("next_seq")
        # What a killed run gave out behind its last note is not given out again.
        self._seqs = SeqCounter(1 if kept_seq is None else kept_seq if source.clean else kept_seq + UNNOTED_SEQS)
        self._dirty = DirtySet()
        spool = Spool(work.cache_dir / source.key, work.disk) if work.cache_dir is not None else None
        self._outbox = Outbox(work.memory, spool)
        self._ledger = Ledger()
        self._live = Live(source, self._dirty, self._seqs, self._outbox, self._ledger)
        self._life = life
        self._session: Session | None = None
        self._wire_bytes = 0
        self._fruitful = False
        self._begun = False
        self._hold_reason = ""
        self._lost_a_root = False
        self._catching = trio.Event()
        whole = source.catalog.fact("left_out") != 1
        known = whole and may_resume(source.catalog, work.rule, work.epoch, clean=source.clean)
        self._resumed = known and not (once or work.compare)

    @asynccontextmanager
    async def restored(self) -> AsyncIterator[None]:
        """Takes up what the run before left, and leaves what this one has."""
        catalog = self._source.catalog
        if self._resumed and catalog.fact("outgrown") == 1:
            # Sent again, it would fill the disk again, whatever was removed meanwhile. What it was about is in doubt.
            await trio.to_thread.run_sync(self._outbox.clear)
        await trio.to_thread.run_sync(self._live.restore if self._resumed else self._live.forget)
        catalog.set_fact("outgrown", 0)
        try:
            yield
        except StopRule as error:
            catalog.set_fact("outgrown", int(error.code is Code.REPLICA_FULL))
            raise
        finally:
            self._live.leave()

    # ------------------------------------------------------------------------------------------ beside the session

    async def catch(self, opening: AbstractAsyncContextManager[Capture]) -> None:
        """Feeds the dirty set."""
        losses = Losses(self._source)
        async with opening as capture:
            if self._begun or self._resumed:
                # It watches only now (a watch for each of very many directories takes its time): what changed since
                # the mirror listed it, or since the run before, is found by comparing with the catalog.
                self._look_at_all()
            self._catching.set()
            async for changes in capture.changes():
                self._dirty.add(changes)
                losses.tell(changes)

    def _look_at_all(self) -> None:
        self._dirty.add_places([Place(root, b"") for root in range(len(self._source.trees))], tree=True)

    async def rescan(self) -> None:
        """Looks, now and then, for what no event tells."""
        every = self._work.rule.rescan_s
        while every > 0:
            await trio.sleep(every)
            self._look_at_all()

    def has_lost_a_root(self) -> bool:
        """True when its removal was released: the replica of it is empty, whatever the catalog says."""
        return self._lost_a_root

    def is_settled(self) -> bool:
        """True when all that was caught is durable on the replica."""
        return self._live.settled

    async def tell(self) -> None:
        """Keeps the status fresh."""
        while True:
            self.tell_now()
            await trio.sleep(TICK_S)

    def tell_now(self) -> None:
        """Figures that follow from others."""
        status, session = self._status, self._session
        status.captured = self._dirty.captured
        status.oldest_pending_ns = self._live.oldest_ns
        status.wire_bytes = self._wire_bytes + (session.wire_bytes if session else 0)
        status.lag_bytes = self._outbox.size
        status.spool_bytes = self._outbox.spool_bytes
        status.seq = self._seqs.next - 1
        if self.is_settled():
            status.settled_ns = time.monotonic_ns()

    # ------------------------------------------------------------------------------------------ the life

    async def run(self) -> None:
        """Connects and works, again and again until told to stop."""
        if self._resumed:
            self._advance(Event.RESUMED)
            self._status.mirrored = True
        with trio.move_on_after(CATCH_FIRST_S):
            await self._catching.wait()
        self._begun = True
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
        async with self._open(Channel.REPLICATION) as session:
            self._back()
            # A replica that has lost what it called durable is not the one that was mirrored.
            lost = session.welcome.durable_seq < self._ledger.durable_seq
            if lost:
                told, known = session.welcome.durable_seq, self._ledger.durable_seq
                cause = f"it had record {known} safe, and now says {told}; both sides are compared anew"
                line = Line(f"{self._work.peer.name}: {cause}", obj=self._work.peer.name, cause=cause)
                self._source.say(self._source.rule, Code.ILLEGAL_TASK, line)
            if lost or not self._life.phase.mirrored:
                if lost or not session.welcome.exact:
                    self._distrust()
                await self._mirror()
            await self._catching.wait()
            await self._live.run(session, until_quiet=self._once)
            await session.settle()

    def _distrust(self) -> None:
        """Files of the replica may have the right size and time, and not the content, since what made them was lost or
        failed: until a mirror is done, content is compared, whatever the rule says."""
        self._source.catalog.set_fact("distrusted", 1)
        self._source.catalog.commit()

    async def _mirror(self) -> None:
        """Compares all with the replica. Marks that came before are covered by it."""
        rule = self._work.rule
        self._advance(Event.LISTING_BEGUN)
        catalog = self._source.catalog
        await trio.to_thread.run_sync(self._live.forget)
        catalog.set_fact("left_out", 0)
        async with self._open(Channel.MIRROR) as session:
            self._advance(Event.MIRROR_BEGUN)
            strict = rule.mirror.verify is Verify.STRICT or catalog.fact("distrusted") == 1
            mirror = Mirror(self._source, session, orphans=True, strict=strict)
            scopes = [Scope(Place(root, b"")) for root in range(len(self._source.trees))]
            await mirror.run(scopes)
            await session.settle()
        self._live.doubt(await trio.to_thread.run_sync(self._unsettled, mirror))
        if not self._once:
            # Live, each new object is looked up by its inode.
            await trio.to_thread.run_sync(catalog.unfold)
        self._live.keep_doubts()
        catalog.set_fact("selection", selection(rule, self._work.epoch))
        catalog.set_fact("mirrored", 1)
        catalog.set_fact("distrusted", 0)
        catalog.commit()
        self._status.mirrored = True
        self._advance(Event.MIRROR_DONE)

    def _unsettled(self, mirror: Mirror) -> list[Doubt]:
        """What the mirror could not compare, for it was moving. With orphans that stay, so does what it would find."""
        catalog, missed = self._source.catalog, sorted(mirror.missed)
        if self._work.rule.orphans.action is not OrphanAction.DELETE:
            missed = []
        return [*mirror.unsettled, *(catalog.doubt_at(place, deep=True) for place in missed)]

    # ------------------------------------------------------------------------------------------ sessions

    @asynccontextmanager
    async def _open(self, channel: Channel) -> AsyncIterator[Session]:
        rule = self._work.rule
        greeting = hello(rule, channel, self._work.epoch)
        async with self._producing() if channel is Channel.REPLICATION else contextlib.nullcontext():
            connected = await self._transport.connect(self._work.peer, channel)
        stream = ThrottledStream(connected, self._work.throttle)
        async with contextlib.AsyncExitStack() as stack:
            codecs: CodecChain = await stack.enter_async_context(open_codecs(self._registry, rule.codecs, rule.name))
            session = await stack.enter_async_context(
                open_session(stream, greeting, codecs, self._seqs, on_ack=self._acked, on_hold=self._held)
            )
            session.nursery.start_soon(
                watch_session, session, stream, self._work.throttle, lambda: self._status.held, self._work.peer.name
            )
            # Also when nothing is sent in this run.
            self._status.durable_seq = max(self._status.durable_seq, session.welcome.durable_seq)
            before, self._session = self._session, session
            try:
                yield session
            finally:
                self._session = before
                self._wire_bytes += session.wire_bytes
                self._source.catalog.set_fact("next_seq", self._seqs.next)

    def _acked(self, ack: Ack) -> None:
        self._fruitful = True
        self._status.applied_seq = max(self._status.applied_seq, ack.applied_seq)
        self._status.durable_seq = max(self._status.durable_seq, ack.durable_seq)
        if ack.failures:
            if not self._life.phase.mirrored:
                self._distrust()
            skipped = self._status.skipped_count
            self._live.failed([record.failure() for record in ack.failures])
            if self._status.skipped_count > skipped:
                # It is not looked at again in this run; what stood in its way may be gone at the next start.
                self._source.catalog.set_fact("left_out", 1)
        self._ledger.answered(ack.applied_seq)
        self._ledger.durable(ack.durable_seq)
        self._outbox.durable(ack.durable_seq)

    def _held(self, hold: Hold) -> None:
        self._status.held = hold.on
        if hold.on:
            self._hold_reason = hold.reason
        elif self._hold_reason == ROOT_GONE:
            self._lost_a_root = True
            self._source.catalog.set_fact("mirrored", 0)
            self._source.catalog.commit()
        rule, node = self._source.rule, self._work.peer.name
        step = self._work.release_step or Spoken.of(
            f"if it is meant: i2 rule release {rule} on {node}; if not: put the files back, and here "
            f"i2 rule start {rule} --compare",
            f"若确属本意，请在 {node} 上执行 i2 rule release {rule}；若非本意，请恢复文件，并在本节点执行 "
            f"i2 rule start {rule} --compare",
        )
        held = I2Error(hold.reason, code=Code.MASS_DELETE_HELD, next_step=step)
        self._advance(Event.HELD if hold.on else Event.RELEASED, held if hold.on else None)
        if not hold.on:
            self._source.say(self._source.rule, None, "released by the backup node")

    # ------------------------------------------------------------------------------------------ states

    def _advance(self, event: Event, error: I2Error | None = None) -> None:
        self._life.advance(event, error)

    def _lost(self, error: I2Error) -> None:
        if self._life.phase.cause is Cause.LINK:
            self._advance(Event.LINK_RETRYING, error)
        else:
            self._status.held = False
            self._advance(Event.LINK_LOST, error)

    def _back(self) -> None:
        if self._life.phase.state.value in ("abnormal", "invalid"):
            self._advance(Event.LINK_BACK)
            self._source.say(self._source.rule, Code.NETWORK, "the link is back")
