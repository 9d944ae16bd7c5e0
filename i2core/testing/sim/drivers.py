"""The drivers of a simulated node: the installed ones, with the simulated capture and a watched sink."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from random import Random
from typing import Any

import attrs
import trio

from i2core.api import (
    Applied,
    Ask,
    Batch,
    Code,
    DriverKind,
    DriverSpec,
    Failure,
    Kind,
    NamePages,
    Place,
    Record,
    Seen,
    Sink,
    SinkContext,
)
from i2core.api.blockmap import BlockMap
from i2core.api.journal import Journal, JournalContext
from i2core.drivers.scan import SCAN
from i2core.testing.sim.capture import SimCapture, capture_spec
from i2core.testing.sim.chronicle import Chronicle
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Violation
from i2core.testing.sim.seam import registry

_SEGMENT_BYTES, _RESERVE_BYTES = 1500, 8 * 1024
"""Of the journals."""


class _Drivers:
    """The real registry with some drivers replaced."""

    def __init__(self, *others: DriverSpec) -> None:
        self._others = {(spec.kind, spec.name): spec for spec in others}

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The driver of that name."""
        return self._others.get((kind, name)) or registry().driver(kind, name)

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All drivers of a kind."""
        return registry().drivers(kind)


def work_drivers(kernel: Kernel, captures: list[SimCapture], chance: Random) -> _Drivers:
    """The drivers of a work node. Each open capture is in `captures`."""
    return _Drivers(capture_spec(captures, kernel, chance), SCAN)


class Watch:
    """Callbacks for what is passed to a sink, and the faults that the sink is to have."""

    def __init__(
        self,
        *,
        enters: Callable[[], None],
        applies: Callable[[Batch], None],
        applied: Callable[[Batch], None],
        cut: Callable[[], None],
        exchanged: Callable[[], None],
        lacks_a_root: Callable[[], bool],
        chronicle: Callable[[Batch], Chronicle],
        begins_history: Callable[[bytes], None],
    ) -> None:
        self.enters = enters
        self.applies = applies
        self.applied = applied
        self.cut = cut
        self.exchanged = exchanged
        self.lacks_a_root = lacks_a_root
        self.chronicle = chronicle
        """Of the replica to which the batch is about to be applied: it begins there."""
        self.begins_history = begins_history
        """Called with the directory of a history that begins."""
        """True while the path of a sink's root leads to another directory than the one that it has open."""
        self.fails = 0
        """After so many batches, one record is not applied, and its failure is reported."""
        self.unheard = False
        """The link breaks before this failure is reported."""
        self.denies = 0.0
        """This share of all records is refused, as by an immutable flag, which a compare of the directory does not
        show."""

    def failing(self, batch: Batch, chance: Random) -> int | None:
        """The index of the record that fails; None: no record fails."""
        if not self.fails or batch.first_seq < 1:  # orphans have no seq, and their failures are not reported
            return None
        self.fails -= 1
        return None if self.fails or not batch.records else chance.randrange(len(batch.records))

    def permit(self) -> None:
        """No record is refused any more."""
        self.denies = 0.0

    def denied(self, batch: Batch, chance: Random) -> list[int]:
        """The indexes of the records that are refused."""
        if not self.denies or batch.first_seq < 1:
            return []
        return [index for index in range(len(batch.records)) if chance.random() < self.denies]


def backup_drivers(watch: Watch, chance: Random) -> _Drivers:
    """The drivers of a backup node: the real sink, watched."""
    real, journals = registry().driver(DriverKind.SINK, "fs"), registry().driver(DriverKind.JOURNAL, "cdp")

    @asynccontextmanager
    async def open_sink(config: Any, context: SinkContext) -> AsyncIterator[Sink]:
        watched: list[_WatchedSink] = []

        def applied(seq: int) -> None:
            context.applied(seq)
            if watched[0].chronicle is not None:
                watched[0].chronicle.applied(seq)

        async with real.open(config, attrs.evolve(context, applied=applied)) as sink:
            if sink.exchanged:
                watch.exchanged()
            watch.enters()
            failing, denied = partial(watch.failing, chance=chance), partial(watch.denied, chance=chance)
            watched.append(_WatchedSink(sink, watch, failing, denied))
            yield watched[0]

    def open_journal(config: Any, context: JournalContext) -> AbstractAsyncContextManager[Journal]:
        if not context.known:
            watch.begins_history(context.directory)
        small = attrs.evolve(context, segment_bytes=_SEGMENT_BYTES, reserve_bytes=_RESERVE_BYTES)
        return journals.open(config, small)

    return _Drivers(attrs.evolve(real, open=open_sink), attrs.evolve(journals, open=open_journal))


