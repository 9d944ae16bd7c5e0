"""Thins out the rows of several partitions: which of them does a kept moment need?

Rows are read in the order of their keys from all partitions at once, in bounded memory, through connections of their
own: who reads or adds rows elsewhere is not in the way. The interval of a row that is dropped goes to its successor,
which then stretches back over the gap: no kept moment lies in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import attrs

from i2core.api.present import STAGING, STORE
from i2core.history.index.partition import Partition
from i2core.history.index.past_rows import merged_rows
from i2core.history.index.schema import DATA, METAS, NAMES, SIZES, TABLES, TOUCHES, Table
from i2core.history.model.grain import COARSE
from i2core.history.retention.kept import Kept

BLOCK_ROWS = 16384
"""Rows that are read for one block: some 50 ms."""

Row = tuple[Any, ...]
Judge = Callable[[Row], bool]
"""Says of each row of a table, in the order of the keys, whether it stays."""


class Block(NamedTuple):
    """Rows of one table that stay, in the order of their keys."""

    table: Table
    below: list[Row]
    """Up to the cut."""
    above: list[Row]
    """They stay as they are."""


@attrs.define
class Merge:
    """One merge. `blocks` works; `seen` tells how far it is."""

    parts: Sequence[Partition]
    """The oldest first; no rows are added to them any more."""
    kept: Kept
    born: Callable[[int], int]
    """The record that made an object (`Catalog.born`)."""
    cut: int
    """Rows after this record are not thinned out: their frames are not merged."""
    seen: int = 0
    """Rows that were read."""

    def blocks(self) -> Iterator[Block]:
        """What stays; may be given up after any block."""
        for table in TABLES:
            at, stays, rows = _SEQ[table], self._judge(table), merged_rows(self.parts, table)
            while some := list(islice(rows, BLOCK_ROWS)):
                self.seen += len(some)
                # Each row is judged: the interval of the next one begins where its own ends.
                left = [row for row in some if stays(row) or row[at] > self.cut]
                above = [row for row in left if row[at] > self.cut]
                yield Block(table, [row for row in left if row[at] <= self.cut] if above else left, above)

    def _judge(self, table: Table) -> Judge:
        if table is NAMES:
            return self._name_stays
        if table is DATA:
            return _Data(self.kept, self.born)
        if table is TOUCHES:
            return lambda row: row[1] > self.kept.floor
        assert table in (METAS, SIZES)
        return _States(self.kept, self.born)

    def _name_stays(self, row: Row) -> bool:
        """Names in the store and of staging files are of no moment: only undoing needs them."""
        parent, _, until, since = row[:4]
        return until > self.kept.floor or (parent not in (STORE, STAGING) and self.kept.needs(since, until))


_SEQ = {NAMES: 2, METAS: 1, SIZES: 1, DATA: 2, TOUCHES: 1}
"""The column that says to which part of the past a row belongs."""


class _States:
    """A state holds from the end of the one before on, or from the object's birth."""

    def __init__(self, kept: Kept, born: Callable[[int], int]) -> None:
        self._needs, self._born = kept.needs, born
        self._oid, self._since = -1, 0

    def __call__(self, row: Row) -> bool:
        oid, until = row[:2]
        if oid != self._oid:
            self._oid, self._since = oid, self._born(oid)
        stays = self._needs(self._since, until)
        self._since = until
        return stays


class _Data:
    """Of each byte of a block the row before tells since when it held."""

    def __init__(self, kept: Kept, born: Callable[[int], int]) -> None:
        self._needs, self._born = kept.needs, born
        self._oid, self._block, self._since, self._cover = -1, -1, 0, Cover(0)

    def __call__(self, row: Row) -> bool:
        oid, block, until, lo, hi = row[:5]
        if oid != self._oid:
            self._oid, self._block, self._since = oid, -1, self._born(oid)
        if block != self._block:
            self._block, self._cover = block, Cover(self._since)
        needs = self._needs
        return any(needs(since, until) for since in self._cover.put(lo, hi, until))


def put(part: Partition, table: Table, rows: Sequence[Row]) -> None:
    """Adds rows of one table to a new partition, in the order of their keys."""
    if not rows:
        return
    part.db.execute("begin")
    part.db.executemany(table.insert, rows)
    part.db.execute("commit")
    part.count += len(rows)
    if table is DATA and any(row[1] >= COARSE for row in rows):
        part.has_coarse = True


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
