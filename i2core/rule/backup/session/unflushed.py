"""Whether a replica was changed since its last flush, and by how many bytes."""

from __future__ import annotations

import trio


class Unflushed:
    """Set by every change of the replica, cleared by the flush."""

    def __init__(self, full_bytes: int) -> None:
        """`full_bytes`: after so many bytes the window flushes early."""
        self._full_bytes = full_bytes
        self._bytes = 0
        self._changed = trio.Event()
        self._full = trio.Event()

    @property
    def any(self) -> bool:
        """True when there are changes to be flushed."""
        return self._changed.is_set()

    def note(self, size_bytes: int = 0) -> None:
        """Notes a change by a batch of that size."""
        self._bytes += size_bytes
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
