"""The driver: each method is one call of a worker thread. Changes wait for each other, readers for nobody."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import trio

from i2_store_cdp.failures import translated
from i2_store_cdp.opening import open_store
from i2_store_cdp.reading import read_frames, read_pieces, read_segment
from i2_store_cdp.store import Store
from i2_store_cdp.writing import MergedFile
from i2core.api import Code, in_thread
from i2core.api.journal import (
    Draft,
    Frame,
    Inspection,
    Journal,
    JournalContext,
    Mark,
    Merge,
    Piece,
    Placed,
    Position,
    Segment,
    Space,
    Tip,
)
from i2core.posix.path_text import shown
from i2core.posix.patience import patiently

T = TypeVar("T")


class FilesJournal(Journal):
    """A journal in segment files. It has as many methods as the contract `Journal`: each passes its work to `Store` or
    `Shelf`, in a worker thread."""

    def __init__(self, store: Store, context: JournalContext) -> None:
        self.identity = store.home.identity
        self._store, self._context = store, context
        self._shown = partial(shown, context.directory)
        self._turn = trio.Lock()
        self._merging = False

    @property
    def tip(self) -> Tip:
        return self._store.shelf.live.end.tip

    @property
    def end(self) -> Position:
        return self._store.shelf.live.end_position

    @property
    def segments(self) -> Sequence[Segment]:
        return tuple(entry.segment() for entry in self._store.shelf.entries())

    @property
    def marks(self) -> Sequence[Mark]:
        return self._store.shelf.manifest.marks

    @property
    def note(self) -> bytes:
        return self._store.shelf.manifest.note

    async def append(self, group: Sequence[Draft]) -> list[Placed]:
        return await self._change(partial(self._store.append, group))

    async def roll(self) -> None:
        await self._change(self._store.roll)

    async def read(self, at: Position, most_bytes: int) -> list[Frame]:
        return await self._read(partial(read_frames, self._store.shelf, at, most_bytes))

    async def pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        return await self._read(partial(read_pieces, self._store.shelf, pieces))

    def read_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        with translated(self._context.directory, "read CDP data", Code.CDP_READ):
            return read_pieces(self._store.shelf, pieces)

    async def cut(self, at: Position, instead: Sequence[Draft] = ()) -> list[Placed]:
        return await self._change(partial(self._store.cut, at, instead))

    @asynccontextmanager
    async def merge(self, run: Sequence[int]) -> AsyncIterator[Merge]:
        if self._merging:
            raise ValueError("another merge is under way")
        self._merging = True
        try:
            file = await self._change(partial(self._store.begin_merge, run))
            merge = FilesMerge(self, file)
            try:
                yield merge
            finally:
                # After a failed sync the manifest on disk may name the file. If it does not, opening removes the file.
                kept = merge.committed or self._store.is_broken
                with trio.CancelScope(shield=True):
                    await in_thread(partial(file.close, kept=kept))
        finally:
            self._merging = False

    async def commit(self, file: MergedFile, note: bytes | None) -> Segment:
        """Puts a merged segment in the place of its run."""
        merged = await self._read(file.finish)
        entry = await self._change(partial(self._store.end_merge, file.run, merged, note))
        return entry.segment()

    async def write_merged(self, file: MergedFile, group: Sequence[Draft]) -> list[Placed]:
        """Adds frames to a merged segment."""
        return await self._read(partial(file.write, group), "merge segments", Code.CDP_DATA_WRITE)

    async def drop(self, run: Sequence[int], note: bytes | None = None) -> None:
        await self._change(partial(self._store.drop, run, note))

    @asynccontextmanager
    async def lease(self, segments: Sequence[int]) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        self._store.shelf.lease(segments)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(self._store.shelf.release, segments)

    async def mark(self, add: Sequence[Mark] = (), remove: Sequence[Mark] = ()) -> None:
        await self._change(partial(self._store.mark, add, remove))

    async def annotate(self, note: bytes) -> None:
        await self._change(partial(self._store.annotate, note))

    async def inspect(self, segment: int, numbers: Sequence[int] = ()) -> Inspection:
        return await self._read(partial(read_segment, self._store.shelf, segment, numbers))

    async def space(self) -> Space:
        return await self._read(self._space)

    def _space(self) -> Space:
        store = self._store
        room = os.fstatvfs(store.home.fd)
        used = sum(entry.size for entry in store.shelf.entries()) + store.shelf.kept_bytes()
        return Space(used, room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize, store.reserve.size)

    async def use_reserve(self) -> None:
        await self._change(self._store.use_reserve)

    async def restore_reserve(self) -> bool:
        return await self._change(self._store.restore_reserve)

    async def _change(self, work: Callable[[], T]) -> T:
        async with self._turn:
            return await patiently(work, self._context.say, self._shown)

    async def _read(self, work: Callable[[], T], doing: str = "read CDP data", code: Code = Code.CDP_READ) -> T:
        def worked() -> T:
            with translated(self._context.directory, doing, code):
                return work()

        return await patiently(worked, self._context.say, self._shown)


class FilesMerge(Merge):
    """A merged segment that is being written."""

    def __init__(self, journal: FilesJournal, file: MergedFile) -> None:
        self._journal, self._file = journal, file
        self.committed = False

    async def write(self, group: Sequence[Draft]) -> list[Placed]:
        return await self._journal.write_merged(self._file, group)

    async def commit(self, note: bytes | None = None) -> Segment:
        segment = await self._journal.commit(self._file, note)
        self.committed = True
        return segment


@asynccontextmanager
async def open_journal(context: JournalContext) -> AsyncIterator[Journal]:
    """The journal of a directory.

    Raises:
        StopRule: as `Journal` has it.
    """
    store = await patiently(partial(open_store, context), context.say, partial(shown, context.directory))
    try:
        yield FilesJournal(store, context)
    finally:
        store.close()
