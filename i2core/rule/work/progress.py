"""The status of a run: figures that are derived from others, and whether everything is replicated."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import trio

from i2core.rule.life.status import RuleStatus
from i2core.rule.live.dirty import DirtySet
from i2core.rule.live.replication import LiveReplication
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.work.catching import Catching
from i2core.rule.work.connector import Connector

TICK_S, SETTLED_TICK_S = 0.2, 2.0
"""Time between two checks of whether everything is replicated. The longer one is for rules at rest: hundreds of them
must cost almost nothing."""


class Progress:
    """Keeps the status of one run up to date."""

    def __init__(
        self,
        status: RuleStatus,
        dirty: DirtySet,
        live: LiveReplication,
        outgoing: Outgoing,
        catching: Catching,
        connector: Connector,
    ) -> None:
        self._status = status
        self._dirty = dirty
        self._live = live
        self._outgoing = outgoing
        self._catching = catching
        self._connector = connector

    def is_settled(self) -> bool:
        """True when all caught changes are durable on the replica."""
        return self._live.settled and not self._catching.unread()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """During the body, a reader of the status gets present figures; afterwards, those of the end."""
        self._status.look = self.show
        try:
            yield
        finally:
            self.show()
            self._status.look = lambda: None

    async def watch(self) -> None:
        """Checks from time to time, so that `settled_ns` is right even if nobody reads the status."""
        while True:
            self.show()
            await trio.sleep(SETTLED_TICK_S if self.is_settled() else TICK_S)

    def show(self) -> None:
        """Updates the derived figures."""
        status, outbox = self._status, self._outgoing.outbox
        status.captured = self._dirty.captured
        status.doubtful = self._live.backlog.doubtful
        status.oldest_pending_ns = self._live.backlog.oldest_ns
        status.wire_bytes = self._connector.wire_bytes
        status.lag_bytes = outbox.size
        status.spool_bytes = outbox.spool_bytes
        # Durable records were sent, even if the catalog that counted them is lost.
        status.seq = max(self._outgoing.seqs.next - 1, status.durable_seq)
        if self.is_settled():
            status.seen_settled_ns = time.monotonic_ns()
