"""The outbox: batches from when they are made until they are durable on the replica, in seq order.

While the link is there it holds a window; while the link is away it is where history gathers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import trio

from i2core.wire.session import Sealed


class Outbox:
    """Batches in memory. For one task at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._emptied = trio.Event()
        self._batches: deque[Sealed] = deque()
        self.size = 0
        """Bytes that it holds."""

    def put(self, batch: Sealed) -> None:
        """Takes a batch; its seqs lie above all that came before."""
        self._batches.append(batch)
        self.size += len(batch.raw)

    async def wait_for_room(self) -> None:
        """Returns when it can take more."""
        while self.size >= self._limit:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def clear(self) -> None:
        """Forgets all."""
        self._batches.clear()
        self.size = 0
        self._emptied.set()

    def durable(self, seq: int) -> None:
        """Batches up to `seq` are not needed any more."""
        while self._batches and self._batches[0].last_seq <= seq:
            self.size -= len(self._batches.popleft().raw)
            self._emptied.set()

    def after(self, seq: int) -> Iterator[Sealed]:
        """The batches that hold anything above `seq`; others may come and go meanwhile."""
        while True:
            batch = next((each for each in self._batches if each.last_seq > seq), None)
            if batch is None:
                return
            yield batch
            seq = batch.last_seq
