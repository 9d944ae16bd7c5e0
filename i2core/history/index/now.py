"""What is so at present: the catalog, the batches, and which partitions there are. One SQLite file, one transaction at
a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from i2core.history.index.batches import Batches
from i2core.history.index.catalog import Catalog
from i2core.history.index.partition import connect
from i2core.history.index.schema import FORMAT, NOW

_CACHE_KIB = 16 * 1024


class PartFile(NamedTuple):
    """A partition, as the list of them has it."""

    file: str
    first: int
    last: int
    rows: int


class Pending(NamedTuple):
    """A change of the list of partitions that is prepared (see `switch`)."""

    generation: int
    """Its number."""
    old: Sequence[str]
    """Files of partitions that go."""
    new: Sequence[PartFile]
    log_after: int
    log_to: int
    """The log after the one record and up to the other goes as well: its frames are merged. The batch that begins at
    the first one stays, without its log: old bytes of it may lie in the segment before."""


class Now:
    """What is so at present. Changes become lasting with `commit`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.db = connect(path)
        self._check_format()
        self.db.execute(f"pragma cache_size=-{_CACHE_KIB}")
        self.db.executescript(NOW)
        self.db.execute("begin")
        self.batches = Batches(self.db)
        self.catalog = Catalog(self.db)

    def _check_format(self) -> None:
        """A file of another format is told from a damaged one; an empty file has none yet."""
        (number,) = self.db.execute("pragma user_version").fetchone()
        (tables,) = self.db.execute("select count(*) from sqlite_master").fetchone()
        if tables and number != FORMAT:
            self.db.close()
            raise sqlite3.DatabaseError(f"its format is {number}, and this version of the program has {FORMAT}")

    def commit(self, *, durable: bool = False) -> None:
        """Ends the transaction and begins the next. `durable`: it would survive a power cut."""
        self.db.execute("commit")
        if durable:
            self.db.execute("pragma synchronous=full")
            self.db.execute("pragma wal_checkpoint(truncate)")
            self.db.execute("pragma synchronous=normal")
        self.db.execute("begin")

    def close(self) -> None:
        """Commits and closes."""
        self.db.execute("commit")
        self.db.close()

    def abandon(self) -> None:
        """Closes; what was not committed is gone."""
        self.db.close()

    def beside(self) -> sqlite3.Connection:
        """Another connection, for who reads in another thread; it sees what is committed."""
        return connect(self._path)

    def parts(self) -> list[PartFile]:
        """All partitions, in the order in which their rows were written. It cannot be told from the rows: a record that
        destroys much has frames of old bytes ahead of it, and with them two partitions may end at the same moment."""
        return [PartFile(*row) for row in self.db.execute("select file,first,last,count from part order by place")]

    def set_part(self, part: PartFile) -> None:
        """Adds a partition behind all others, or tells what it holds by now."""
        self.db.execute(
            "insert into part(file,place,first,last,count)"
            " values(?,(select coalesce(max(place),0)+1 from part),?,?,?)"
            " on conflict(file) do update set first=excluded.first,last=excluded.last,count=excluded.count",
            part,
        )

    def replace_parts(self, old: Sequence[str], new: Sequence[PartFile]) -> None:
        """Puts partitions in the place of others, which stand side by side; a file that is gone already is no error."""
        parts = self.parts()
        at = next((place for place, part in enumerate(parts) if part.file in old), 0)
        rest = [part for part in parts if part.file not in old]
        self.db.execute("delete from part")
        for part in [*rest[:at], *new, *rest[at:]]:
            self.set_part(part)

    @property
    def pending(self) -> Pending | None:
        """The change of the list that is prepared and neither finished nor taken back."""
        kept = str(self.state("pending"))
        if not kept:
            return None
        generation, old, new, *log = json.loads(kept)
        return Pending(generation, old, [PartFile(*each) for each in new], *log)

    @pending.setter
    def pending(self, change: Pending | None) -> None:
        self.set_state("pending", "" if change is None else json.dumps(change))

    @property
    def reach(self) -> tuple[int, int]:
        """Segment and offset of the end of the last plan whose frames the index has completely; (0, 0): it has none."""
        return int(self.state("segment", 0)), int(self.state("offset", 0))

    @reach.setter
    def reach(self, end: tuple[int, int]) -> None:
        self.set_state("segment", end[0])
        self.set_state("offset", end[1])

    @property
    def synced(self) -> tuple[int, int]:
        """As `reach`, of what would be there after a power cut: files of the index become durable at different times,
        and only what was synced is certain in all of them."""
        return int(self.state("synced_segment", 0)), int(self.state("synced_offset", 0))

    @synced.setter
    def synced(self, end: tuple[int, int]) -> None:
        self.set_state("synced_segment", end[0])
        self.set_state("synced_offset", end[1])

    def state(self, name: str, default: int | str = "") -> int | str:
        """A value that the history keeps."""
        row = self.db.execute("select value from state where name=?", (name,)).fetchone()
        return default if row is None else row[0]

    def set_state(self, name: str, value: int | str) -> None:
        """Keeps a value."""
        self.db.execute("insert or replace into state(name,value) values(?,?)", (name, value))
