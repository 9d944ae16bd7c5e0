"""The names under which one object was sent: they turn a changed tree into renames and links, whatever the order of
events.

All look-ups here use the inode number, so each object needs a row of its own first (`Listings.expand_all`). The state
that several names share is in `i2core/rule/catalog/inodes.py`.
"""

# ruff: noqa: S608 (the statements are put together from constants of this module alone)

from __future__ import annotations

import stat
from collections.abc import Iterator
from itertools import islice

from i2core.api import Entry, Place
from i2core.rule.catalog.database import Database
from i2core.rule.catalog.digests import Digests
from i2core.rule.catalog.inodes import Inodes
from i2core.rule.catalog.listings import Listings
from i2core.rule.catalog.objects import Objects
from i2core.rule.catalog.rows import COLUMNS, Row, kept_time, signed, to_row

_APART = """
FROM (SELECT DISTINCT ino FROM inode) AS shared CROSS JOIN node ON node.ino = shared.ino
LEFT JOIN inode AS mine ON mine.id = node.inode
WHERE EXISTS (
    SELECT 1 FROM inode AS other WHERE other.ino = node.ino AND other.dev = node.dev AND other.id != node.inode
    AND (node.inode = 0 OR other.root = mine.root)
)
"""
"""The names of objects that have a shared inode which is not that of the name. The order of the join is forced, since
objects with several names are few."""


class ObjectNames:
    """The rows of a catalog by object instead of by name."""

    def __init__(self, db: Database, objects: Objects, listings: Listings, inodes: Inodes, digests: Digests) -> None:
        self._db = db
        self._objects = objects
        self._listings = listings
        self._inodes = inodes
        self._digests = digests

    def by_inode(self, entry: Entry) -> list[Row]:
        """Rows that were made from the same object: more than one for hard links."""
        self._listings.expand_all()
        return self.sent_as(entry)

    def sent_as(self, entry: Entry) -> list[Row]:
        """As `by_inode`, but without expanding a listing: objects with one name that are still packed are left out."""
        sql = f"SELECT {COLUMNS} FROM node WHERE ino = ? AND dev = ?"
        rows = (self._objects.read(found) for found in self._db.execute(sql, (signed(entry.ino), signed(entry.dev))))
        return [row for row in rows if row.is_object(entry)]

    def by_number(self, ino: int) -> Iterator[Iterator[Row]]:
        """Rows of objects with that inode number, on whatever device, grouped as in `groups`."""
        self._listings.expand_all()
        for group in (*(each.id for each in self._inodes.groups(signed(ino))), 0):
            yield self._inodes.names(signed(ino), group)

    def other_names(self, row: Row) -> list[Row]:
        """The rows of the same object under other names, wherever they are."""
        return [other for names in self.groups(row) for other in names]

    def has_other_names(self, row: Row) -> bool:
        """True when there is one."""
        return any(True for names in self.groups(row) for _ in names)

    def groups(self, row: Row) -> Iterator[Iterator[Row]]:
        """`other_names` by group: one group for each shared inode, last the names without one."""
        self._listings.expand_all()
        for group in (*(each.id for each in self._inodes.groups(row.ino, row.dev)), 0):
            yield (other for other in self._inodes.names(row.ino, group) if _is_other(other, row))

    def elsewhere(self, entry: Entry, root: int) -> Iterator[Row]:
        """Rows that were made from the same object: beneath that root; those without a shared inode beneath any
        root."""
        self._listings.expand_all()
        ino, dev = signed(entry.ino), signed(entry.dev)
        for group in (*(each.id for each in self._inodes.groups(ino, dev) if each.root == root), 0):
            yield from (row for row in self._inodes.names(ino, group) if row.is_object(entry))

    def apart(self, row: Row, root: int) -> Iterator[Row]:
        """The rows of the same object under names that are not known to be one object with this one: beneath that root;
        those without a shared inode beneath any root."""
        self._listings.expand_all()
        known = (each.id for each in self._inodes.groups(row.ino, row.dev) if each.root == root)
        for group in (*(each for each in known if each != row.inode), 0):
            yield from (other for other in self._inodes.names(row.ino, group) if _is_other(other, row))

    def unlinked(self) -> Iterator[Place]:
        """Names of objects with several names that are not known to be one object with the others beneath the same
        root. Example: a mirror listed `a` as a file with one name and found it equal; then `ln a b`, and `b` was listed
        and sent as a new file. A check of such a name links it (`SharedObjects.join`). Until then the catalog has no
        change time for a name that was listed alone, so it is checked after a restart as well.

        One pass over the objects with several names, which are few; their rows are found by inode number."""
        for numbers in self._inodes.numbers():
            self._listings.expand_objects(numbers)
        self._db.execute(f"UPDATE node SET ctime_ns = 0 WHERE inode = 0 AND id IN (SELECT node.id {_APART})")
        for (ident,) in self._db.execute(f"SELECT node.id {_APART}"):
            if (row := self._objects.row(ident)) is not None:
                yield self._objects.place(row)

    def share(self, row: Row) -> Row:
        """Gives the row a shared inode: its object has, or will have, several names on the replica."""
        if row.inode:
            return row
        inode = self._db.new_id()
        self._inodes.add(inode, self._objects.place(row).root, row)
        self._digests.move(row.id, inode)
        return self._inodes.refer(row, inode)

    def join(self, row: Row, other: Row) -> Row:
        """Notes that on the replica the name of `row` is one object with that of `other`, in the state of `other`."""
        inode = self.share(other).inode
        if row.inode == inode:
            return row
        self._digests.drop(row.id)
        return self._inodes.overlay(self._inodes.refer(row, inode))

    def stale_elsewhere(self, row: Row) -> list[Place]:
        """The same object beneath other roots, each of which has an object of its own: one name for each shared inode
        that was sent at another change time than `row`."""
        place_of, found = self._objects.place, list[Place]()
        root = place_of(row).root
        for group in self._inodes.groups(row.ino, row.dev):
            if group.root != root and group.ctime_ns != row.ctime_ns:
                found += [place_of(other) for other in islice(self._inodes.names(row.ino, group.id), 1)]
        for other in self._inodes.names(row.ino, 0):
            if _is_other(other, row) and other.ctime_ns != row.ctime_ns and (place := place_of(other)).root != root:
                found.append(place)
        return found

    def names_of(self, inode: int) -> list[Place]:
        """The places of the names with this shared inode."""
        where = "inode = ? AND ino = (SELECT ino FROM inode WHERE id = ?)"
        found = self._db.execute(f"SELECT {COLUMNS} FROM node WHERE {where}", (inode, inode)).fetchall()
        return [self._objects.place(to_row(each)) for each in found]

    def set_change_time(self, key: int, old_ns: int, new_ns: int) -> None:
        """Replaces the noted change time of the object with that `Row.key`, if it still is `old_ns`, under all of its
        names that are one object on the replica."""
        sql = "UPDATE node SET ctime_ns = ? WHERE id = ? AND inode = 0 AND ctime_ns = ?"
        self._db.execute(sql, (kept_time(new_ns), key, kept_time(old_ns)))
        self._inodes.set_change_time(key, old_ns, new_ns)


def _is_other(other: Row, row: Row) -> bool:
    return other.id != row.id and other.dev == row.dev and stat.S_IFMT(other.mode) == stat.S_IFMT(row.mode)
