"""Doubts: names on the replica that may not be as the catalog says.

A doubt is kept from before its records are sent until they are durable, under their last seq. So a killed run leaves to
the next one the places that it must compare. Doubts refer to ids of rows instead of paths, since directories above may
move before the place is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from i2core.api import Place
from i2core.rule.catalog.database import Database
from i2core.rule.catalog.digests import Digests
from i2core.rule.catalog.inodes import Inodes
from i2core.rule.catalog.objects import Objects
from i2core.rule.catalog.rows import NEVER_NS, Depth, Doubt, Row, kept_time

SCHEMA = """
CREATE TABLE IF NOT EXISTS doubt (
    last_seq INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB NOT NULL, node INTEGER NOT NULL,
    deep INTEGER NOT NULL, inode INTEGER NOT NULL,
    PRIMARY KEY (last_seq, parent, name, node, deep, inode)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS owed (
    root INTEGER NOT NULL, path BLOB NOT NULL, PRIMARY KEY (root, path)
) WITHOUT ROWID, STRICT;
"""
UNNUMBERED = (1 << 63) - 1
"""Pseudo seq of records that are still being made."""


class DoubtTable:
    """The tables of doubts, and of removals that the replica may lack, in a catalog's database."""

    def __init__(self, db: Database, objects: Objects, inodes: Inodes, digests: Digests) -> None:
        self._db = db
        self._objects = objects
        self._inodes = inodes
        self._digests = digests

    def at(self, place: Place, depth: Depth = Depth.NAME) -> Doubt:
        """The doubt about a place; about the name of the nearest directory above it that the replica is known to have,
        if its own is not known."""
        directory_id = self._objects.directory_id
        known = self._objects.last_known(place)
        place, depth = known, depth if known == place else Depth.NAME
        parent = directory_id(place.above) if place.path else 0
        name = place.path.rpartition(b"/")[2] if place.path else b"%d" % place.root
        assert parent is not None
        row = self._objects.child(parent, name)
        return Doubt(parent, name, 0, depth) if row is None else self.about(row, depth)

    @staticmethod
    def about(row: Row, depth: Depth = Depth.NAME) -> Doubt:
        """As `at`, for a caller that has the present row of the place: nothing is looked up."""
        return Doubt(row.parent, row.name, row.id, depth, row.inode)

    def named(self, doubt: Doubt) -> Place | None:
        """The place of the name that the doubt is about now; None: its directory is gone."""
        if not doubt.parent:
            return Place(int(doubt.name), b"")
        directory = self._objects.row(doubt.parent)
        return None if directory is None else self._objects.place(directory).child(doubt.name)

    def places_of(self, doubt: Doubt) -> list[Place]:
        """The places to compare for a doubt now: the name, unless its directory is gone, and the present place of the
        object."""
        named, objects = self.named(doubt), self._objects
        places = [] if named is None else [named]
        if doubt.node and (row := objects.row(doubt.node)) is not None and row.parent >= 0:
            places.append(objects.place(row))
        return list(dict.fromkeys(places))

    def keep(self, last_seq: int, doubts: Iterable[Doubt]) -> None:
        """Keeps doubts until `last_seq` is durable."""
        sql = "INSERT OR IGNORE INTO doubt VALUES (?, ?, ?, ?, ?, ?)"
        self._db.executemany(sql, ((last_seq, *doubt) for doubt in doubts))

    def number(self, last_seq: int, doubts: Iterable[Doubt]) -> None:
        """Gives these `UNNUMBERED` doubts their seq: they end when `last_seq` is durable."""
        sql = (
            "UPDATE OR REPLACE doubt SET last_seq = ?"
            " WHERE last_seq = ? AND parent = ? AND name = ? AND node = ? AND deep = ? AND inode = ?"
        )
        self._db.executemany(sql, ((last_seq, UNNUMBERED, *doubt) for doubt in doubts))

    def drop(self, durable_seq: int) -> None:
        """Forgets the doubts of records that are durable."""
        self._db.execute("DELETE FROM doubt WHERE last_seq <= ?", (durable_seq,))

    def by_seq(self) -> dict[int, list[Doubt]]:
        """All kept doubts, by the seq that ends them."""
        found: dict[int, list[Doubt]] = {}
        sql = "SELECT last_seq, parent, name, node, deep, inode FROM doubt"
        for seq, parent, name, node, deep, inode in self._db.execute(sql):
            found.setdefault(seq, []).append(Doubt(parent, name, node, Depth(deep), inode))
        return found

    def unnumbered_in(self, directory: Place, names: Sequence[bytes]) -> set[bytes]:
        """Those of the names in a directory that have an `UNNUMBERED` doubt: a record about them failed."""
        parent = self._objects.directory_id(directory)
        sql = "SELECT name FROM doubt WHERE last_seq = ? AND parent = ? AND name = ?"
        found = (self._db.execute(sql, (UNNUMBERED, parent, name)).fetchone() for name in names)
        return {name for (name,) in filter(None, found)}

    def owe_removals(self, doubts: Iterable[Doubt]) -> None:
        """Called before all is forgotten. An object that was removed here may still be on the replica, and must not be
        mistaken for an orphan made by somebody else. Keeps the names of doubts for which no other object was sent
        since."""
        for doubt in doubts:
            for place in self.places_of(doubt):
                if place.path and self._objects.get(place) is None:
                    self._db.execute("INSERT OR IGNORE INTO owed VALUES (?, ?)", place)

    def take_owed(self) -> list[Place]:
        """Removes and returns what `owe_removals` kept."""
        owed = [Place(root, path) for root, path in self._db.execute("SELECT root, path FROM owed")]
        self._db.execute("DELETE FROM owed")
        return owed

    def distrust(self, row: Row, *, digests: bool = False) -> None:
        """Marks a row as not trusted: the next check finds its object changed, also under its other names. `digests`:
        the digests are still right, and the names are one object."""
        if row.inode:
            self._inodes.doubt(row.inode)
            if digests:
                return
            self._digests.drop(row.inode)
            self._inodes.refer(row, 0)
        self._db.execute("UPDATE node SET mtime_ns = ?, ctime_ns = 0 WHERE id = ?", (kept_time(NEVER_NS), row.id))
        if not digests:
            self._digests.drop(row.id)

    def distrust_all(self, doubt: Doubt) -> None:
        """`distrust` for the rows of a doubt, if there are any."""
        if doubt.inode:
            self._inodes.doubt(doubt.inode)
            self._digests.drop(doubt.inode)
        row = self._objects.row(doubt.node) if doubt.node else None
        if row is not None:
            self.distrust(row)
