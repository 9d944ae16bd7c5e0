"""Turns the replica back: has the records of a `Rewind` carried out, as many at a time as memory has room for.

    Rewind ──records──▶ Recorder (plan, journal, index) ──▶ Carrier ──▶ replica

Whatever breaks it off, it can be begun again: what is right already needs no record. Afterwards the present is compared
with the moment, by what the history knows of both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

import attrs

from i2core.api import Failure, Record, in_thread
from i2core.api.journal import SegmentGone
from i2core.history.plan.step import Restore
from i2core.history.read.difference import Difference
from i2core.history.read.past import Past
from i2core.history.record.history import History
from i2core.history.rewind.carrier import Carrier
from i2core.history.rewind.rewind import Rewind

BATCH_RECORDS = 256
BATCH_BYTES = 1 << 20
FLUSH_BYTES = 64 << 20
"""A crash takes back at most so much of what was written, or `FLUSH_RECORDS`."""
FLUSH_RECORDS = 20_000
ATTEMPTS = 3
T = TypeVar("T")
Step = Record | Restore


@attrs.define
class Progress:
    """How far it is."""

    records: int = 0
    bytes: int = 0


class Turned(NamedTuple):
    """What became of it."""

    records: int
    bytes: int
    failures: list[Failure]
    """Of the last attempt."""
    equal: bool
    """The replica is as it was at the moment, by all that the history knows."""


class Turning:
    """Turns one replica back to a moment that the caller has pinned. Nobody else changes the replica meanwhile."""

    def __init__(self, history: History, seq: int, flush: Callable[[], Awaitable[None]]) -> None:
        """`flush`: makes durable what is carried out, and saves the position."""
        self._history, self._seq, self._flush = history, seq, flush
        self._carrier = Carrier(history.replica, history.recorder.reported)
        self._unflushed = Progress()
        self.progress = Progress()

    async def run(self) -> Turned:
        """All of it.

        Cancellation: as far as it has come, all agrees; it can be begun again.

        Raises:
            StopRule, LinkError: as `Recorder.apply`.
            OSError: the replica cannot be read.
        """
        failures: list[Failure] = []
        for _ in range(ATTEMPTS):
            try:
                failures = await self._attempt()
            except SegmentGone:  # retention has merged what was about to be read
                continue
            if not failures:
                break
        await self._flush()
        return Turned(self.progress.records, self.progress.bytes, failures, await self._is_equal())

    async def _attempt(self) -> list[Failure]:
        past = self._history.past()
        try:
            rewind = await self._turn(lambda: Rewind(past, self._seq))
            failures = await self._apply_all(iter(await self._turn(lambda: list(rewind.names()))))
            failures += await self._apply_all(rewind.contents())
            return failures + await self._apply_all(rewind.attributes())
        finally:
            await self._turn(past.places.close)

    async def _turn(self, work: Callable[[], T]) -> T:
        def worked() -> T:
            with self._history.reading:
                return work()

        return await in_thread(worked)

    async def _apply_all(self, records: Iterator[Step]) -> list[Failure]:
        failures: list[Failure] = []
        while batch := await self._turn(lambda: self._next(records)):
            done = await self._history.recorder.carry(self._carrier.carry, 1 - len(batch), batch)
            failures += done.failures
            size = sum(map(_size, batch))
            for progress in (self.progress, self._unflushed):
                progress.records += len(batch)
                progress.bytes += size
            if self._unflushed.bytes >= FLUSH_BYTES or self._unflushed.records >= FLUSH_RECORDS:
                self._unflushed = Progress()
                await self._flush()
        return failures

    def _next(self, records: Iterator[Step]) -> list[Step]:
        """The next batch, with the time at which it is planned."""
        batch: list[Step] = []
        size, now_ns = 0, self._history.clock.now_ns()
        for record in islice(records, BATCH_RECORDS):
            batch.append(record._replace(time_ns=now_ns))
            size += _size(record)
            if size >= BATCH_BYTES:
                break
        return batch

    async def _is_equal(self) -> bool:
        past: Past = self._history.past()
        try:
            differing = await self._turn(Difference(past, self._seq, self._history.seq).objects)
            return await self._turn(lambda: next(differing, None)) is None
        finally:
            await self._turn(past.places.close)


def _size(record: Step) -> int:
    return len(record.data) if isinstance(record, Record) else 0
