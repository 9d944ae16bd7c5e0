"""Writes the rows that stay into the merged segment, with their old bytes.

Each block of rows becomes a frame or more, so the index could be filled from the merged segment again. Old bytes are
packed anew in the order of the rows: what one file had in neighbouring blocks then lies together, and bytes that nobody
needs any more are left behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from i2core.api import Code, StopRule
from i2core.api.journal import Draft, Header, Journal, Piece, Position, Segment
from i2core.api.journal import Merge as MergedSegment
from i2core.api.threads import in_thread
from i2core.history.index.partition import Rows
from i2core.history.index.schema import DATA, METAS, NAMES, SIZES, Table
from i2core.history.journal.columns import Damaged
from i2core.history.journal.frame import Head, unpacked_chunk
from i2core.history.journal.packing import Packed, merged
from i2core.history.model.rows import HOLE, DataWas, MetaWas, NameWas, SizeWas, Touch
from i2core.history.retention.merge import Row

FRAME_BYTES = 8 * 1024 * 1024
"""Old bytes in one frame, at most; a row has 64 KiB at most."""
READ_BYTES = 4 * 1024 * 1024
"""Packed bytes that are read at once."""

Place = tuple[int, int, int]
"""Segment, position and size of a packed chunk."""


@attrs.define
class Carrier:
    """Moves rows of `run` to its merged segment. The run must be proved (`Journal.inspect`) and leased."""

    journal: Journal
    target: MergedSegment
    run: Sequence[Segment]

    async def move(self, table: Table, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows as the index is to have them, once their frames are written.

        Raises:
            JournalFull: no room, not even with the reserve.
            StopRule: old bytes are damaged (3535), or the disk fails.
        """
        if table is not DATA:
            if rows:
                await self._write(await in_thread(self._packed, _rows_of(table, rows), ()))
            return rows
        numbers = {segment.number for segment in self.run}
        all_rows = [DataWas._make(row) for row in rows]
        moved: list[DataWas] = [row for row in all_rows if row.segment not in numbers and row.segment != HOLE]
        for some in _portions([row for row in all_rows if row.segment in numbers or row.segment == HOLE]):
            old = await self._old_bytes(some)
            packed = await in_thread(self._packed, _rows_of(DATA, some), old)
            moved += await self._write(packed)
        return moved

    def _packed(self, rows: Rows, old: Sequence[bytes | None]) -> Packed:
        last = self.run[-1]
        return merged(Head(last.next_seq, last.last_ns, last.applied_ns), rows, old)

    async def _write(self, packed: Packed) -> list[DataWas]:
        last = self.run[-1]
        header = Header(0, last.next_seq, 0, last.last_ns, last.last_ns, last.applied_ns)
        (placed,) = await self.target.write([Draft(header, packed.payload)])
        return packed.placed(*placed.payload_at).data

    async def _old_bytes(self, rows: Sequence[DataWas]) -> list[bytes | None]:
        """The bytes of each row, in bounded memory: of the unpacked chunks only what is needed stays."""
        wanted: dict[Place, list[int]] = {}
        for index, row in enumerate(rows):
            if row.segment != HOLE:
                wanted.setdefault((row.segment, row.position, row.size), []).append(index)
        found: list[bytes | None] = [None] * len(rows)
        for places in _pages(sorted(wanted)):
            pieces = [Piece(Position(segment, position), size) for segment, position, size in places]
            chunks = await self.journal.pieces(pieces)
            await in_thread(_take, rows, [wanted[place] for place in places], chunks, found)
        return found


def _take(rows: Sequence[DataWas], users: list[list[int]], chunks: list[bytes], found: list[bytes | None]) -> None:
    for indexes, packed in zip(users, chunks, strict=True):
        try:
            chunk = unpacked_chunk(packed)
        except Damaged as error:
            raise StopRule("old bytes of the CDP data are damaged", code=Code.CDP_INCOMPLETE) from error
        for index in indexes:
            row = rows[index]
            found[index] = chunk[row.skip : row.skip + row.hi - row.lo]


def _portions(rows: Sequence[DataWas]) -> Iterator[list[DataWas]]:
    """Rows with `FRAME_BYTES` of old bytes at a time."""
    some: list[DataWas] = []
    filled = 0
    for row in rows:
        length = 0 if row.segment == HOLE else row.hi - row.lo
        if some and filled + length > FRAME_BYTES:
            yield some
            some, filled = [], 0
        some.append(row)
        filled += length
    if some:
        yield some


def _pages(places: Sequence[Place]) -> Iterator[list[Place]]:
    """Places with `READ_BYTES` of packed bytes at a time."""
    some: list[Place] = []
    filled = 0
    for place in places:
        if some and filled + place[2] > READ_BYTES:
            yield some
            some, filled = [], 0
        some.append(place)
        filled += place[2]
    if some:
        yield some


def _rows_of(table: Table, found: Sequence[Row]) -> Rows:
    rows = Rows()
    if table is NAMES:
        rows.names = [NameWas(parent, name, since, until, oid) for parent, name, until, since, oid, _ in found]
    elif table is METAS:
        rows.metas = [MetaWas._make(row) for row in found]
    elif table is SIZES:
        rows.sizes = [SizeWas._make(row) for row in found]
    elif table is DATA:
        rows.data = [DataWas._make(row) for row in found]
    else:
        rows.touches = [Touch._make(row) for row in found]
    return rows