class _WatchedSink(Sink):
    """The real sink, with callbacks for what is passed to it."""

    def __init__(
        self,
        inner: Sink,
        watch: Watch,
        failing: Callable[[Batch], int | None],
        denied: Callable[[Batch], list[int]],
    ) -> None:
        self._inner = inner
        self._watch = watch
        self._failing = failing
        self._denied = denied
        self.chronicle: Chronicle | None = None
        """Of the replica, while a batch is applied for its history."""
        self.owns = inner.owns
        self.identities = inner.identities
        self.exchanged = inner.exchanged

    async def apply(self, batch: Batch) -> Applied:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._watch.applies(batch)
        index, denied = self._failing(batch), self._denied(batch)
        if batch.keeps is not None:
            applied = await self._apply_recorded(batch, denied if index is None else [*denied, index])
        elif denied:
            applied = await self._apply_but(batch, denied)
        else:
            applied = await (self._inner.apply(batch) if index is None else self._apply_without(batch, index))
        self._watch.applied(batch)
        return applied

    async def _apply_recorded(self, batch: Batch, failing: Sequence[int]) -> Applied:
        """Applies the records of a replica with a history. `failing`: the indexes of those that fail on purpose."""
        self.chronicle = self._watch.chronicle(batch)
        try:
            applied = await self._apply_until(batch, min(failing, default=None))
            self.chronicle.applied(applied.applied_seq)
        finally:
            self.chronicle = None
        return applied

    async def _apply_until(self, batch: Batch, index: int | None) -> Applied:
        """Applies the records of a replica with a history up to the one that fails on purpose, if any: it ends the
        batch."""
        assert batch.keeps is not None
        if index is None:
            return await self._inner.apply(batch)
        before = Batch(batch.first_seq, batch.records[:index], batch.keeps[:index])
        applied = await self._inner.apply(before) if index else Applied(batch.first_seq - 1)
        if applied.applied_seq < before.last_seq or applied.failures or applied.blocked:
            return applied
        seq, record = batch.first_seq + index, batch.records[index]
        paths = [record.path, record.other] if record.kind is Kind.RENAME else [record.path]
        places = [Place(record.root, path) for path in paths]
        failures = [Failure(seq, place, Code.OPEN_REPLICA, "failed on purpose", repair=True) for place in places]
        await self._fail(seq, record, keeps=[{}])
        if self._watch.unheard:
            self._watch.cut()
        return applied._replace(applied_seq=seq, failures=tuple(failures))

    async def _apply_but(self, batch: Batch, denied: list[int]) -> Applied:
        failures: list[Failure] = []
        at = 0
        for index in [*denied, len(batch.records)]:
            part = Batch(batch.first_seq + at, batch.records[at:index])
            if part.records:
                failures += (await self._inner.apply(part)).failures
            if index < len(batch.records):
                record, seq = batch.records[index], batch.first_seq + index
                await self._fail(seq, record)
                place = Place(record.root, record.path)
                failures.append(Failure(seq, place, Code.OPEN_REPLICA, "denied on purpose"))
            at = index + 1
        return Applied(batch.last_seq, tuple(failures))

    async def _fail(self, seq: int, record: Record, keeps: Sequence[Mapping[bytes, int]] | None = None) -> None:
        """Has the sink meet the failure if it is to remember it."""
        if record.kind in (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE):
            await self._inner.apply(Batch(seq, [record._replace(offset=-1, size=-1)], keeps))

    async def _apply_without(self, batch: Batch, index: int) -> Applied:
        before = await self._inner.apply(Batch(batch.first_seq, batch.records[:index]))
        seq, record = batch.first_seq + index, batch.records[index]
        paths = [record.path, record.other] if record.kind is Kind.RENAME else [record.path]
        failures = tuple(
            Failure(seq, Place(record.root, path), Code.OPEN_REPLICA, "failed on purpose", repair=True)
            for path in paths
        )
        await self._fail(seq, record)
        behind = await self._inner.apply(Batch(seq + 1, batch.records[index + 1 :]))
        if self._watch.unheard:
            self._watch.cut()
        return Applied(batch.last_seq, (*before.failures, *failures, *behind.failures))

    async def flush(self) -> None:
        lacked = self._watch.lacks_a_root()
        await self._inner.flush()
        if lacked:
            raise Violation("records are reported as durable in a directory that is not the replica")

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        return await self._inner.look(asks)

    async def names(self, place: Place) -> NamePages:
        return await self._inner.names(place)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        return await self._inner.tidy(place, staged)

    async def unstage(self, places: Sequence[Place]) -> None:
        await self._inner.unstage(places)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        return await self._inner.hashes(place, first, count, staged=staged)

    async def block_map(self, place: Place, first: int, count: int, *, staged: bool = False) -> BlockMap:
        return await self._inner.block_map(place, first, count, staged=staged)

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return await self._inner.hashes_of(places, most)

    async def count(self, place: Place, limit: int) -> int:
        return await self._inner.count(place, limit)

    async def losses(self, places: Sequence[Place], limit: int) -> list[int]:
        return await self._inner.losses(places, limit)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await self._inner.set_aside(place, destination)

    async def copy_aside(self, place: Place, destination: bytes) -> None:
        await self._inner.copy_aside(place, destination)
