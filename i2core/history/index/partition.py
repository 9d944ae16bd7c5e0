"""One partition of the index: the rows whose `until` lies in one range."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from i2core.history.index.fork import fork
from i2core.history.index.questions import Questions
from i2core.history.index.schema import DATA, METAS, NAMES, PARTITION, SIZES, TABLES, TOUCHES, Table
from i2core.history.model.grain import COARSE
from i2core.history.model.rows import DataWas, MetaWas, NameWas, SizeWas, Touch

_CACHE_KIB = 1024
"""There may be fifty partitions: a large cache for each would be the node's memory."""
_PAGE_BYTES = 8192
NO_ROW = 1 << 62
"""The first seq of what has no row."""

AnyRow = NameWas | MetaWas | SizeWas | DataWas | Touch


class Rows:
    """Rows of one frame or more, by table."""

    __slots__ = ("data", "metas", "names", "sizes", "touches")

    def __init__(self) -> None:
        self.names: list[NameWas] = []
        self.metas: list[MetaWas] = []
        self.sizes: list[SizeWas] = []
        self.data: list[DataWas] = []
        self.touches: list[Touch] = []

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self.tables())

    def _seqs(self) -> Iterator[int]:
        for rows in (self.names, self.metas, self.sizes, self.data):
            yield from (row.until for row in rows)
        yield from (row.frame for row in self.touches)

    @property
    def first(self) -> int:
        """The smallest seq that a row has."""
        return min(self._seqs(), default=NO_ROW)

    @property
    def last(self) -> int:
        """The largest seq that a row has."""
        return max(self._seqs(), default=0)

    def tables(self) -> Sequence[tuple[Table, Sequence[AnyRow]]]:
        """The rows of each table."""
        return (
            (NAMES, self.names),
            (METAS, self.metas),
            (SIZES, self.sizes),
            (DATA, self.data),
            (TOUCHES, self.touches),
        )


def columns(table: Table, rows: Sequence[AnyRow]) -> Iterator[tuple[Any, ...]]:
    """Rows as the columns of their table."""
    if table is not NAMES:
        return iter(rows)
    names = (row for row in rows if isinstance(row, NameWas))
    return ((p, name, until, since, oid, fork(since, until)) for p, name, since, until, oid in names)


def connect(path: str) -> sqlite3.Connection:
    """Opens a file of the index. It is derived, so it need not be durable at once; what is relied on is synced
    explicitly (`Partition.seal`)."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute(f"pragma page_size={_PAGE_BYTES}")
    db.execute(f"pragma cache_size=-{_CACHE_KIB}")
    if path != ":memory:":
        db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    return db


class Partition:
    """Reads and writes one partition. `first`, `last`: no row has a smaller or larger seq (`until`, or `frame`)."""

    def __init__(self, path: str = ":memory:", first: int = 0, last: int = 0, count: int = 0) -> None:
        self.path, self.first, self.last, self.count = path, first, last, count
        self.db = connect(path)
        self.db.executescript(PARTITION)
        self.ask = Questions(self.db, lambda: self.last)
        self._coarse: bool | None = None if count else False

    def add(self, rows: Rows) -> None:
        """Adds rows in one transaction. Sorted by key, a block of several thousand touches each page once."""
        self.db.execute("begin")
        for table, found in rows.tables():
            self.db.executemany(table.insert, columns(table, found))
        self.db.execute("commit")
        self.count += len(rows)
        self.first, self.last = min(self.first, rows.first), max(self.last, rows.last)
        if any(row.block >= COARSE for row in rows.data):
            self.has_coarse = True

    @property
    def has_coarse(self) -> bool:
        """True when there are rows about wide holes."""
        if self._coarse is None:
            sql = "select 1 from data_was where block>=? limit 1"
            self._coarse = self.db.execute(sql, (COARSE,)).fetchone() is not None
        return self._coarse

    @has_coarse.setter
    def has_coarse(self, known: bool) -> None:
        self._coarse = known

    def clear(self) -> None:
        """Drops all rows."""
        self.db.execute("begin")
        for table in TABLES:
            self.db.execute(f"delete from {table.name}")
        self.db.execute("commit")
        self.count, self.has_coarse = 0, False
        self.first = NO_ROW

    def beside(self) -> Partition:
        """The same file through a connection of its own, for who reads it in another thread. Nothing is to be written
        to the file meanwhile."""
        return Partition(self.path, self.first, self.last, self.count)

    def seal(self) -> None:
        """Makes the file one that stands alone: all of it is in it, and durable."""
        self.db.execute("pragma synchronous=full")
        self.db.execute("pragma wal_checkpoint(truncate)")
        self.db.execute("pragma synchronous=normal")

    def close(self) -> None:
        """Closes the file."""
        self.db.close()

    # ------------------------------------------------------------------------------------------- whole tables

    def stream(self, table: Table, above: int = -1) -> Iterator[tuple[Any, ...]]:
        """All rows of the table that end after `above`, in the order of their keys, in bounded memory."""
        where = "" if above < 0 else f"where until>{int(above)}"
        return iter(self.db.execute(f"select * from {table.name} {where} order by {','.join(table.key)}"))

    def forget_object(self, oid: int) -> None:
        """Drops all rows of an object that is gone, and of names in it."""
        for table in ("meta_was", "size_was", "data_was", "touch"):
            self.db.execute(f"delete from {table} where oid=?", (oid,))
        self.db.execute("delete from name_was where parent=?", (oid,))

    def drop_above(self, seq: int) -> None:
        """Drops what was planned after the moment."""
        self.db.execute("begin")
        for table in TABLES:
            column = "frame" if table is TOUCHES else "until"
            self.db.execute(f"delete from {table.name} where {column}>?", (seq,))
        self.db.execute("commit")
        self.last = min(self.last, seq)
