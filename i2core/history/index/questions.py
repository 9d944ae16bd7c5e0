"""What can be asked of one partition. Each question is one index seek, or one for each row of the answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

from i2core.history.index.fork import way
from i2core.history.index.schema import Table
from i2core.history.model.rows import DataWas, NameWas


class Questions:
    """Asks one partition."""

    def __init__(self, db: sqlite3.Connection, last: Callable[[], int]) -> None:
        """`last`: the largest seq that a row has."""
        self._db, self._last = db, last

    def name(self, parent: int, name: bytes, seq: int) -> NameWas | None:
        """The first row of the name that ends after the moment."""
        sql = "select since,until,oid from name_was where parent=? and name=? and until>? order by until limit 1"
        row = self._db.execute(sql, (parent, name, seq)).fetchone()
        return row and NameWas(parent, name, *row)

    def names(self, parent: int, seq: int) -> Iterator[tuple[bytes, int]]:
        """(name, oid) of all rows of the directory that hold at the moment."""
        ask = self._db.execute
        if ask("select 1 from name_was where parent=? limit 1", (parent,)).fetchone() is None:
            return
        below, above = way(seq, self._last())
        sql = "select name,oid from name_was indexed by name_until where parent=? and fork=? and until>? and since<=?"
        for node in below:
            yield from ask(sql, (parent, node, seq, seq))
        sql = "select name,oid from name_was indexed by name_since where parent=? and fork=? and since<=? and until>?"
        for node in above:
            yield from ask(sql, (parent, node, seq, seq))

    def meta(self, oid: int, seq: int) -> bytes | None:
        """Attributes at the moment; None: no row here tells."""
        row = self._db.execute(
            "select meta from meta_was where oid=? and until>? order by until limit 1", (oid, seq)
        ).fetchone()
        return row and bytes(row[0])

    def size(self, oid: int, seq: int) -> int | None:
        """Length at the moment; None: no row here tells."""
        row = self._db.execute(
            "select size from size_was where oid=? and until>? order by until limit 1", (oid, seq)
        ).fetchone()
        return row and int(row[0])

    def data(self, oid: int, block: int, seq: int) -> Iterator[DataWas]:
        """Rows of the block that end after the moment, the oldest first."""
        sql = "select * from data_was where oid=? and block=? and until>? order by until"
        return map(DataWas._make, self._db.execute(sql, (oid, block, seq)))

    def has_data(self, oid: int, seq: int) -> bool:
        """True when rows about bytes of the file end after the moment."""
        sql = "select 1 from data_was where oid=? and until>? limit 1"
        return self._db.execute(sql, (oid, seq)).fetchone() is not None

    def blocks(self, oid: int, seq: int) -> Iterator[int]:
        """Blocks of a file about which rows end after the moment."""
        return (
            row[0]
            for row in self._db.execute("select distinct block from data_was where oid=? and until>?", (oid, seq))
        )

    def names_of(self, oid: int, first: int, last: int) -> Iterator[NameWas]:
        """Rows about the names of an object with first < until, since <= last."""
        sql = "select parent,name,since,until,oid from name_was where oid=? and until>? and since<=?"
        return map(NameWas._make, self._db.execute(sql, (oid, first, last)))

    def places(self, oid: int) -> Iterator[tuple[int, bytes]]:
        """(parent, name) of rows that lead to the object, newest first."""
        return self._db.execute("select parent,name from name_was where oid=? order by until desc", (oid,))

    def touches(self, oid: int, before: int) -> Iterator[int]:
        """Frames below `before` that speak of the object, newest first."""
        sql = "select frame from touch where oid=? and frame<? order by frame desc"
        return (row[0] for row in self._db.execute(sql, (oid, before)))

    def touched(self, first: int, last: int) -> Iterator[int]:
        """Objects that frames of [first, last] speak of."""
        sql = "select distinct oid from touch where frame between ? and ?"
        return (row[0] for row in self._db.execute(sql, (first, last)))

    def objects(self, table: Table, first: int, last: int) -> set[int]:
        """Objects about which rows of the table end in (first, last]."""
        return {
            row[0]
            for row in self._db.execute(f"select oid from {table.name} where until>? and until<=?", (first, last))
        }

    def renamed(self, first: int, last: int) -> set[int]:
        """Objects of which a name began or ended in (first, last]."""
        sql = "select oid from name_was where until>?1 and (until<=?2 or since>?1 and since<=?2)"
        return {row[0] for row in self._db.execute(sql, (first, last))}

    def is_named(self, oid: int, besides: int = -1) -> bool:
        """True when a row about a name leads to the object; rows about names in the directory `besides` do not
        count."""
        sql = "select 1 from name_was where oid=? and parent<>? limit 1"
        return self._db.execute(sql, (oid, besides)).fetchone() is not None

    def leads_into(self, segments: Sequence[int], first: int, last: int) -> bool:
        """True when rows that end in [first, last] have their old bytes in one of the segments. Reads all rows about
        bytes."""
        marks = ",".join("?" * len(segments))
        sql = f"select 1 from data_was where until between ? and ? and segment in ({marks}) limit 1"
        return self._db.execute(sql, (first, last, *segments)).fetchone() is not None

    def speaks_of(self, oid: int) -> bool:
        """True when any row is about the object, or about a name in it."""
        asks = [f"select 1 from {table} where oid=?1" for table in ("name_was", "meta_was", "size_was", "data_was")]
        sql = " union all ".join([*asks, "select 1 from name_was where parent=?1"]) + " limit 1"
        return self._db.execute(sql, (oid,)).fetchone() is not None
