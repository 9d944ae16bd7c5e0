"""Opens the sessions of a rule: connects, sends the greeting, and watches the session for stalls until it ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from i2core.api import Channel, ClientTransport
from i2core.drivers.chain import CodecChain
from i2core.drivers.select import Drivers, open_codecs
from i2core.limits.throttle import ThrottledStream
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.source.source import Source
from i2core.rule.work.hello import hello
from i2core.rule.work.watchdog import detect_stall
from i2core.rule.work.work_rule import WorkRule
from i2core.wire.messages import Ack, Hold
from i2core.wire.session import Session, open_session


class Connector:
    """Opens sessions for one run of a rule. A mirror opens a second one while the first is idle; both share one
    sequence of seqs."""

    def __init__(
        self,
        work: WorkRule,
        registry: Drivers,
        transport: ClientTransport,
        source: Source,
        outgoing: Outgoing,
        *,
        on_ack: Callable[[Ack], None],
        on_hold: Callable[[Hold], None],
    ) -> None:
        self._work = work
        self._registry = registry
        self._transport = transport
        self._source = source
        self._outgoing = outgoing
        self._on_ack = on_ack
        self._on_hold = on_hold
        self._session: Session | None = None
        self._closed_bytes = 0

    @property
    def wire_bytes(self) -> int:
        """Bytes on the link in this run, both ways."""
        return self._closed_bytes + (self._session.wire_bytes if self._session else 0)

    @asynccontextmanager
    async def open(
        self, channel: Channel, *, meanwhile: AbstractAsyncContextManager[None] | None = None
    ) -> AsyncIterator[Session]:
        """A session until the body ends. `meanwhile` is entered only while it connects, which may take long.

        Raises:
            LinkError, ProtocolError: the link broke, here or later in the body.
            StopRule: the backup node refused, or reported a fault that a person must deal with.
        """
        work, status = self._work, self._source.status
        greeting = hello(work.rule, channel, work.epoch, self._registry)
        async with meanwhile or contextlib.nullcontext():
            connected = await self._transport.connect(work.peer, channel)
        stream = ThrottledStream(connected, work.throttle)
        async with contextlib.AsyncExitStack() as stack:
            codecs: CodecChain = await stack.enter_async_context(
                open_codecs(self._registry, work.rule.codecs, work.rule.name)
            )
            session = await stack.enter_async_context(
                open_session(stream, greeting, codecs, self._outgoing.seqs, on_ack=self._on_ack, on_hold=self._on_hold)
            )
            session.nursery.start_soon(
                detect_stall, session, stream, work.throttle, lambda: status.held, work.peer.name
            )
            before, self._session = self._session, session
            self._outgoing.welcomed(session.welcome.durable_seq, first=before is None)
            try:
                yield session
            finally:
                self._session = before
                self._closed_bytes += session.wire_bytes
                self._source.catalog.memory.note(next_seq=self._outgoing.seqs.next)
