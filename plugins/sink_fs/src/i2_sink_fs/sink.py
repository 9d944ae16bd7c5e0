"""The driver: plain files beneath the roots, one worker thread call per method."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from i2_sink_fs import aside, reading
from i2_sink_fs.apply import Applier
from i2_sink_fs.attributes import Attributes
from i2_sink_fs.content import BlockHasher
from i2_sink_fs.outcome import stop
from i2_sink_fs.paths import Directories, Roots
from i2_sink_fs.removal import remove
from i2_sink_fs.volumes import Volumes
from i2core.api import Applied, Batch, Place, Sink, SinkContext
from i2core.api.drivers import Ask, Seen

T = TypeVar("T")


@asynccontextmanager
async def open_sink(context: SinkContext) -> AsyncIterator[FsSink]:
    """The sink for these roots. Leaving it syncs nothing: `flush` is what makes a promise.

    Raises:
        UsageError: a root is not beneath an allowed directory, or cannot be opened without following a symlink.
    """
    roots = await trio.to_thread.run_sync(Roots, context.roots, context.allowed)
    sink = FsSink(context, roots)
    try:
        await trio.to_thread.run_sync(sink.hold_volumes)
        yield sink
    finally:
        sink.close()


class FsSink(Sink):
    """A replica of plain files. See `Sink` for what it owes."""

    def __init__(self, context: SinkContext, roots: Roots) -> None:
        self._context = context
        self._roots = roots
        self._attributes = Attributes(context.say)
        self._volumes = Volumes()
        self._staged: set[Place] = set()
        self._hasher = BlockHasher()
        self._begun = False
        self.owns = self._attributes.owns

    def hold_volumes(self) -> None:
        """The first flush covers what a process before this one has applied: it may have been killed.

        Raises:
            StopRule: a root cannot be read.
        """
        with Directories(self._roots) as directories:
            for root, path in enumerate(self._roots.paths):
                try:
                    directory = directories.find(root, b"")
                    self._volumes.watch(directory)
                except OSError as error:
                    raise stop(error, os.fsdecode(path)) from error
                self._volumes.changed({directory.device})

    def close(self) -> None:
        """Closes all fds."""
        self._volumes.close()
        self._roots.close()

    async def apply(self, batch: Batch) -> Applied:
        return await trio.to_thread.run_sync(self._apply, batch)

    def _apply(self, batch: Batch) -> Applied:
        directories, applied = Directories(self._roots), self._context.applied
        with Applier(directories, self._attributes, self._volumes, self._staged, applied) as applier:
            if not self._begun and batch.records:
                applier.sweep(batch.records[0])
                self._begun = True
            return applier.apply(batch)

    async def flush(self) -> None:
        # Taken now, on this side of the hop: what another thread applies from here on is for the next flush.
        changed = self._volumes.take()
        if changed:
            await trio.to_thread.run_sync(self._volumes.sync, changed)
        else:
            await trio.lowlevel.checkpoint()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        return await self._read(asks[0].place if asks else None, lambda open_: reading.look(open_, asks))

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        def tidy(directories: Directories) -> bool:
            directory = reading.find(directories, place)
            found = [] if directory is None else reading.leftovers(directory, staged)
            for name in found:
                assert directory is not None
                remove(directory.fd, name)
                self._volumes.changed({os.fstat(directory.fd).st_dev})
            return bool(found)

        return await self._read(place, tidy)

    async def count(self, place: Place, limit: int) -> int:
        return await self._read(place, lambda open_: reading.count(open_, place, limit))

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        return await self._read(place, lambda open_: self._digests(open_, place, first, count, staged=staged))

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return await self._read(
            places[0] if places else None, lambda open_: [self._digests(open_, place, 0, most) for place in places]
        )

    def _digests(
        self, directories: Directories, place: Place, first: int, count: int, *, staged: bool = False
    ) -> bytes:
        fd = reading.open_content(directories, place, staged=staged)
        if fd < 0:
            return b""
        try:
            return self._hasher.digests(fd, first, count)
        finally:
            os.close(fd)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        def move(open_: Directories) -> None:
            device = aside.set_aside(open_, self._context.allowed, place, destination)
            if device is not None:
                self._volumes.changed({device})

        await self._read(place, move)

    async def _read(self, place: Place | None, work: Callable[[Directories], T]) -> T:
        def run() -> T:
            with Directories(self._roots) as directories:
                return work(directories)

        try:
            return await trio.to_thread.run_sync(run)
        except OSError as error:
            raise stop(error, "" if place is None else self._roots.shown(place)) from error
