"""Old bytes and logs, read from the journal by whoever has the turn.

Readers are in worker threads and hold a lock. So the journal is read in the same thread (`Journal.read_pieces`): to
wait for the event loop, or for another thread, could be to wait for somebody who waits for the lock.
"""

from __future__ import annotations

from collections import OrderedDict

from i2core.api import Code, StopRule
from i2core.api.journal import Journal, Piece, Position
from i2core.history.index.batches import Batch
from i2core.history.journal.columns import Damaged
from i2core.history.journal.frame import unpacked_chunk
from i2core.history.model.rows import DataWas

_CHUNKS = 32
"""Unpacked chunks that are kept (64 KiB each): neighbouring rows often share one. No place is used twice, for a journal
that was cut goes on in a new segment."""


class JournalBytes:
    """`OldBytes` and `Frames` over a journal. For one thread at a time."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._chunks: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def read(self, row: DataWas, lo: int, hi: int) -> bytes:
        """As `OldBytes.read`.

        Raises:
            StopRule: the journal is damaged there (3535), or its disk fails.
        """
        begin = row.skip + lo - row.lo
        found = self._chunk(row)[begin : begin + hi - lo]
        if len(found) < hi - lo:
            raise self._damaged(row)
        return found

    def _chunk(self, row: DataWas) -> bytes:
        key = row.segment, row.position
        chunk = self._chunks.pop(key, None)
        if chunk is None:
            (packed,) = self._journal.read_pieces([Piece(Position(*key), row.size)])
            try:
                chunk = unpacked_chunk(packed)
            except Damaged as error:
                raise self._damaged(row) from error
            if len(self._chunks) >= _CHUNKS:
                self._chunks.popitem(last=False)
        self._chunks[key] = chunk
        return chunk

    @staticmethod
    def _damaged(row: DataWas) -> StopRule:
        cause = f"old bytes in segment {row.segment} at {row.position} are not those that were written"
        return StopRule(cause, code=Code.CDP_INCOMPLETE)

    def head(self, batch: Batch) -> bytes:
        """As `Frames.head`."""
        (found,) = self._journal.read_pieces([Piece(Position(batch.segment, batch.position), batch.size)])
        return found
