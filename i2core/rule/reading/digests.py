"""Digests of the blocks of large files, as last sent: what differs from them is what has to cross. On disk, beside the
catalog's rows, and by the ids of those."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from i2core.api import BLOCK_BYTES
from i2core.pipeline.blocks import DIGEST_BYTES

CHUNK_BLOCKS = 1024
"""Digests of so many blocks (64 MiB of content) make one row."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    node INTEGER NOT NULL, chunk INTEGER NOT NULL, digests BLOB NOT NULL, PRIMARY KEY (node, chunk)
) WITHOUT ROWID;
"""


class Digests:
    """The table of digests in a catalog's database. Blocks are counted from 0; those of a file have no gaps."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, node: int, first: int, count: int) -> bytes | None:
        """Digests of up to `count` blocks from `first` on; None when the first of them is not known."""
        found = bytearray()
        for chunk in range(first // CHUNK_BLOCKS, (first + count - 1) // CHUNK_BLOCKS + 1):
            kept = self._chunk(node, chunk)
            if kept is None:
                break
            skip = max(0, first - chunk * CHUNK_BLOCKS) * DIGEST_BYTES
            found += kept[skip:]
            if len(kept) < CHUNK_BLOCKS * DIGEST_BYTES:
                break
        return bytes(found[: count * DIGEST_BYTES]) or None

    def put(self, node: int, first: int, digests: bytes) -> None:
        """Keeps the digests of the blocks from `first` on; a gap in front of them must not exist."""
        for chunk, start, part in _by_chunk(first, digests):
            whole = bytearray(self._chunk(node, chunk) or b"")
            whole[start * DIGEST_BYTES : start * DIGEST_BYTES + len(part)] = part
            self._db.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", (node, chunk, bytes(whole)))

    def cut(self, node: int, size: int) -> None:
        """Forgets the digests of blocks that do not lie whole within the first `size` bytes of the file."""
        chunk, rest = divmod(size // BLOCK_BYTES, CHUNK_BLOCKS)
        self._db.execute("DELETE FROM blocks WHERE node = ? AND chunk >= ?", (node, chunk + (rest > 0)))
        sql = "UPDATE blocks SET digests = substr(digests, 1, ?) WHERE node = ? AND chunk = ?"
        self._db.execute(sql, (rest * DIGEST_BYTES, node, chunk))

    def drop(self, node: int) -> None:
        """Forgets all digests of the file."""
        self._db.execute("DELETE FROM blocks WHERE node = ?", (node,))

    def _chunk(self, node: int, chunk: int) -> bytes | None:
        found = self._db.execute("SELECT digests FROM blocks WHERE node = ? AND chunk = ?", (node, chunk)).fetchone()
        return None if found is None else found[0]


def _by_chunk(first: int, digests: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Digests from block `first` on, cut at chunk borders: (chunk, first block within it, digests)."""
    at = 0
    while at < len(digests):
        chunk, start = divmod(first + at // DIGEST_BYTES, CHUNK_BLOCKS)
        size = (CHUNK_BLOCKS - start) * DIGEST_BYTES
        yield chunk, start, digests[at : at + size]
        at += size
