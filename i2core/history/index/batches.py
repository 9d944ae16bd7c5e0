"""Which frame has which records, and running counts: one row for each batch, so that any time is one seek away."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

_PAGE = 64


class Batch(NamedTuple):
    """A frame with records."""

    first_seq: int
    last_seq: int
    first_ns: int
    """The work node's time of its first change."""
    changes: int
    """Records so far, this batch included, that changed something; counted from the beginning of the history."""
    losses: int
    """Records so far that destroyed something."""
    segment: int
    position: int
    """Where the payload begins."""
    size: int
    """Bytes of the payload up to the end of the log; 0: the log was given up."""


class Batches:
    """The table `batch` of the index."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, batch: Batch) -> None:
        """A batch that is durable. Its counts are those of its own records, and become running ones here."""
        before = self._db.execute(
            "select changes,losses from batch where first_seq<? order by first_seq desc limit 1", (batch.first_seq,)
        ).fetchone() or (0, 0)
        summed = batch._replace(changes=batch.changes + before[0], losses=batch.losses + before[1])
        self._db.execute("insert or replace into batch values(?,?,?,?,?,?,?,?)", summed)

    def get(self, first_seq: int) -> Batch | None:
        """The batch that begins there."""
        row = self._db.execute("select * from batch where first_seq=?", (first_seq,)).fetchone()
        return row and Batch._make(row)

    def before(self, seq: int) -> Iterator[Batch]:
        """Batches with records below `seq`, newest first."""
        while rows := self._rows("first_seq<? order by first_seq desc", seq):
            yield from rows
            seq = rows[-1].first_seq

    def after(self, seq: int) -> Iterator[Batch]:
        """Batches with records above `seq`, oldest first."""
        begin = next(self.before(seq + 1), None)
        if begin is not None and begin.last_seq > seq:
            yield begin
        while rows := self._rows("first_seq>? order by first_seq", seq):
            yield from rows
            seq = rows[-1].first_seq

    def _rows(self, where: str, seq: int) -> list[Batch]:
        asked = self._db.execute(f"select * from batch where {where} limit {_PAGE}", (seq,))
        return [Batch._make(row) for row in asked]

    def at(self, time_ns: int) -> Batch | None:
        """The last batch that began at this time or before it."""
        sql = "select * from batch where time<=? order by time desc, first_seq desc limit 1"
        row = self._db.execute(sql, (time_ns,)).fetchone()
        return row and Batch._make(row)

    def counts(self, time_ns: int) -> tuple[int, int]:
        """Running counts (changes, losses) of all batches that began before this time."""
        sql = "select changes,losses from batch where time<? order by time desc, first_seq desc limit 1"
        row = self._db.execute(sql, (time_ns,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def give_up(self, after: int, seq: int) -> None:
        """Gives up the log of batches all of whose records are up to `seq`. Those that begin after `after` are
        forgotten; the newest of them stays, for the running counts."""
        newest = "(select max(first_seq) from batch where last_seq<=?2)"
        sql = f"delete from batch where first_seq>?1 and last_seq<=?2 and first_seq<{newest}"
        self._db.execute(sql, (after, seq))
        self._db.execute("update batch set size=0 where last_seq<=?", (seq,))

    def cut(self, seq: int) -> None:
        """Nothing was planned after the moment: the batch that has it ends there. Its counts stay as they are."""
        self.drop_above(seq)
        self._db.execute("update batch set last_seq=? where last_seq>?", (seq, seq))

    def drop_above(self, seq: int) -> None:
        """Forgets what was planned after the moment."""
        self._db.execute("delete from batch where first_seq>?", (seq,))
