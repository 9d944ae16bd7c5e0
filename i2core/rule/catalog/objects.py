"""One row for each object, linked to its directory's row: what was last sent under this name?

Renaming a tree changes one row. A row is found by name, from the root of its tree on downwards. By object it is found
in `i2core/rule/catalog/object_names.py`.
"""

# ruff: noqa: S608 (the statements are put together from constants of this module alone)

from __future__ import annotations

import stat
from collections.abc import Iterable, Sequence

from i2core.api import Entry, Place
from i2core.rule.catalog.database import SUBTREE, Database
from i2core.rule.catalog.digests import Digests
from i2core.rule.catalog.inodes import Inodes
from i2core.rule.catalog.listings import Listings, may_be_packed
from i2core.rule.catalog.paths import PathCache
from i2core.rule.catalog.rows import COLUMNS, MARKS, Row, kept_row, row_of, to_row
from i2core.rule.catalog.staging import StagingFiles

_STRIDE = 64
"""On a long path, one directory of so many is cached."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,
    mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL,
    mtime_ns ANY NOT NULL CHECK (typeof(mtime_ns) IN ('integer', 'blob')),
    ino INTEGER NOT NULL, dev INTEGER NOT NULL, rdev INTEGER NOT NULL,
    ctime_ns ANY NOT NULL CHECK (typeof(ctime_ns) IN ('integer', 'blob')),
    xattrs INTEGER NOT NULL, flags INTEGER NOT NULL, inode INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS node_name ON node (parent, name);
CREATE INDEX IF NOT EXISTS node_ino ON node (ino, inode);
"""


