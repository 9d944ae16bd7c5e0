"""Compares the content of files with the replica's, block by block, by digests. No content is sent.

A file's digest is one over the digests of its blocks, zeros included. It is the same for the same content, whatever
holes there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio
import xxhash

from i2core.api import BLOCK_BYTES, Place
from i2core.api.blockmap import ZERO_DIGEST, BlockMap
from i2core.api.content import digests, is_sparse
from i2core.api.tree import OpenFile
from i2core.rule.source.scan import Scan, scan
from i2core.rule.source.source import Source
from i2core.rule.survey.survey import Questions
from i2core.wire.frame import FrameType
from i2core.wire.questions import HashQuery

SLICE_BLOCKS = 128
"""Blocks that are asked about at a time: 8 MiB. The backup node reads as much before live records get their turn."""
SLICE_BYTES = SLICE_BLOCKS * BLOCK_BYTES
_ZEROS = 4096


class Compared(NamedTuple):
    """Digests of one file's content on both sides; empty where it could not be read."""

    here: bytes
    there: bytes

    @property
    def equal(self) -> bool:
        """True when both have the same content."""
        return self.here == self.there


class _Digest:
    """The digest of a file whose blocks arrive in order."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def add(self, blocks: BlockMap) -> None:
        for zeros, found in blocks.runs:
            for _ in range(zeros // _ZEROS):
                self._hash.update(ZERO_DIGEST * _ZEROS)
            self._hash.update(ZERO_DIGEST * (zeros % _ZEROS))
            self._hash.update(found)

    def value(self) -> bytes:
        return self._hash.digest()


def digest_of(blocks: bytes) -> bytes:
    """The digest of a file with these block digests."""
    found = _Digest()
    found.add(BlockMap(blocks))
    return found.value()


def small(file: OpenFile, size: int, there: bytes) -> Compared:
    """A file of up to 16 blocks, with the replica's digests; for worker threads.

    Raises:
        OSError: it cannot be read.
    """
    view = file.read(0, size + 1) if size else memoryview(b"")
    return Compared(digest_of(b"".join(digests(view))), digest_of(there))


class LargeContent:
    """Compares one file of any size, slice by slice."""

    def __init__(
        self, source: Source, session: Questions, place: Place, pace: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """`pace`: awaited with the number of bytes that were compared."""
        self._pace = pace
        self._source = source
        self._session = session
        self._place = place

    async def run(self) -> Compared:
        """Reads both sides to their ends.

        Raises:
            OSError: the source's file cannot be read, or is gone.
            LinkError: the link broke.
        """
        file = await trio.to_thread.run_sync(self._open)
        try:
            return await self._compare(file)
        finally:
            file.close()

    def _open(self) -> OpenFile:
        directory, _, name = self._place.path.rpartition(b"/")
        with self._source.trees[self._place.root].directory(directory) as opened:
            return opened.open(name)

    async def _compare(self, file: OpenFile) -> Compared:
        here, there, at = _Digest(), _Digest(), 0
        sparse = await trio.to_thread.run_sync(lambda: is_sparse(file, file.as_opened()))
        while True:
            base = await self._ask(at // BLOCK_BYTES, sparse=sparse)
            size = (await trio.to_thread.run_sync(file.entry)).size
            stop = min(at + base.blocks * BLOCK_BYTES, size) if base.data_blocks >= SLICE_BLOCKS else size
            found = await trio.to_thread.run_sync(_slice, file, at, stop, base, sparse)
            here.add(found.blocks)
            there.add(base.part(0, found.blocks.blocks))
            self._source.status.checked_bytes += found.end - at
            if self._pace is not None:
                await self._pace(found.end - at)
            at = found.end
            if found.ended:
                return Compared(here.value(), b"")  # it is shorter by now
            if at >= size:
                there.add(base.part(found.blocks.blocks, base.blocks))
                return Compared(here.value(), there.value())

    async def _ask(self, first: int, *, sparse: bool) -> BlockMap:
        query = HashQuery(*self._place, first, SLICE_BLOCKS, False, sparse)
        raw = await self._session.ask(FrameType.HASHES, query.encode())
        return BlockMap.decode(raw) if sparse else BlockMap(bytes(raw))


def _slice(file: OpenFile, at: int, stop: int, base: BlockMap, sparse: bool) -> Scan:
    return scan(file, at, stop, base, SLICE_BYTES, SLICE_BYTES, sparse=sparse)
