"""Makes applied records durable: once for each window, not once for each file.

The window runs concurrently with the applying of records: one sync of the file system covers all records applied before
it."""

from __future__ import annotations

import trio

from i2core.api import Channel, Sink
from i2core.config.model import FlushWindow
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.acks import Acknowledger
from i2core.rule.backup.session.progress_signal import ProgressSignal
from i2core.rule.backup.session.unflushed import Unflushed

MIRROR_WINDOW = FlushWindow(after_s=2.0, size=256 << 20)
"""An interrupted mirror is compared again, so its window is long."""
ROOTS_S = 10.0
"""How often an idle session checks that its targets are there."""


def flush_window(channel: Channel, replication: FlushWindow) -> FlushWindow:
    """The window of a session; `replication` is the configured one, for live records."""
    return MIRROR_WINDOW if channel is Channel.MIRROR else replication


class DurabilityWindow:
    """The flushes of one session."""

    def __init__(
        self,
        sink: Sink,
        replica: Replica,
        unflushed: Unflushed,
        acks: Acknowledger,
        signal: ProgressSignal,
        *,
        after_s: float,
    ) -> None:
        """`after_s`: a flush begins so long after the first change, or when `unflushed` is full."""
        self._sink = sink
        self._replica = replica
        self._unflushed = unflushed
        self._acks = acks
        self._signal = signal
        self._after_s = after_s

    async def run(self) -> None:
        """Flushes after each window in which something changed."""
        while True:
            await self._unflushed.wait()
            with trio.move_on_after(self._after_s):
                await self._unflushed.wait_until_full()
            await self.flush(report=True)

    async def flush(self, *, report: bool) -> None:
        """Syncs the applied records, saves the position, and only then acknowledges them as durable (`report`).

        Raises:
            StopRule: data or position cannot be made durable.
        """
        async with self._replica.flush_lock:
            if self._unflushed.any:
                self._unflushed.clear()
                with self._signal.at_work():
                    await self._make_durable()
        if report:
            await self._acks.report()

    async def close(self) -> None:
        """The session ends: what it has applied becomes durable, unless the history of the replica is broken. Then what
        is not durable is undone when it is opened again.

        Raises:
            StopRule: as `flush`.
        """
        history = self._replica.recording.current
        if history is None or history.recorder.broken is None:
            await self.flush(report=False)

    async def _make_durable(self) -> None:
        if self._replica.recording.current is not None:
            await self._replica.recording.make_durable()
            return
        # The position is taken before the sync: records applied while it runs may not be on disk when it ends.
        goal, exchanges = self._unflushed.last_seq, self._replica.exchanges
        await self._sink.flush()
        await self._replica.mark_durable(goal, exchanges)

    async def watch_roots(self) -> None:
        """Has an idle session flush from time to time, which checks that the roots are where they were.

        Without it, an idle rule would not notice that its replica was moved away or unmounted, and would report no
        error."""
        while True:
            await trio.sleep(ROOTS_S)
            if not self._unflushed.any:
                async with self._replica.flush_lock:
                    await self._sink.flush()
