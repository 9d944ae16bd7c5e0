"""Thins out the past: of several partitions below the floor one is made, with the rows that a kept moment needs.

Rows are read in the order of their keys from all partitions at once, in bounded memory; each stop is a place where the
merge may be given up without a trace. The new partition takes the place of the old ones in one durable step, and only
then their files are removed. The interval of a row that is dropped goes to its successor, which then stretches
back over the gap: no kept moment lies in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from i2core.api.present import STAGING, STORE
from i2core.history.index.index import Index
from i2core.history.index.partition import Partition
from i2core.history.index.past_rows import merged_rows
from i2core.history.index.schema import DATA, METAS, NAMES, SIZES, TABLES, TOUCHES, Table
from i2core.history.model.grain import COARSE
from i2core.history.model.rows import HOLE, DataWas
from i2core.history.retention.kept import Kept

_BLOCK_ROWS = 8192

Carry = Callable[[Sequence[DataWas]], Sequence[DataWas]]
"""Copies the old bytes of rows that stay to where they will be (a merged segment), and gives the rows with their new
places."""


@attrs.define
class Merge:
    """One merge. `run` works; `seen` and `left` tell how far it is."""

    index: Index
    parts: Sequence[Partition]
    """Neighbours, the oldest first; no rows are added to them any more."""
    kept: Kept
    carry: Carry
    seen: int = 0
    """Rows that were read."""
    left: int = 0
    """Rows that stay."""

    def run(self) -> Iterator[None]:
        """Works, with a stop after each block of rows. Closed before its end, it leaves all as it was."""
        new = self.index.new_part(self.parts[0].first)
        new.last = self.parts[-1].last
        done = False
        try:
            for table in TABLES:
                yield from self._copy(table, new)
            new.count = self.left
            done = True
        finally:
            if not done:
                self.index.discard(new)
        self.index.replace(list(self.parts), new if new.count else None)
        if not new.count:
            self.index.discard(new)

    def _copy(self, table: Table, new: Partition) -> Iterator[None]:
        block: list[tuple[Any, ...]] = []
        for row in self._stay(table):
            block.append(row)
            if len(block) == _BLOCK_ROWS:
                self._write(table, new, block)
                block = []
                yield
        self._write(table, new, block)
        yield

    def _write(self, table: Table, new: Partition, block: list[tuple[Any, ...]]) -> None:
        rows: Sequence[tuple[Any, ...]] = block
        if table is DATA:
            rows = self._carried([DataWas._make(row) for row in block])
            new.has_coarse = new.has_coarse or any(row[1] >= COARSE for row in rows)
        new.db.execute("begin")
        new.db.executemany(table.insert, rows)
        new.db.execute("commit")
        self.left += len(rows)

    def _carried(self, rows: list[DataWas]) -> list[DataWas]:
        """The same rows, with the new places of their bytes."""
        moved = iter(self.carry([row for row in rows if row.segment != HOLE]))
        return [row if row.segment == HOLE else next(moved) for row in rows]

    def _stay(self, table: Table) -> Iterator[tuple[Any, ...]]:
        rows = self._counted(merged_rows(list(self.parts), table))
        if table is NAMES:
            return self._names(rows)
        if table is DATA:
            return self._data(rows)
        if table is TOUCHES:
            return (row for row in rows if row[1] > self.kept.floor)
        assert table in (METAS, SIZES)
        return self._states(rows)

    def _counted(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            self.seen += 1
            yield row

    def _names(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Names in the store and of staging files are of no moment: only undoing needs them."""
        for row in rows:
            parent, _, until, since = row[:4]
            if self.kept.needs(since, until) if parent not in (STORE, STAGING) else until > self.kept.floor:
                yield row

    def _states(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """A state holds from the end of the one before on, or from the object's birth."""
        oid, since = -1, 0
        for row in rows:
            if row[0] != oid:
                oid, since = row[0], self.index.catalog.born(row[0])
            if self.kept.needs(since, row[1]):
                yield row
            since = row[1]

    def _data(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Of each byte of a block the row before tells since when it held."""
        key, cover = (-1, -1), Cover(0)
        for row in rows:
            if row[:2] != key:
                key, cover = row[:2], Cover(self.index.catalog.born(row[0]))
            until, lo, hi = row[2:5]
            if any(self.kept.needs(since, until) for since in cover.put(lo, hi, until)):
                yield row


class Cover:
    """For each byte of a block the `until` of its last row so far."""

    def __init__(self, born: int) -> None:
        self._born = born
        self._pieces: list[tuple[int, int, int]] = []

    def put(self, lo: int, hi: int, until: int) -> list[int]:
        """A row covers [lo, hi): since when its bytes may hold, for each part of it."""
        pieces = self._pieces
        if len(pieces) == 1 and pieces[0][:2] == (lo, hi):
            since = pieces[0][2]
            pieces[0] = (lo, hi, until)
            return [since]
        found, rest, at = [], [(lo, hi, until)], lo
        for a, z, old in pieces:
            if z <= lo or a >= hi:
                rest.append((a, z, old))
                continue
            rest += [part for part in ((a, lo, old), (hi, z, old)) if part[0] < part[1]]
            found.append(old)
            if at < a:
                found.append(self._born)
            at = max(at, z)
        if at < hi:
            found.append(self._born)
        self._pieces = sorted(rest)
        return found
