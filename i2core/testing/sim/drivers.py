"""The drivers of a simulated node: the installed ones, with the simulated capture, and with the sink watched."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
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
    Place,
    Seen,
    Sink,
    SinkContext,
)
from i2core.pipeline.scan import SCAN
from i2core.testing.sim.capture import SimCapture, capture_spec
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.seam import registry


class _Drivers:
    """A registry in which some are others."""

    def __init__(self, *others: DriverSpec) -> None:
        self._others = {(spec.kind, spec.name): spec for spec in others}

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The driver of that name."""
        return self._others.get((kind, name)) or registry().driver(kind, name)

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All of a kind."""
        return registry().drivers(kind)


def work_drivers(kernel: Kernel, captures: list[SimCapture], chance: Random) -> _Drivers:
    """A work node's: each capture that is open is in `captures`."""
    return _Drivers(capture_spec(captures, kernel, chance), SCAN)


class Watch:
    """Who hears what a sink is given; and a fault that it is to have."""

    def __init__(
        self,
        *,
        enters: Callable[[], None],
        applies: Callable[[Batch], None],
        applied: Callable[[Batch], None],
        cut: Callable[[], None],
    ) -> None:
        self.enters = enters
        self.applies = applies
        self.applied = applied
        self.cut = cut
        self.fails = 0
        """So many batches from now, one record is not applied, and its failure told."""
        self.unheard = False
        """The link breaks before that was heard."""

    def failing(self, batch: Batch, chance: Random) -> int | None:
        """The index of the record that fails; None: none does."""
        if not self.fails or batch.first_seq < 1:  # orphans have no seq, and nobody to tell
            return None
        self.fails -= 1
        return None if self.fails or not batch.records else chance.randrange(len(batch.records))


def backup_drivers(watch: Watch, chance: Random) -> _Drivers:
    """A backup node's: its sink is the real one, and watched."""
    real = registry().driver(DriverKind.SINK, "fs")

    @asynccontextmanager
    async def open_sink(config: Any, context: SinkContext) -> AsyncIterator[Sink]:
        async with real.open(config, context) as sink:
            watch.enters()
            yield _WatchedSink(sink, watch, partial(watch.failing, chance=chance))

    return _Drivers(attrs.evolve(real, open=open_sink))


class _WatchedSink(Sink):
    """The real sink, with somebody who knows what it is given."""

    def __init__(self, inner: Sink, watch: Watch, failing: Callable[[Batch], int | None]) -> None:
        self._inner = inner
        self._watch = watch
        self._failing = failing
        self.owns = inner.owns

    async def apply(self, batch: Batch) -> Applied:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._watch.applies(batch)
        index = self._failing(batch)
        applied = await (self._inner.apply(batch) if index is None else self._apply_without(batch, index))
        self._watch.applied(batch)
        return applied

    async def _apply_without(self, batch: Batch, index: int) -> Applied:
        before = await self._inner.apply(Batch(batch.first_seq, batch.records[:index]))
        seq, record = batch.first_seq + index, batch.records[index]
        paths = [record.path, record.other] if record.kind is Kind.RENAME else [record.path]
        failures = tuple(
            Failure(seq, Place(record.root, path), Code.OPEN_REPLICA, "failed on purpose", repair=True)
            for path in paths
        )
        behind = await self._inner.apply(Batch(seq + 1, batch.records[index + 1 :]))
        if self._watch.unheard:
            self._watch.cut()
        return Applied(batch.last_seq, (*before.failures, *failures, *behind.failures))

    async def flush(self) -> None:
        await self._inner.flush()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        return await self._inner.look(asks)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        return await self._inner.tidy(place, staged)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        return await self._inner.hashes(place, first, count, staged=staged)

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return await self._inner.hashes_of(places, most)

    async def count(self, place: Place, limit: int) -> int:
        return await self._inner.count(place, limit)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await self._inner.set_aside(place, destination)
