"""The index as a whole: where rows go, which partitions there are, and what becomes of them."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable

from i2core.history.index.batches import Batch
from i2core.history.index.now import Now, PartFile
from i2core.history.index.partition import NO_ROW, Partition, Rows
from i2core.history.index.past_rows import PastRows
from i2core.history.index.schema import TABLES
from i2core.history.model.rows import CatalogChange
from i2core.posix.durable import sync_path

PARTITION_ROWS = 250_000
TAIL_ROWS = 8192
"""Rows are written to a partition in sorted blocks of this size: each page is then changed once for many rows."""


class Index:
    """Rows of all frames so far. For one thread at a time."""

    def __init__(self, directory: str, *, tail_rows: int = TAIL_ROWS, part_rows: int = PARTITION_ROWS) -> None:
        """Opens the index in a directory that exists; it is empty when there is none.

        Raises:
            FileNotFoundError: somebody has removed a partition.
            sqlite3.DatabaseError: a file is damaged, or cannot be read.
        """
        self._directory = directory
        self.tail_rows, self.part_rows = tail_rows, part_rows
        self.now = Now(os.path.join(directory, "now.db"))
        self.parts: list[Partition] = []
        self._growing: Partition | None = None
        self._check_files(self.now.parts())
        self.reload_parts()
        self._remove_strays()
        self.tail = Partition(first=NO_ROW)
        last = self.parts[-1] if self.parts else None
        self._growing = last if last is not None and last.count < part_rows else None
        self.rows = PastRows(self.every)
        self.catalog, self.batches = self.now.catalog, self.now.batches
        self._end_roll_back()

    def _check_files(self, known: list[PartFile]) -> None:
        """SQLite would make an empty one of a file that is missing."""
        for part in known:
            if not os.path.exists(self.path(part.file)):
                self.now.abandon()
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path(part.file))

    def every(self) -> list[Partition]:
        """All partitions, the oldest first, and the tail."""
        return [*self.parts, self.tail]

    def path(self, file: str) -> str:
        """Where a file of the index is."""
        return os.path.join(self._directory, file)

    def _remove_strays(self) -> None:
        """Removes partitions that a merge was making, or had replaced, when it was cut off."""
        known = {os.path.basename(part.path) for part in self.parts}
        if (pending := self.now.pending) is not None:
            known |= {part.file for part in pending.new}
        for file in os.listdir(self._directory):
            if file.startswith("rows-") and file.partition(".db")[0] + ".db" not in known:
                os.unlink(self.path(file))

    def close(self) -> None:
        """Writes the tail and closes all files."""
        self.flush()
        for part in self.parts:
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
            part = self._growing
            if part is None or part.count >= self.part_rows:
                part = self._growing = self.new_part(self.tail.first)
                self.parts.append(part)
            part.db.execute("begin")
            for table in TABLES:
                part.db.executemany(table.insert, self.tail.stream(table))
            part.db.execute("commit")
            part.count += self.tail.count
            part.first, part.last = min(part.first, self.tail.first), max(part.last, self.tail.last)
            part.has_coarse = part.has_coarse or self.tail.has_coarse
            self.note(part)
            self.tail.clear()
            full = part.count >= self.part_rows
        self.now.commit()
        if full:
            self.sync()

    def new_part(self, first: int) -> Partition:
        """An empty partition; it is none of the index before `note`."""
        number = int(self.now.state("parts", 0)) + 1
        self.now.set_state("parts", number)
        part = Partition(self.path(f"rows-{number:08d}.db"), first, first - 1)
        try:
            sync_path(self._directory)  # one that is listed and missing was removed, whatever the power did
        except OSError as error:
            raise sqlite3.OperationalError(error.strerror) from error
        return part

    def note(self, part: Partition) -> None:
        """The list of partitions has this one, as it is now."""
        self.now.set_part(PartFile(os.path.basename(part.path), part.first, part.last, part.count))

    def reload_parts(self) -> None:
        """Opens the partitions that the list has by now, and removes the files of those that it has no more."""
        there, known = {os.path.basename(part.path): part for part in self.parts}, self.now.parts()
        self.parts = [
            there[part.file]
            if part.file in there
            else Partition(self.path(part.file), part.first, part.last, part.rows)
            for part in known
        ]
        for file in there.keys() - {part.file for part in known}:
            self.discard(there[file])
        if self._growing not in self.parts:
            self._growing = None

    def discard(self, part: Partition) -> None:
        """Closes a partition that is none of the index, and removes its file."""
        part.close()
        self.remove_file(os.path.basename(part.path))

    def remove_file(self, file: str) -> None:
        """Removes the file of a partition that is none of the index; a missing one is no error."""
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path(file + end))

    @property
    def growing(self) -> Partition | None:
        """The partition that rows are added to; None: the next one is not begun."""
        return self._growing

    def close_growing(self) -> list[Partition]:
        """The partition that rows are added to is closed, and another one begun: all so far may be merged, and is
        durable. To be called while nothing is planned that is not carried out: else a record that fails would drop
        rows from a partition that is being read."""
        self.sync()
        self._growing = None
        return list(self.parts)

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
        for part in self.parts:
            if part.last > seq:
                part.drop_above(seq)
                self.note(part)
        self.now.set_state("rolling", -1)
        self.sync()

    def forget_object(self, oid: int) -> None:
        """Drops all rows about an object and about names in it."""
        for part in self.every():
            part.forget_object(oid)

    def sync(self) -> None:
        """All so far is durable: after a power cut start-up needs no earlier frames."""
        self.flush()
        for part in self.parts:
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
        for part in self.parts:
            if part.last > seq:
                part.drop_above(seq)
                self.note(part)
        self.tail.drop_above(seq)
        self.batches.cut(seq)

    def go_on_after(self, seq: int) -> None:
        """Start-up: the frames that follow are taken in, again or in the place of others. What a crash has left of
        these is dropped, also in a partition that has more rows than it could note."""
        if self._growing is not None:
            self._growing.last = max(self._growing.last, seq + 1)
        self.drop_after(seq)
