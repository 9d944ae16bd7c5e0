"""The driver: plain files beneath the roots, one worker thread call per method."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import TypeVar

import trio

from i2_sink_fs import aside, reading
from i2_sink_fs.apply import Applier
from i2_sink_fs.claiming import claimed_roots
from i2_sink_fs.content import FoundFile, block_map, digests, read_buffer
from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.known import Identity
from i2_sink_fs.outcome import stop
from i2_sink_fs.paths import IllegalPath
from i2_sink_fs.present.stores import Stores
from i2_sink_fs.private import Private, clean_homes
from i2_sink_fs.progress import Progress
from i2_sink_fs.roots import Roots
from i2_sink_fs.staging import Staging
from i2core.api import Applied, Batch, Place, Sink, SinkContext, in_thread
from i2core.api.blockmap import BlockMap
from i2core.api.drivers import Ask, Seen
from i2core.api.names import NamePages
from i2core.posix.errnos import PASSING
from i2core.posix.patience import patiently

T = TypeVar("T")


@asynccontextmanager
async def open_sink(context: SinkContext) -> AsyncIterator[FsSink]:
    """The sink for these roots. Closing it syncs nothing: only `flush` makes data durable.

    Raises:
        UsageError: a root is not beneath an allowed directory, or cannot be opened without following a symlink.
    """
    async with claimed_roots(context) as roots:
        sink = await in_thread(FsSink, context, roots)
        try:
            await patiently(sink.hold_volumes, context.say, roots.all_shown)
            yield sink
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(sink.close)


class FsSink(Sink):
    """A replica of plain files; its contract is `Sink`. It has as many methods as the contract: each passes its work to
    a module for the subject, in one worker thread."""

    def __init__(self, context: SinkContext, roots: Roots) -> None:
        self._context = context
        self._roots = roots
        self._kept = Kept(context, roots.paths)
        self._volumes = self._kept.volumes
        self.owns = self._kept.attributes.owns
        self.identities = [standing.encode() for standing in roots.standings]
        self.exchanged = roots.exchanged
        self._stores: Stores | None = None
        """Found with the first record that has something to keep."""

    def hold_volumes(self) -> None:
        """Makes the first flush cover the records applied by a previous process, which may have been killed. Removes
        leftovers of that process.

        Raises:
            StopRule: a root cannot be read.
        """
        with self._directories() as directories:
            for root, path in enumerate(self._roots.paths):
                try:
                    directory = directories.find(root, b"")
                    self._volumes.hold(directory.fd, directory.device)
                    self._kept.known.begin(path, Identity.of(directory.fd))
                    self._kept.traits(root, directory)
                except OSError as error:
                    if error.errno in PASSING:
                        raise
                    raise stop(error, os.fsdecode(path)) from error
                self._volumes.changed({directory.device})
        self._clean()

    def _directories(self) -> Directories:
        return Directories(self._roots, self._kept.names.reserved, self._kept.known)

    def close(self) -> None:
        """Removes everything of its own except staging files, and closes all fds."""
        with suppress(OSError):  # the next start removes what is left
            self._clean()
        if self._stores is not None:
            self._stores.close()
        self._volumes.close()
        self._kept.close()

    def _clean(self) -> None:
        clean_homes(self._directories, self._kept)

    async def apply(self, batch: Batch) -> Applied:
        progress = Progress(batch)

        def obj() -> str:
            record = progress.next()
            return "" if record is None else self._roots.shown(Place(record.root, record.path))

        await patiently(partial(self._apply, progress), self._context.say, obj)
        return Applied(progress.seq - 1, tuple(progress.failures), progress.blocked, progress.made)

    def _apply(self, progress: Progress) -> None:
        applied, spares = self._context.applied, self._context.spares
        with (
            self._kept.in_use,
            Applier(self._directories(), self._kept, self._all_stores, applied, spares=spares) as applier,
        ):
            applier.apply(progress)

    def _all_stores(self) -> Stores:
        if self._stores is None:
            self._stores = Stores(self._roots, self._kept)
        return self._stores

    async def flush(self) -> None:
        if not self._kept.at_rest:
            await patiently(self._clean, self._context.say, self._roots.all_shown)
        # Taken now, before switching to the thread: records applied from here on are for the next flush. Shielded:
        # volumes that were taken but not synced would be missing in the next flush, which would still report the
        # records as durable.
        self._volumes.changed_elsewhere(self._kept.take_removals())
        changed = self._volumes.take()
        if changed:
            with trio.CancelScope(shield=True):
                await in_thread(self._volumes.sync, changed)
        # After the sync, because syncfs(2) also succeeds on a file system that was unmounted, or for a directory that
        # was moved away.
        await patiently(self._verify, self._context.say, self._roots.all_shown)

    def _verify(self) -> None:
        self._roots.verify()
        if self._stores is not None:
            self._stores.verify()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        def look(directories: Directories) -> list[Seen]:
            try:
                return reading.look(directories, Staging(Private(directories, self._kept)), asks, self._kept)
            finally:
                self._kept.known.commit()

        return await self._read(asks[0].place if asks else None, look)

    async def names(self, place: Place) -> NamePages:
        def begin(_: Directories) -> NamePages:
            pages = reading.pages(self._directories(), place)
            return NamePages(pages, next(pages, []))  # now, as only opening it can lack descriptors

        return await self._read(place, begin)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        def tidy(directories: Directories) -> bool:
            directory = reading.find(directories, place)
            if directory is None:
                return False
            with self._kept.in_use, self._volumes.changing(directory):
                return Staging(Private(directories, self._kept)).tidy(place, staged)

        return await self._read(place, tidy)

    async def unstage(self, places: Sequence[Place]) -> None:
        def unstage(directories: Directories) -> None:
            with self._kept.in_use:
                private = Private(directories, self._kept)
                staging = Staging(private)
                for place in places:
                    directories.trim()
                    try:
                        staging.unstage(place)
                    except IllegalPath:
                        continue  # nothing could be staged there
                    except OSError as error:
                        if error.errno != errno.ENAMETOOLONG:
                            raise
                private.clean()
            for root in {place.root for place in places}:
                self._volumes.changed({directories.find(root, b"").device})

        await self._read(places[0] if places else None, unstage)

    async def count(self, place: Place, limit: int) -> int:
        def work(open_: Directories) -> int:
            return reading.count(open_, place, limit, reading.HardLinks())

        return await self._read(place, work)

    async def born(self, place: Place, names: Sequence[bytes]) -> list[int]:
        return await self._read(place, lambda directories: reading.born(directories, place, names))

    async def losses(self, places: Sequence[Place], limit: int) -> list[int]:
        def work(open_: Directories) -> list[int]:
            links = reading.HardLinks(all_of_them=True)
            return [reading.count(open_, place, limit, links) for place in places]

        return await self._read(places[0] if places else None, work)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        def work(directories: Directories) -> bytes:
            with read_buffer() as into, self._content(directories, place, staged=staged, first=first) as file:
                return b"" if file is None else digests(file, first, count, into)

        return await self._read(place, work)

    async def block_map(self, place: Place, first: int, count: int, *, staged: bool = False) -> BlockMap:
        def work(directories: Directories) -> BlockMap:
            with read_buffer() as into, self._content(directories, place, staged=staged, first=first) as file:
                return BlockMap() if file is None else block_map(file, first, count, into)

        return await self._read(place, work)

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        def work(directories: Directories) -> list[bytes]:
            found = []
            with read_buffer() as into:
                for place in places:
                    with self._content(directories, place) as file:
                        found.append(b"" if file is None else digests(file, 0, most, into))
            return found

        return await self._read(places[0] if places else None, work)

    def _content(
        self, directories: Directories, place: Place, *, staged: bool = False, first: int = 0
    ) -> FoundFile | nullcontext[None]:
        """The file at `place`, or its staging file; None when there is none. It is asked about from block `first`
        on."""
        staging = Staging(Private(directories, self._kept)) if staged else None
        fd = reading.open_content(directories, place, staging)
        if fd < 0:
            return nullcontext()
        file = FoundFile(fd)
        if self._context.asks:
            return file
        if not staged:
            self._kept.left.note(place, file.fd, file.status)
        if not first:
            self._kept.torn.discard(file.status)
        return file

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await self._set_aside(place, destination, stays=False)

    async def copy_aside(self, place: Place, destination: bytes) -> None:
        await self._set_aside(place, destination, stays=True)

    async def _set_aside(self, place: Place, destination: bytes, *, stays: bool) -> None:
        def carry(open_: Directories) -> None:
            aside.set_aside(open_, self._context.allowed, place, destination, self._kept, stays=stays)

        await self._read(place, carry)

    async def _read(self, place: Place | None, work: Callable[[Directories], T]) -> T:
        def run() -> T:
            with self._directories() as directories:
                return work(directories)

        def obj() -> str:
            return "" if place is None else self._roots.shown(place)

        try:
            return await patiently(run, self._context.say, obj)
        except OSError as error:
            raise stop(error, obj()) from error
