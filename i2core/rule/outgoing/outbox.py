"""The outbox: batches from when they are made until they are durable on the replica, in seq order.

While the link is there it holds a window. While the link is away history gathers in it: in memory up to a limit, then
in the spool up to another. When both are used up it is full, and what changes is only marked until there is room.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import trio

from i2core.rule.outgoing.spool import Quota, Slip, Spool
from i2core.wire.session import Sealed

ROOM_BYTES = 2 * 1024 * 1024
"""A batch may be as large as that: there is room while so much is free."""

OTHERS_S = 1.0
"""Others who share the limits make room without telling."""


class Kept(NamedTuple):
    """A batch that was kept across a restart."""

    last_seq: int
    since_ns: int


class _InMemory(NamedTuple):
    batch: Sealed
    since_ns: int

    @property
    def last_seq(self) -> int:
        return self.batch.last_seq


class Outbox:
    """Batches in memory and in the spool; without a spool in memory alone. Threads may share it."""

    def __init__(self, memory: Quota, spool: Spool | None) -> None:
        self._memory = memory
        self._spool = spool
        self._items: deque[_InMemory | Slip] = deque()
        self._lock = threading.Lock()
        self._emptied = trio.Event()
        self.size = 0
        """Bytes that wait, or are on their way."""

    @property
    def spool_bytes(self) -> int:
        """Bytes on disk."""
        return self._spool.size if self._spool is not None else 0

    @property
    def has_room(self) -> bool:
        """True when a batch more fits in."""
        return self._memory.left >= ROOM_BYTES or (self._spool is not None and self._spool.has_room(ROOM_BYTES))

    def open(self) -> Iterator[Kept]:
        """What the spool kept across a restart, in seq order.

        Raises:
            OSError: it cannot be read.
        """
        for slip in self._spool.open() if self._spool is not None else ():
            self._items.append(slip)
            self.size += slip.size
            yield Kept(slip.last_seq, slip.since_ns)

    def put(self, batch: Sealed, since_ns: int) -> None:
        """Takes a batch; its seqs lie above all that came before. Never refuses: who makes batches asks for room."""
        with self._lock:
            if self._spool is not None and (self.spool_bytes or self._memory.left < len(batch.raw)):
                slip = self._spooled(self._spool, batch, since_ns)
                if slip is not None:
                    self._items.append(slip)
                    self.size += slip.size
                    return
            self._items.append(_InMemory(batch, since_ns))
            self.size += len(batch.raw)
            self._memory.used += len(batch.raw)

    def durable(self, seq: int) -> None:
        """Batches up to `seq` are not needed any more."""
        with self._lock:
            while self._items and self._items[0].last_seq <= seq:
                self._forget(self._items.popleft())
            if self._spool is not None:
                self._spool.durable(seq)
        self._emptied.set()

    def after(self, seq: int) -> Sealed | None:
        """The first batch that holds anything above `seq`; reads it from disk if need be.

        Raises:
            OSError: the spool cannot be read.
        """
        with self._lock:
            item = next((each for each in self._items if each.last_seq > seq), None)
            if isinstance(item, Slip):
                assert self._spool is not None
                return self._spool.read(item)
            return None if item is None else item.batch

    async def wait_for_room(self, least: int = 0) -> None:
        """Returns when a batch more fits in, or when it holds less than `least` bytes."""
        while not self.has_room and self.size >= least:
            self._emptied = trio.Event()
            with trio.move_on_after(OTHERS_S):
                await self._emptied.wait()

    def clear(self) -> None:
        """Forgets all, also what an earlier run left.

        Raises:
            OSError: it cannot be removed.
        """
        with self._lock:
            while self._items:
                self._forget(self._items.popleft())
            if self._spool is not None:
                for _ in self._spool.open():
                    pass
                self._spool.clear()
        self._emptied.set()

    def close(self) -> None:
        """The rule ends: what is in memory goes to disk, where there is one; what cannot is in doubt anyway."""
        if self._spool is not None:
            for item in self._items:
                if isinstance(item, _InMemory) and self._spooled(self._spool, item.batch, item.since_ns) is None:
                    break
            self._spool.close()
        self._memory.used -= sum(len(item.batch.raw) for item in self._items if isinstance(item, _InMemory))
        self._items.clear()

    @staticmethod
    def _spooled(spool: Spool, batch: Sealed, since_ns: int) -> Slip | None:
        """Where the batch lies now; None when there is no room for it."""
        if not spool.has_room(len(batch.raw)):
            return None
        try:
            return spool.append(batch, since_ns)
        except OSError:
            return None

    def _forget(self, item: _InMemory | Slip) -> None:
        if isinstance(item, Slip):
            self.size -= item.size
        else:
            self.size -= len(item.batch.raw)
            self._memory.used -= len(item.batch.raw)