class Objects:
    """The table of objects in a catalog's database."""

    def __init__(
        self,
        db: Database,
        paths: PathCache,
        listings: Listings,
        staging: StagingFiles,
        inodes: Inodes,
        digests: Digests,
    ) -> None:
        self._db = db
        self._paths = paths
        self._listings = listings
        self._staging = staging
        self._inodes = inodes
        self._digests = digests

    def get(self, place: Place) -> Row | None:
        """The row at `place`; None when nothing was sent for it."""
        if not place.path:
            return self.child(0, b"%d" % place.root)
        parent, _, name = place.path.rpartition(b"/")
        directory = self.directory_id(Place(place.root, parent))
        return None if directory is None else self.child(directory, name)

    def child(self, parent: int, name: bytes) -> Row | None:
        """The row of that name in the directory whose row has the id `parent`."""
        sql = f"SELECT {COLUMNS} FROM node WHERE parent = ? AND name = ?"
        found = self._db.execute(sql, (parent, name)).fetchone()
        if found is None and self._listings.expand(parent):
            found = self._db.execute(sql, (parent, name)).fetchone()
        return None if found is None else self.read(found)

    def directory_id(self, place: Place) -> int | None:
        """The id of the row at `place`; None when nothing, or no directory, was sent for it."""
        known = self._paths.use(place)
        if known is not None:
            return known
        ident, length = self._nearest(place)
        return ident if length == len(place.path) else None

    def last_known(self, place: Place) -> Place:
        """The last place on the way to `place`, itself included, whose directory has a row."""
        if not place.path or self.directory_id(place.above) is not None:
            return place
        _, length = self._nearest(place.above)
        return Place(place.root, place.path[: place.path.find(b"/", length + 1) if length >= 0 else 0])

    def _nearest(self, place: Place) -> tuple[int, int]:
        """The id of the last directory on the way to `place`, which is not remembered, itself included, that has a row;
        and the length of its path, -1 when not even the root has one."""
        # From the nearest directory above that is remembered downwards, by a loop: a tree may be deeper than the stack.
        root, path = place
        ident, at = 0, len(path)
        while path and not ident and at > 0:
            at = max(0, path.rfind(b"/", 0, at))
            ident = self._paths[Place(root, path[:at])]
        if not ident:
            row = self.child(0, b"%d" % root)
            if row is None or not stat.S_ISDIR(row.mode):
                return 0, -1
            ident, at = row.id, 0
        for steps, name in enumerate(path[at and at + 1 :].split(b"/") if path else (), 1):
            row = self.child(ident, name)
            # Only directories are remembered: what is beneath a file may be asked for, and it may become a directory.
            if row is None or not stat.S_ISDIR(row.mode):
                return ident, at
            ident, at = row.id, at + bool(at) + len(name)
            # On the way up a deep tree, each directory is found from one not far above it.
            if steps % _STRIDE == 0 and at < len(path):
                self._paths.remember(Place(root, path[:at]), ident)
        self._paths.remember(place, ident)
        return ident, at

    def place(self, row: Row) -> Place:
        """The place of the row's object on the replica."""
        parts: list[bytes] = []
        parent, name = row.parent, row.name
        while parent:
            parts.append(name)
            known = self._paths.place_of(parent)
            if known is not None:
                return Place(known.root, b"/".join([*([known.path] if known.path else []), *reversed(parts)]))
            parent, name = self._db.execute("SELECT parent, name FROM node WHERE id = ?", (parent,)).fetchone()
        return Place(int(name), b"/".join(reversed(parts)))

    def children(self, row: Row) -> dict[bytes, Row]:
        """The rows of a directory, by name."""
        self._listings.expand(row.id)
        sql = f"SELECT {COLUMNS} FROM node WHERE parent = ?"
        return {found[2]: self.read(found) for found in self._db.execute(sql, (row.id,))}

    def read(self, found: Sequence[object]) -> Row:
        """A row as the database has it, with what was last sent under any name of the object."""
        row = to_row(found)
        return self._inodes.overlay(row) if row.inode else row

    def row(self, ident: int) -> Row | None:
        """The row of that id; None when it was forgotten."""
        found = self._db.execute(f"SELECT {COLUMNS} FROM node WHERE id = ?", (ident,)).fetchone()
        return None if found is None else self.read(found)

    def reserve(self) -> Row:
        """An id for an object that is not on the replica yet: digests may be kept under it until `put` uses it."""
        return row_of(self._db.new_id(), -1, b"", Entry(b"", stat.S_IFREG, 0, 0, 0, 0))

    def put(self, place: Place, entry: Entry, reserved: Row | None = None, *, alone: bool = False) -> Row:
        """Notes that `entry` was sent for `place`; its directory has a row already. A row of another object at this
        place is removed, with everything beneath it. A directory that replaces a directory keeps the rows beneath, as
        the replica does. `reserved`: the object is new and takes this row's id. Other names of the same object changed
        with it, unless it was created again, `alone`."""
        parent = 0
        name = b"%d" % place.root
        if place.path:
            above, _, name = place.path.rpartition(b"/")
            directory = self.directory_id(Place(place.root, above))
            if directory is None:
                raise KeyError(place)
            parent = directory
        old = self.child(parent, name)
        if old is not None and (reserved is not None or not old.lasts(entry)):
            self.remove(old)
            old = None
        kept = reserved or old
        shared = kept.inode if kept is not None else 0
        row = row_of(kept.id if kept else self._db.new_id(), parent, name, entry, 0 if alone else shared)
        self._write([row])
        if row.inode:
            self._inodes.update(row)
        elif shared:
            self._inodes.drop_if_empty(shared)
        return row

    def put_all(self, directory: Row, entries: Iterable[tuple[Entry, Row | None]]) -> list[Row]:
        """Notes entries of one directory at once, each with its previous row, and returns the new rows. Names of one
        object with the same change time are one object on the replica as well: they were compared, or sent as one."""
        rows, left, root = list[Row](), set[int](), -1
        for entry, old in entries:
            kept = old if old is not None and old.lasts(entry) else None
            if old is not None:
                left.update(self._delete(old) if kept is None else [old.inode])
            row = row_of(kept.id if kept else self._db.new_id(), directory.id, entry.name, entry)
            if (kept and kept.inode) or (entry.nlink > 1 and not stat.S_ISDIR(entry.mode)):
                root = self.place(directory).root if root < 0 else root
                row = row._replace(inode=self._inodes.shared_by(root, entry, row))
            rows.append(row)
        self._write(rows)
        for inode in left - {0}:
            self._inodes.drop_if_empty(inode)
        return rows

    def has_no_rows(self, directory: Row) -> bool:
        """True when nothing in the directory has a row."""
        sql = "SELECT 1 FROM node WHERE parent = ? LIMIT 1"
        return self._db.execute(sql, (directory.id,)).fetchone() is None and not self._listings.has(directory.id)

    def put_listing(self, directory: Row, entries: Sequence[Entry]) -> None:
        """`put_all` for a part of a directory that `has_no_rows`, in a tenth of the time. Each name is in one part
        only."""
        files: list[Entry] = []
        others: list[tuple[Entry, Row | None]] = []
        for entry in entries:
            if may_be_packed(entry):
                files.append(entry)
            else:
                others.append((entry, None))
        self.put_all(directory, others)
        if files:
            self._listings.add(directory.id, files)

    def _write(self, rows: list[Row]) -> None:
        sql = f"INSERT OR REPLACE INTO node VALUES ({MARKS})"
        try:
            self._db.executemany(sql, rows)
        except OverflowError:
            self._db.executemany(sql, map(kept_row, rows))

    def move(self, row: Row, to: Place) -> Row:
        """Moves the row of an object to `to`, with all beneath it; a row that was there is removed."""
        old = self.get(to)
        if old is not None and old.id != row.id:
            self.remove(old)
        above, _, name = to.path.rpartition(b"/")
        parent = self.directory_id(Place(to.root, above))
        if parent is None:
            raise KeyError(to)
        if self._staging.places and stat.S_ISDIR(row.mode):
            self._staging.move(self.place(row), to)
        self._db.execute("UPDATE node SET parent = ?, name = ? WHERE id = ?", (parent, name, row.id))
        if stat.S_ISDIR(row.mode):
            self._paths.clear()
        return row._replace(parent=parent, name=name)

    def remove(self, row: Row) -> None:
        """Removes the rows of an object and of all beneath it."""
        for inode in self._delete(row):
            self._inodes.drop_if_empty(inode)

    def _delete(self, row: Row) -> list[int]:
        """Removes the rows of an object and of all beneath it; returns the ids of their shared inodes."""
        if not stat.S_ISDIR(row.mode):
            self._digests.drop(row.id)
            self._db.execute("DELETE FROM node WHERE id = ?", (row.id,))
            return [row.inode] if row.inode else []
        if self.has_no_rows(row):
            self._db.execute("DELETE FROM node WHERE id = ?", (row.id,))
            self._paths.forget(row.id)
            return []
        sql = f"{SUBTREE} SELECT DISTINCT inode FROM node JOIN sub USING (id) WHERE inode != 0"
        left = [inode for (inode,) in self._db.execute(sql, (row.id,))]
        self._db.execute(f"DELETE FROM blocks WHERE node IN ({SUBTREE} SELECT id FROM sub)", (row.id,))
        self._listings.drop_beneath(row.id)
        self._db.execute(f"DELETE FROM node WHERE id IN ({SUBTREE} SELECT id FROM sub)", (row.id,))
        self._paths.clear()
        return left

    def count_files(self, row: Row) -> int:
        """How many non-directories are at or beneath the row."""
        if not stat.S_ISDIR(row.mode):
            return 1
        sql = f"{SUBTREE} SELECT count(*) FROM node JOIN sub USING (id) WHERE mode & ? != ?"
        files = int(self._db.execute(sql, (row.id, 0o170000, stat.S_IFDIR)).fetchone()[0])
        return files + self._listings.count_beneath(row.id)
