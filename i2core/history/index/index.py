"""The index as a whole: where rows go, and how they are taken back."""

from __future__ import annotations

import os
from collections.abc import Iterable

from i2core.history.index.batches import Batch
from i2core.history.index.now import Now
from i2core.history.index.partition import NO_ROW, Partition, Rows
from i2core.history.index.partitions import Partitions
from i2core.history.index.past_rows import PastRows
from i2core.history.index.schema import TABLES
from i2core.history.model.rows import CatalogChange

PARTITION_ROWS = 250_000
TAIL_ROWS = 8192
"""Rows are written to a partition in sorted blocks of this size: each page is then changed once for many rows."""


class Index:
    """Rows of all frames so far. For one thread at a time."""

    def __init__(self, directory: str, *, tail_rows: int = 0, part_rows: int = 0) -> None:
        """Opens the index in a directory that exists; it is empty when there is none. `tail_rows`, `part_rows`: 0 for
        `TAIL_ROWS` and `PARTITION_ROWS`.

        Raises:
            FileNotFoundError: somebody has removed a partition.
            sqlite3.DatabaseError: a file is damaged, or cannot be read.
        """
        self.tail_rows = tail_rows or TAIL_ROWS
        self.now = Now(os.path.join(directory, "now.db"))
        self.parts = Partitions(directory, self.now, part_rows=part_rows or PARTITION_ROWS)
        self.tail = Partition(first=NO_ROW)
        self.rows = PastRows(self.every)
        self.catalog, self.batches = self.now.catalog, self.now.batches
        self._end_roll_back()

    def every(self) -> list[Partition]:
        """All partitions, the oldest first, and the tail."""
        return [*self.parts.all, self.tail]

    def close(self) -> None:
        """Writes the tail and closes all files."""
        self.flush()
        for part in self.parts.all:
            part.close()
        self.tail.close()
        self.now.close()

    def abandon(self) -> None:
        """Closes all files as a killed process does: what was not committed is gone."""
        self.now.abandon()
        for part in self.every():
            part.close()

    # ------------------------------------------------------------------------------------------- writing

    def add(self, rows: Rows, catalog: Iterable[CatalogChange] = (), batch: Batch | None = None) -> None:
        """What a durable frame says: readers know it from now on. Its records are not carried out yet: until then an
        object may stand under the name that a row has, and after that under the one of the catalog."""
        self.tail.add(rows)
        self.catalog.change(catalog)
        if batch is not None:
            self.batches.add(batch)
        if self.tail.count >= self.tail_rows:
            self.flush()

    def flush(self) -> None:
        """Writes the tail to a partition, in the order of its keys."""
        full = False
        if self.tail.count:
            part = self.parts.to_grow(self.tail.first)
            part.db.execute("begin")
            for table in TABLES:
                part.db.executemany(table.insert, self.tail.stream(table))
            part.db.execute("commit")
            part.count += self.tail.count
            part.first, part.last = min(part.first, self.tail.first), max(part.last, self.tail.last)
            part.has_coarse = part.has_coarse or self.tail.has_coarse
            self.parts.note(part)
            self.tail.clear()
            full = part.count >= self.parts.part_rows
        self.now.commit()
        if full:
            self.sync()

    def close_growing(self) -> list[Partition]:
        """The partition that rows are added to is closed, and another one begun: all so far may be merged, and is
        durable. To be called while nothing is planned that is not carried out: else a record that fails would drop
        rows from a partition that is being read."""
        self.sync()
        self.parts.growing = None
        return list(self.parts.all)

    def roll_back(self, seq: int, reach: tuple[int, int]) -> None:
        """Everything as if nothing had been planned after the moment; `reach`: the end of its frame (see `Now.reach`).
        Durable before the journal is cut, as `give_up`; cut off, it is ended when the index is opened the next time."""
        self.flush()
        self.catalog.roll_back(seq, list(self.rows.names_ended(seq)))
        self.batches.drop_above(seq)
        self.now.reach = reach
        self.now.set_state("rolling", seq)
        self.sync()
        self._end_roll_back()

    def _end_roll_back(self) -> None:
        """Drops rows that end after the moment to which the catalog is rolled back already."""
        seq = int(self.now.state("rolling", -1))
        if seq < 0:
            return
        for part in self.parts.all:
            if part.last > seq:
                part.drop_above(seq)
                self.parts.note(part)
        self.now.set_state("rolling", -1)
        self.sync()

    def forget_object(self, oid: int) -> None:
        """Drops all rows about an object and about names in it."""
        for part in self.every():
            part.forget_object(oid)

    def sync(self) -> None:
        """All so far is durable: after a power cut start-up needs no earlier frames."""
        self.flush()
        for part in self.parts.all:
            part.seal()
        self.now.synced = self.now.reach
        self.now.commit(durable=True)

    def give_up(self, seq: int, reach: tuple[int, int]) -> None:
        """The record `seq` failed: what was planned after it never was. `reach`: the end of the frame before those of
        its plan (see `Now.reach`). Durable before the journal is cut: else the index would take a later frame in their
        place for one that it has."""
        self.flush()
        self.catalog.roll_back(seq, list(self.rows.names_ended(seq)))
        self.now.reach = reach
        self.sync()
        self.drop_after(seq)

    def drop_after(self, seq: int) -> None:
        """Drops rows and batches of later records; the catalog does not know of them."""
        for part in self.parts.all:
            if part.last > seq:
                part.drop_above(seq)
                self.parts.note(part)
        self.tail.drop_above(seq)
        self.batches.cut(seq)

    def go_on_after(self, seq: int) -> None:
        """Start-up: the frames that follow are taken in, again or in the place of others. What a crash has left of
        these is dropped, also in a partition that has more rows than it could note."""
        if self.parts.growing is not None:
            self.parts.growing.last = max(self.parts.growing.last, seq + 1)
        self.drop_after(seq)
