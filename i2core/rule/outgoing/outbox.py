"""The outbox: keeps batches from when they are made until they are durable on the replica, in seq order.

While the link is up it holds the batches in flight. While the link is down, batches collect in it: in memory up to a
limit, then in the spool up to another. When both are used up it is full, and changes are only marked until there is
room.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import trio

from i2core.api import Line
from i2core.config.words import bilingual
from i2core.rule.outgoing.spool import Quota, Spool, SpoolEntry
from i2core.wire.batch import EncodedBatch

ROOM_BYTES = 2 * 1024 * 1024
"""The largest size of a batch: there is room while at least so much is free."""

OTHERS_S = 1.0
"""Other rules that share the limits make room without an event, so it is checked this often."""


class RestoredBatch(NamedTuple):
    """A batch that the spool kept across a restart."""

    last_seq: int
    since_ns: int


class _InMemory(NamedTuple):
    batch: EncodedBatch
    since_ns: int

    @property
    def last_seq(self) -> int:
        return self.batch.last_seq


class Outbox:
    """Batches in memory and in the spool; without a spool, in memory only. May be used by several threads."""

    def __init__(self, memory: Quota, spool: Spool | None) -> None:
        self._memory = memory
        self._spool = spool
        self._items: deque[_InMemory | SpoolEntry] = deque()
        self._lock = threading.Lock()
        self._emptied = trio.Event()
        self.size = 0
        """Bytes of batches that wait or are in flight."""

    @property
    def spool_bytes(self) -> int:
        """Bytes on disk."""
        return self._spool.size if self._spool is not None else 0

    @property
    def has_room(self) -> bool:
        """True when another batch fits."""
        return self._memory.left >= ROOM_BYTES or (self._spool is not None and self._spool.has_room(ROOM_BYTES))

    @property
    def lack(self) -> Line:
        """The limits that are used up, while there is no room."""
        used_up = bilingual("memory_limit is used up", "memory_limit 已用尽")
        lack = self._spool.lack(ROOM_BYTES) if self._spool is not None else None
        return Line(used_up) if lack is None else Line(f"{used_up}; {lack}", obj=lack.obj)

    def open(self) -> Iterator[RestoredBatch]:
        """Loads the batches that the spool kept across a restart, in seq order.

        Raises:
            OSError: it cannot be read.
        """
        for entry in self._spool.open() if self._spool is not None else ():
            self._items.append(entry)
            self.size += entry.size
            yield RestoredBatch(entry.last_seq, entry.since_ns)

    def put(self, batch: EncodedBatch, since_ns: int) -> None:
        """Adds a batch. Its seqs are above those of all batches before. No batch is refused: the caller checks
        `has_room` before it makes one."""
        with self._lock:
            if self._spool is not None and (self.spool_bytes or self._memory.left < len(batch.raw)):
                entry = self._spooled(self._spool, batch, since_ns)
                if entry is not None:
                    self._items.append(entry)
                    self.size += entry.size
                    return
            self._items.append(_InMemory(batch, since_ns))
            self.size += len(batch.raw)
            self._memory.used += len(batch.raw)

    def durable(self, seq: int) -> None:
        """Records up to `seq` are durable: removes their batches."""
        with self._lock:
            while self._items and self._items[0].last_seq <= seq:
                self._forget(self._items.popleft())
            if self._spool is not None:
                self._spool.durable(seq)
        self._emptied.set()

    def after(self, seq: int) -> EncodedBatch | None:
        """The first batch that contains a seq above `seq`, read from disk if necessary.

        Raises:
            OSError: the spool cannot be read.
        """
        with self._lock:
            item = next((each for each in self._items if each.last_seq > seq), None)
            if isinstance(item, SpoolEntry):
                assert self._spool is not None
                return self._spool.read(item)
            return None if item is None else item.batch

    async def wait_for_room(self, least: int = 0) -> None:
        """Returns when another batch fits, or when the outbox has less than `least` bytes."""
        while not self.has_room and self.size >= least:
            self._emptied = trio.Event()
            with trio.move_on_after(OTHERS_S):
                await self._emptied.wait()

    def clear(self) -> None:
        """Removes all batches, also those that an earlier run left.

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
        """The rule ends: batches in memory are moved to the spool, if there is one. Batches that do not fit are
        dropped: the catalog lists their places as unverified, so the next run compares their places."""
        if self._spool is not None:
            for item in self._items:
                if isinstance(item, _InMemory) and self._spooled(self._spool, item.batch, item.since_ns) is None:
                    break
            self._spool.close()
        self._memory.used -= sum(len(item.batch.raw) for item in self._items if isinstance(item, _InMemory))
        self._items.clear()

    @staticmethod
    def _spooled(spool: Spool, batch: EncodedBatch, since_ns: int) -> SpoolEntry | None:
        """Appends the batch to the spool. Returns its entry; None when there is no room for it."""
        if not spool.has_room(len(batch.raw)):
            return None
        try:
            return spool.append(batch, since_ns)
        except OSError:
            return None

    def _forget(self, item: _InMemory | SpoolEntry) -> None:
        if isinstance(item, SpoolEntry):
            self.size -= item.size
        else:
            self.size -= len(item.batch.raw)
            self._memory.used -= len(item.batch.raw)
