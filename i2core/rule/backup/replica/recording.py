"""The history of one replica while it is in use: opened by the first user, a session or somebody who reads the past,
and closed by the last one.

    wanted ──first mirror is done──▶ begun ──▶ open ◀── sessions, readers
                                       ▲        │
                                       └────────┴── broken: opened again, which takes the replica back

Nothing is applied without the history once it has begun: where it cannot be opened, the session is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from i2core.api import Code, I2Error, Line
from i2core.history.record.durable import CannotGoOn, Durable

if TYPE_CHECKING:
    from i2core.history.record.history import History
    from i2core.rule.backup.replica.replica import Replica

Open = Callable[[Durable | None], "AbstractAsyncContextManager[History]"]
"""Opens the history of the replica, or (None) begins one."""


class Recording:
    """For the replica that it belongs to."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._users = 0
        self._open = AsyncExitStack()
        self._changing = trio.Lock()
        """Held while it is opened or closed; taken after `Replica.apply_lock`."""
        self.current: History | None = None
        """The open history; None: there is none, or nobody uses it."""

    @property
    def wanted(self) -> bool:
        """The rule has asked for a history."""
        return bool(self._replica.position.cdp)

    @property
    def begun(self) -> bool:
        """There is a history, open or not."""
        return bool(self._replica.position.history)

    @property
    def used_now(self) -> bool:
        """Somebody uses the history, or opens it."""
        return self._users > 0

    def reported(self, seq: int) -> bool:
        """For `SinkContext.applied`; False when there is no history."""
        if self.current is None:
            return False
        self.current.recorder.reported(seq)
        return True

    @asynccontextmanager
    async def used(self, open_: Open, end_others: Callable[[], None]) -> AsyncIterator[History | None]:
        """Within the block the history is open, if it has begun. Opening it takes the replica back to its durable
        position, which `Replica.progress` tells then. `end_others` ends all other sessions of the replica: they have
        reported records that may be undone, and nobody would send them again.

        Raises:
            StopRule: it cannot be opened.
        """
        async with self.held():
            if not self._is_usable():
                async with self._replica.apply_lock, self._replica.flush_lock, self._changing:
                    await self._enter(open_, end_others)
            yield self.current

    @asynccontextmanager
    async def held(self) -> AsyncIterator[History | None]:
        """Within the block the history stays open if it is. For who holds a lock of the replica (else it may be opened
        again): a session that is beginning changes the replica while the one before it ends."""
        self._users += 1
        try:
            yield self.current
        finally:
            self._users -= 1
            with trio.CancelScope(shield=True):
                async with self._changing:
                    if not self._users:
                        await self._close()

    def _is_usable(self) -> bool:
        history, position = self.current, self._replica.position
        if history is None:
            return not self.begun
        same = (history.flags, history.epoch) == (position.flags, position.epoch)
        return self.begun and same and history.recorder.broken is None

    async def _enter(self, open_: Open, end_others: Callable[[], None]) -> None:
        """Opens the history, unless another one has done so meanwhile. What is open and of no use any more is closed
        for whoever still reads in it."""
        if self._is_usable():
            return
        end_others()
        await self._close()
        if not self.begun:
            return
        replica = self._replica
        try:
            self.current = await self._entered(open_, Durable.decode(replica.position.history))
        except (CannotGoOn, ValueError) as error:
            self._say_ended(error)
            await replica.end_history()
            return
        replica.progress.go_back(replica.durable_seq)

    async def begin(self, open_: Open) -> None:
        """The history begins with the replica as it stands, if the rule wants one and there is none. Called while
        nothing is applied.

        Raises:
            StopRule: it cannot begin.
        """
        if self.begun or not self.wanted:
            return
        replica = self._replica
        async with replica.flush_lock, self._changing:
            history = await self._entered(open_, None)
            try:
                await self.flush_sinks()
                seq = replica.progress.applied_seq
                await replica.mark_durable(seq, replica.exchanges, history.durable, history.journal.identity)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._close()
                raise
            self.current = history

    async def make_durable(self) -> None:
        """What any session has applied is durable, and the position of the history with it. For whoever holds
        `Replica.flush_lock`, and only while there is a history.

        Raises:
            StopRule: data or position cannot be made durable.
        """
        history, replica = self.current, self._replica
        assert history is not None
        # Positions are taken before the sync: records applied while it runs may not be on disk when it ends.
        exchanges = replica.exchanges
        async with history.recorder.certain() as durable:
            goal = replica.progress.applied_seq
        await self.flush_sinks()
        await replica.mark_durable(goal, exchanges, durable)
        history.durable = durable

    async def flush_sinks(self) -> None:
        """Makes durable what any session has applied: one position counts for all of them.

        Raises:
            StopRule: the data may be lost; the history must be opened again.
        """
        try:
            for sink in list(self._replica.sinks):
                await sink.flush()
        except I2Error as error:
            if self.current is not None:
                self.current.recorder.broken = error
            raise

    async def _entered(self, open_: Open, durable: Durable | None) -> History:
        async with AsyncExitStack() as stack:
            history = await stack.enter_async_context(open_(durable))
            self._open = stack.pop_all()
        return history

    async def _close(self) -> None:
        self.current = None
        opened, self._open = self._open, AsyncExitStack()
        await opened.aclose()

    def _say_ended(self, error: Exception) -> None:
        cause = f"the history of the replica ends: {error}; the rule is mirrored again"
        self._replica.say(Code.HISTORY_ENDED, Line(cause, code=Code.HISTORY_ENDED, cause=cause))
