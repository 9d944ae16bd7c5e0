"""The window of a session: which batches are in flight, and how far they are applied and durable."""

from __future__ import annotations

from collections import deque

import trio

from i2core.wire.messages import Ack

WINDOW_BYTES = 16 * 1024 * 1024
"""Most encoded bytes of batches in flight: sent and not yet applied."""


class Window:
    """Bounds what is sent and not yet applied, and follows the acks."""

    def __init__(self, durable_seq: int) -> None:
        self.applied_seq = 0
        self.durable_seq = durable_seq
        self._last_seq = 0
        self._flying: deque[tuple[int, int]] = deque()
        """Last seq and size of each batch in flight."""
        self._flying_bytes = 0
        self.acks = 0
        """How many acks have come."""
        self._moved = trio.Condition()

    @property
    def owed(self) -> bool:
        """True while a batch is not yet applied or durable."""
        return bool(self._flying) or self.durable_seq < self._last_seq

    async def room_for(self, size_bytes: int) -> None:
        """Returns when a batch of that size may be sent; one that is larger than the window goes alone."""
        async with self._moved:
            while self._flying_bytes and self._flying_bytes + size_bytes > WINDOW_BYTES:
                await self._moved.wait()

    def sent(self, last_seq: int, size_bytes: int) -> None:
        """A batch is in flight from now on."""
        self._flying.append((last_seq, size_bytes))
        self._flying_bytes += size_bytes
        self._last_seq = last_seq

    async def acknowledged(self, ack: Ack) -> None:
        """The backup node reports how far the batches are applied and durable."""
        async with self._moved:
            self.acks += 1
            self.applied_seq = max(self.applied_seq, ack.applied_seq)
            self.durable_seq = max(self.durable_seq, ack.durable_seq)
            while self._flying and self._flying[0][0] <= ack.applied_seq:
                self._flying_bytes -= self._flying.popleft()[1]
            self._moved.notify_all()

    async def durable(self, seq: int) -> None:
        """Returns when everything up to `seq` is durable."""
        async with self._moved:
            while self.durable_seq < seq:
                await self._moved.wait()

    async def more_acks(self, than: int) -> None:
        """Returns when more than that many acks have come."""
        async with self._moved:
            while self.acks <= than:
                await self._moved.wait()
