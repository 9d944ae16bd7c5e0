"""Digests of the blocks of large files, as last sent: only blocks that differ from them are sent. On disk, beside the
catalog's rows and under their ids.

The blocks of a file are known from the first one on, without gaps. Each `CHUNK_BLOCKS` of them make a row, except for
chunks that are all holes, which have none. So the last row of a file shows how far its blocks are known; it may consist
of holes only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from i2core.api import BLOCK_BYTES
from i2core.api.blockmap import BlockMap
from i2core.rule.catalog.database import Database

CHUNK_BLOCKS = 1024
"""Blocks of one row: 64 MiB of content."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    node INTEGER NOT NULL, chunk INTEGER NOT NULL, digests BLOB NOT NULL, PRIMARY KEY (node, chunk)
) WITHOUT ROWID, STRICT;
"""


class Digests:
    """The table of digests in a catalog's database. Blocks are counted from 0."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def known(self, node: int) -> int:
        """How many blocks, from the first one on, have known digests."""
        sql = "SELECT chunk, digests FROM blocks WHERE node = ? ORDER BY chunk DESC LIMIT 1"
        found = self._db.execute(sql, (node,)).fetchone()
        return 0 if found is None else found[0] * CHUNK_BLOCKS + BlockMap.decode(found[1]).blocks

    def get(self, node: int, first: int, count: int) -> BlockMap | None:
        """The known blocks from `first` on, until at least `count` of them have digests. Holes do not count, and are
        included as far as they are known. None when block `first` is not known."""
        if not self.known(node) > first:
            return None
        found = BlockMap()
        at = first
        sql = "SELECT chunk, digests FROM blocks WHERE node = ? AND chunk >= ? ORDER BY chunk"
        with closing(self._db.execute(sql, (node, first // CHUNK_BLOCKS))) as rows:
            for chunk, raw in rows:
                begin = chunk * CHUNK_BLOCKS
                found.add_zeros(max(0, begin - at))
                at = max(at, begin)
                found.append(BlockMap.decode(raw).part(at - begin, CHUNK_BLOCKS))
                at = begin + CHUNK_BLOCKS
                if found.data_blocks >= count:
                    break
        return found

    def put(self, node: int, first: int, blocks: BlockMap) -> None:
        """Keeps the digests of the blocks from `first` on. All blocks before `first` must be known."""
        end = first + blocks.blocks
        known = max(end, self.known(node))
        last = (known - 1) // CHUNK_BLOCKS
        whole = (-(-first // CHUNK_BLOCKS), end // CHUNK_BLOCKS)
        self._db.execute("DELETE FROM blocks WHERE node = ? AND chunk >= ? AND chunk < ?", (node, *whole))
        for chunk, start, part in _by_chunk(first, blocks):
            row = part
            if part.blocks < CHUNK_BLOCKS:
                row = self._merged(node, chunk, start, part, known=min(CHUNK_BLOCKS, known - chunk * CHUNK_BLOCKS))
            if row.data_blocks or chunk == last:
                self._write(node, chunk, row)
            else:
                self._db.execute("DELETE FROM blocks WHERE node = ? AND chunk = ?", (node, chunk))

    def _merged(self, node: int, chunk: int, start: int, part: BlockMap, *, known: int) -> BlockMap:
        """The chunk with its blocks from `start` on replaced by `part`; `known` blocks of it are known then."""
        old = self._chunk(node, chunk) or BlockMap()
        old.add_zeros(max(0, known - old.blocks))
        merged = old.part(0, start)
        merged.append(part)
        merged.append(old.part(start + part.blocks, known))
        return merged

    def cut(self, node: int, size: int) -> None:
        """Forgets the digests of blocks that are not completely within the first `size` bytes of the file."""
        left = size // BLOCK_BYTES
        if left >= self.known(node):
            return
        last = (left - 1) // CHUNK_BLOCKS
        kept = self._chunk(node, last) if left else None
        self._db.execute("DELETE FROM blocks WHERE node = ? AND chunk >= ?", (node, last))
        if left:
            # It is the last row now, and shows how far the blocks are known.
            rest = left - last * CHUNK_BLOCKS
            part = (kept or BlockMap()).part(0, rest)
            part.add_zeros(rest - part.blocks)
            self._write(node, last, part)

    def move(self, old: int, new: int) -> None:
        """Moves the digests of a file to another id, which has none."""
        self._db.execute("UPDATE blocks SET node = ? WHERE node = ?", (new, old))

    def drop(self, node: int) -> None:
        """Forgets all digests of the file."""
        self._db.execute("DELETE FROM blocks WHERE node = ?", (node,))

    def _write(self, node: int, chunk: int, blocks: BlockMap) -> None:
        self._db.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", (node, chunk, blocks.encode()))

    def _chunk(self, node: int, chunk: int) -> BlockMap | None:
        sql = "SELECT digests FROM blocks WHERE node = ? AND chunk = ?"
        found = self._db.execute(sql, (node, chunk)).fetchone()
        return None if found is None else BlockMap.decode(found[0])


def _by_chunk(first: int, blocks: BlockMap) -> Iterator[tuple[int, int, BlockMap]]:
    """The blocks from block `first` on, cut at chunk borders: (chunk, first block within it, its blocks). Chunks that
    are holes as a whole are left out, but for the last."""
    end = first + blocks.blocks
    for chunk in _chunks_of_interest(first, blocks):
        begin = max(first, chunk * CHUNK_BLOCKS)
        behind = min(end, (chunk + 1) * CHUNK_BLOCKS)
        yield chunk, begin - chunk * CHUNK_BLOCKS, blocks.part(begin - first, behind - first)


def _chunks_of_interest(first: int, blocks: BlockMap) -> list[int]:
    if not blocks:
        return []
    end = first + blocks.blocks
    chunks = {first // CHUNK_BLOCKS, (end - 1) // CHUNK_BLOCKS}
    at = first
    for run in blocks.runs:
        if run.digests:
            chunks.update(range((at + run.zeros) // CHUNK_BLOCKS, (at + run.blocks - 1) // CHUNK_BLOCKS + 1))
        at += run.blocks
    return sorted(chunks)
