"""What a session has changed since its last flush, and how far its flushes reach."""

from __future__ import annotations

import trio


class Unflushed:
    """Set by every change of the replica by one session, cleared by the session's flush."""

    def __init__(self, full_bytes: int) -> None:
        """`full_bytes`: after so many bytes the window flushes early."""
        self._full_bytes = full_bytes
        self._bytes = 0
        self.last_seq = 0
        """A flush of this session makes records up to this one durable: those that were applied before the session
        began, and its own. It does not cover those of the other session, which has a sink of its own. The case that
        breaks without this: the mirror's session applies record 40, and a moment later the window of the replication
        session ends. Its sink has nothing to sync, and the power is cut."""
        self._changed = trio.Event()
        self._full = trio.Event()

    @property
    def any(self) -> bool:
        """True when there are changes to be flushed."""
        return self._changed.is_set()

    def note(self, size_bytes: int = 0, *, seq: int = 0) -> None:
        """Notes a change by a batch of that size. `seq`: all records up to this one are applied."""
        self._bytes += size_bytes
        self.last_seq = max(self.last_seq, seq)
        self._changed.set()
        if self._bytes >= self._full_bytes:
            self._full.set()

    def clear(self) -> None:
        """A flush begins: later changes belong to the next one."""
        self._changed, self._full, self._bytes = trio.Event(), trio.Event(), 0

    async def wait(self) -> None:
        """Waits for a change."""
        await self._changed.wait()

    async def wait_until_full(self) -> None:
        """Waits until `full_bytes` were changed."""
        await self._full.wait()
