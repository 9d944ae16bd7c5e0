"""Shared inodes: the state that several names of one object share on the replica.

Names that are known to be one object there (linked, or compared) refer to one row of this table. It has the state that
was last sent under any of them, and the digests have its id. So a change costs the same however many names an object
has. Names that were sent separately may be separate objects on the replica: then they refer to different rows here, or
to none, until they are linked. Each root has an object of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from i2core.api import Entry
from i2core.rule.catalog.database import Database
from i2core.rule.catalog.digests import Digests
from i2core.rule.catalog.rows import COLUMNS, NEVER_NS, Row, kept_time, to_row, to_time

SCHEMA = """
CREATE TABLE IF NOT EXISTS inode (
    id INTEGER PRIMARY KEY, root INTEGER NOT NULL, ino INTEGER NOT NULL, dev INTEGER NOT NULL,
    mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns ANY NOT NULL CHECK (typeof(mtime_ns) IN ('integer', 'blob')),
    rdev INTEGER NOT NULL,
    ctime_ns ANY NOT NULL CHECK (typeof(ctime_ns) IN ('integer', 'blob')),
    xattrs INTEGER NOT NULL, flags INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS inode_ino ON inode (ino);
"""
PAGE = 16
"""Rows of names that are read at once."""
NUMBERS = 100_000
"""Inode numbers that are read at once: some 10 MB."""
_STATE = "mode, uid, gid, size, mtime_ns, rdev, ctime_ns, xattrs, flags"
_SET = ", ".join(f"{field} = ?" for field in _STATE.split(", "))


class Group(NamedTuple):
    """Names that are one object beneath `root`."""

    id: int
    root: int
    mode: int
    ctime_ns: int


class Inodes:
    """The table in a catalog's database."""

    def __init__(self, db: Database, digests: Digests) -> None:
        self._db = db
        self._digests = digests

    def overlay(self, row: Row) -> Row:
        """The row of a name with what was last sent under any name of the object."""
        sql = f"SELECT {_STATE} FROM inode WHERE id = ?"  # noqa: S608 (constants of this module)
        found = self._db.execute(sql, (row.inode,)).fetchone()
        if found is None:
            return row  # read before it left its group
        mode, uid, gid, size, mtime, rdev, ctime, xattrs, flags = found
        return row._replace(
            mode=mode,
            uid=uid,
            gid=gid,
            size=size,
            mtime_ns=to_time(mtime),
            rdev=rdev,
            ctime_ns=to_time(ctime),
            xattrs=xattrs,
            flags=flags,
        )

    def add(self, ident: int, root: int, row: Row) -> None:
        """Adds a group for an object that was sent in the state of `row`."""
        head = (ident, root, row.ino, row.dev)
        self._db.execute(f"INSERT INTO inode VALUES ({', '.join('?' * 13)})", (*head, *_state(row)))  # noqa: S608

    def update(self, row: Row) -> None:
        """Notes a state that was sent under one of the names: it is the state of all of them."""
        self._db.execute(f"UPDATE inode SET {_SET} WHERE id = ?", (*_state(row), row.inode))  # noqa: S608

    def doubt(self, ident: int) -> None:
        """Marks the group as not trusted: the next check of any of its names finds it changed."""
        sql = "UPDATE inode SET mtime_ns = ?, ctime_ns = 0 WHERE id = ?"
        self._db.execute(sql, (kept_time(NEVER_NS), ident))

    def set_change_time(self, ident: int, old_ns: int, new_ns: int) -> None:
        """As `ObjectNames.set_change_time`."""
        sql = "UPDATE inode SET ctime_ns = ? WHERE id = ? AND ctime_ns = ?"
        self._db.execute(sql, (kept_time(new_ns), ident, kept_time(old_ns)))

    def groups(self, ino: int, dev: int | None = None) -> list[Group]:
        """All groups of an object, or of all with that inode number; the numbers as a row has them."""
        sql = "SELECT id, root, mode, ctime_ns, dev FROM inode WHERE ino = ?"
        found = self._db.execute(sql, (ino,)).fetchall()
        return [Group(ident, root, mode, to_time(ctime)) for ident, root, mode, ctime, on in found if dev in (None, on)]

    def numbers(self) -> Iterator[set[int]]:
        """The inode numbers of all groups, as a row has them, in sets that fit into memory."""
        last = float("-inf")
        sql = "SELECT DISTINCT ino FROM inode WHERE ino > ? ORDER BY ino LIMIT ?"
        while page := [ino for (ino,) in self._db.execute(sql, (last, NUMBERS))]:
            yield set(page)
            last = page[-1]

    def names(self, ino: int, group: int) -> Iterator[Row]:
        """The rows of the names in a group, or (0) of those in none, on any device. They are read page by page: often
        the first page is enough, and the catalog may be changed meanwhile."""
        last = 0
        where = "ino = ? AND inode = ? AND id > ?"
        sql = f"SELECT {COLUMNS} FROM node WHERE {where} ORDER BY id LIMIT {PAGE}"  # noqa: S608
        while page := [to_row(found) for found in self._db.execute(sql, (ino, group, last))]:
            for row in page:
                last = row.id
                yield self.overlay(row) if group else row

    def refer(self, row: Row, ident: int) -> Row:
        """Notes that the name of that row belongs to the group; 0: to none."""
        self._db.execute("UPDATE node SET inode = ? WHERE id = ?", (ident, row.id))
        if row.inode:
            self.drop_if_empty(row.inode)
        return row._replace(inode=ident)

    def shared_by(self, root: int, entry: Entry, row: Row) -> int:
        """The group for a name that was compared or sent: that of the other names that were sent in this state, or a
        new one."""
        ident = find_group(self.groups(row.ino, row.dev), root, entry)
        if ident:
            self._digests.drop(row.id)
        else:
            ident = self._db.new_id()
            self.add(ident, root, row)
            self._digests.move(row.id, ident)
        return ident

    def drop_if_empty(self, ident: int) -> None:
        """A name has left the group: removes the group if no name refers to it."""
        ino = self._db.execute("SELECT ino FROM inode WHERE id = ?", (ident,)).fetchone()
        sql = "SELECT 1 FROM node WHERE ino = ? AND inode = ? LIMIT 1"
        if ino is not None and self._db.execute(sql, (*ino, ident)).fetchone() is None:
            self._db.execute("DELETE FROM inode WHERE id = ?", (ident,))
            self._digests.drop(ident)


def find_group(groups: list[Group], root: int, entry: Entry) -> int:
    """The group of an object that was sent in the state of the entry; 0: there is none."""
    for group in groups:
        if (group.root, group.ctime_ns, group.mode) == (root, entry.ctime_ns, entry.mode):
            return group.id
    return 0


def _state(row: Row) -> tuple[object, ...]:
    times = kept_time(row.mtime_ns), kept_time(row.ctime_ns)
    return row.mode, row.uid, row.gid, row.size, times[0], row.rdev, times[1], row.xattrs, row.flags
