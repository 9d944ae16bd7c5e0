"""The catalog: what the replica holds, as last sent. On disk, so memory does not grow with the tree.

One row per object, linked to its directory's row: renaming a tree changes one row. Looked up by name (what did we send
for this path?) and by inode (where did we send this object?), which turns a changed tree into renames and links without
trusting the order of any events. Digests of large files lie beside it. The catalog belongs to one rule; its calls block
and are made by one worker at a time.

A mirror notes whole directories, and most of their files nobody ever asks for. So these are kept as they were listed,
many to a row, until someone does (`put_listing`); each has a row of its own from then on. Directories, and files with
several names, always do.
"""

# ruff: noqa: S608 (the statements are put together from constants of this module alone)

from __future__ import annotations

import os
import sqlite3
import stat
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from i2core.api import Entry, Place
from i2core.rule.reading.digests import SCHEMA as DIGESTS_SCHEMA
from i2core.rule.reading.digests import Digests

_PATHS = 8192
_NEVER_NS = -(1 << 63)
"""A time that no file has."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL,
    mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ino INTEGER NOT NULL, dev INTEGER NOT NULL, rdev INTEGER NOT NULL, ctime_ns INTEGER NOT NULL,
    xattrs INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS node_name ON node (parent, name);
CREATE INDEX IF NOT EXISTS node_ino ON node (ino);
CREATE TABLE IF NOT EXISTS listing (
    parent INTEGER NOT NULL, files INTEGER NOT NULL, names BLOB NOT NULL, fields BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS listing_parent ON listing (parent);
CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubt (
    last_seq INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB NOT NULL, node INTEGER NOT NULL,
    deep INTEGER NOT NULL,
    PRIMARY KEY (last_seq, parent, name, node, deep)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS staging (root INTEGER NOT NULL, path BLOB NOT NULL, PRIMARY KEY (root, path)) WITHOUT ROWID;
"""
_FIELDS = struct.Struct("<IIIQqQQQqQ")
"""An object in a listing: mode, uid, gid, size, mtime_ns, ino, dev, rdev, ctime_ns, xattrs."""
_COLUMNS = "id, parent, name, mode, uid, gid, size, mtime_ns, ino, dev, rdev, ctime_ns, xattrs"
_MARKS = ", ".join("?" * 13)
_SUBTREE = "WITH RECURSIVE sub(id) AS (SELECT ? UNION ALL SELECT node.id FROM node JOIN sub ON node.parent = sub.id)"


class Row(NamedTuple):
    """What was last sent for one object."""

    id: int
    parent: int
    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ino: int
    dev: int
    rdev: int
    ctime_ns: int
    xattrs: int

    def is_object(self, entry: Entry) -> bool:
        """True when `entry` is the very object that this row was made from: same inode, same kind."""
        same_inode = self.ino == signed(entry.ino) and self.dev == signed(entry.dev)
        return same_inode and stat.S_IFMT(self.mode) == stat.S_IFMT(entry.mode)

    def lasts(self, entry: Entry) -> bool:
        """True when the replica needs no other object for `entry`: it is the same, or both are directories."""
        return self.is_object(entry) or (stat.S_ISDIR(self.mode) and stat.S_ISDIR(entry.mode))

    def same_content(self, entry: Entry) -> bool:
        """True when size and mtime say that the content is what was sent."""
        return self.size == entry.size and self.mtime_ns == entry.mtime_ns

    def same_meta(self, entry: Entry) -> bool:
        """True when mode, owner, mtime and extended attributes are what was sent."""
        mine = (self.mode, self.uid, self.gid, self.mtime_ns, self.xattrs)
        return mine == (entry.mode, entry.uid, entry.gid, entry.mtime_ns, signed(entry.xattrs))

    def untouched(self, entry: Entry) -> bool:
        """True when nothing, not even the inode's change time, is newer than what was sent."""
        return self.ctime_ns == entry.ctime_ns and self.is_object(entry) and self.same_content(entry)


class Doubt(NamedTuple):
    """A name on the replica, and the object last sent for it, that may not be as the catalog says. By rows, not by
    path: directories above may move before someone looks."""

    parent: int
    """Id of the directory's row; 0: the name is a root."""
    name: bytes
    node: int
    """Id of the object's row; 0: the name was removed."""
    deep: bool = False
    """All that is beneath may differ as well."""


class Shared(NamedTuple):
    """The other names of a file that was sent under one of them."""

    doubts: list[Doubt]
    """Beneath the same root. They are in doubt as long as the one is, and longer than that has its name."""
    apart: list[Place]
    """Beneath other roots, as far as they are older."""


OPEN = (1 << 63) - 1
"""Stands for the seq of records that are still being made."""


def signed(value: int) -> int:
    """SQLite's integers are signed; inode numbers and digests use all 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


class Catalog:
    """The catalog of one rule in the file `path`; None keeps it in a temporary file that is gone at close."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._db = sqlite3.connect(path or "", check_same_thread=False, isolation_level=None)
        try:
            self._set_up()
        except BaseException:
            self._db.close()  # at once: it may hold a lock
            raise
        self.digests = Digests(self._db)
        self._folded = self._db.execute("SELECT 1 FROM listing LIMIT 1").fetchone() is not None
        self._next_id = int(self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM node").fetchone()[0])
        self._paths: OrderedDict[Place, int] = OrderedDict()
        self.staging = {Place(root, path) for root, path in self._db.execute("SELECT root, path FROM staging")}
        """Files of which the replica may have a staging file."""

    def _set_up(self) -> None:
        # Nobody else opens it. Without this the log has an index in mapped memory, and a full disk kills by SIGBUS.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        # Losing the last transactions in a crash only means that a little is compared once more.
        self._db.execute("PRAGMA journal_mode = WAL" if self._path else "PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA cache_size = -16000")
        self._db.execute("PRAGMA temp_store = FILE")
        self._db.executescript(_SCHEMA + DIGESTS_SCHEMA)
        self._db.execute("BEGIN")
        # Digests of a file that was never finished may lie under an id that no row has.
        self._db.execute("DELETE FROM blocks WHERE node NOT IN (SELECT id FROM node)")

    def close(self) -> None:
        """An orderly end: all is on the disk."""
        try:
            # A full disk may have undone the unit of work: then this is no orderly end, and nothing says so.
            if self._db.in_transaction:
                self.set_fact("clean", 1)
                self._db.execute("COMMIT")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._db.close()
        if self._path is not None:
            fd = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def commit(self) -> None:
        """Ends the unit of work: a crash later keeps what was done so far."""
        self._db.execute("COMMIT")
        self._db.execute("BEGIN")

    def clear(self) -> None:
        """Forgets all objects: what the replica has is not known."""
        for table in ("node", "blocks", "listing", "doubt"):
            self._db.execute(f"DELETE FROM {table}")
        self._paths.clear()

    def fact(self, key: str) -> int | None:
        """A number kept beside the rows."""
        found = self._db.execute("SELECT value FROM fact WHERE key = ?", (key,)).fetchone()
        return None if found is None else int(found[0])

    def set_fact(self, key: str, value: int) -> None:
        """Keeps a number."""
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (key, value))

    def get(self, place: Place) -> Row | None:
        """The row at `place`; None when nothing was sent for it."""
        if not place.path:
            return self._child(0, b"%d" % place.root)
        parent, _, name = place.path.rpartition(b"/")
        directory = self._dir_id(Place(place.root, parent))
        return None if directory is None else self._child(directory, name)

    def _child(self, parent: int, name: bytes) -> Row | None:
        sql = f"SELECT {_COLUMNS} FROM node WHERE parent = ? AND name = ?"
        found = self._db.execute(sql, (parent, name)).fetchone()
        if found is None and self._unfold(parent):
            found = self._db.execute(sql, (parent, name)).fetchone()
        return None if found is None else Row(*found)

    def _dir_id(self, place: Place) -> int | None:
        known = self._paths.get(place)
        if known is not None:
            self._paths.move_to_end(place)
            return known
        row = self.get(place)
        # Only directories are remembered: what is beneath a file may be asked for, and the file may become a directory.
        if row is None or not stat.S_ISDIR(row.mode):
            return None
        self._paths[place] = row.id
        if len(self._paths) > _PATHS:
            self._paths.popitem(last=False)
        return row.id

    def place(self, row: Row) -> Place:
        """Where the row's object is on the replica."""
        parts: list[bytes] = []
        parent, name = row.parent, row.name
        while parent:
            parts.append(name)
            parent, name = self._db.execute("SELECT parent, name FROM node WHERE id = ?", (parent,)).fetchone()
        return Place(int(name), b"/".join(reversed(parts)))

    def doubt_at(self, place: Place, *, deep: bool = False) -> Doubt:
        """The doubt about a place; about the nearest directory above it that the replica is known to have, if its own
        is not known."""
        while place.path and self._dir_id(place.above) is None:
            place, deep = place.above, False
        parent = self._dir_id(place.above) if place.path else 0
        name = place.path.rpartition(b"/")[2] if place.path else b"%d" % place.root
        assert parent is not None
        row = self._child(parent, name)
        return Doubt(parent, name, row.id if row is not None else 0, deep)

    def places_of(self, doubt: Doubt) -> list[Place]:
        """Where to look into a doubt now: at the name, unless its directory is gone, and where the object is."""
        places = []
        if not doubt.parent:
            places.append(Place(int(doubt.name), b""))
        elif (directory := self.row(doubt.parent)) is not None:
            places.append(self.place(directory).child(doubt.name))
        if doubt.node and (row := self.row(doubt.node)) is not None and row.parent >= 0:
            places.append(self.place(row))
        return list(dict.fromkeys(places))

    def begin_staging(self, place: Place) -> None:
        """The file is being staged."""
        self.staging.add(place)
        self._db.execute("INSERT OR IGNORE INTO staging VALUES (?, ?)", place)

    def end_staging(self, place: Place) -> None:
        """It is published, or given up."""
        self.staging.discard(place)
        self._db.execute("DELETE FROM staging WHERE root = ? AND path = ?", place)

    def _move_staging(self, old: Place, new: Place) -> None:
        for place in [each for each in self.staging if each.root == old.root and each.path.startswith(old.path + b"/")]:
            self.end_staging(place)
            self.begin_staging(Place(new.root, new.path + place.path[len(old.path) :]))

    def keep_doubts(self, last_seq: int, doubts: Iterable[Doubt]) -> None:
        """Keeps what is in doubt until `last_seq` is durable."""
        sql = "INSERT OR IGNORE INTO doubt VALUES (?, ?, ?, ?, ?)"
        self._db.executemany(sql, ((last_seq, *doubt) for doubt in doubts))

    def close_doubts(self, last_seq: int) -> None:
        """Doubts that were kept as `OPEN` end when `last_seq` is durable."""
        self._db.execute("UPDATE OR REPLACE doubt SET last_seq = ? WHERE last_seq = ?", (last_seq, OPEN))

    def drop_doubts(self, durable_seq: int) -> None:
        """Forgets the doubts of all that is durable."""
        self._db.execute("DELETE FROM doubt WHERE last_seq <= ?", (durable_seq,))

    def doubts(self) -> dict[int, list[Doubt]]:
        """All doubts that are kept, by the seq that ends them."""
        found: dict[int, list[Doubt]] = {}
        for seq, parent, name, node, deep in self._db.execute("SELECT last_seq, parent, name, node, deep FROM doubt"):
            found.setdefault(seq, []).append(Doubt(parent, name, node, bool(deep)))
        return found

    def children(self, row: Row) -> dict[bytes, Row]:
        """The rows of a directory, by name."""
        self._unfold(row.id)
        sql = f"SELECT {_COLUMNS} FROM node WHERE parent = ?"
        return {found[2]: Row(*found) for found in self._db.execute(sql, (row.id,))}

    def by_inode(self, entry: Entry) -> list[Row]:
        """Rows that were made from the same object: more than one for hard links."""
        self.unfold()
        return self.sent_as(entry)

    def sent_as(self, entry: Entry) -> list[Row]:
        """As `by_inode`, at no cost: without objects that had one name when they were noted, and nobody asked for."""
        sql = f"SELECT {_COLUMNS} FROM node WHERE ino = ? AND dev = ?"
        rows = (Row(*found) for found in self._db.execute(sql, (signed(entry.ino), signed(entry.dev))))
        return [row for row in rows if row.is_object(entry)]

    def other_names(self, row: Row) -> list[Row]:
        """The rows of the same object under other names."""
        self.unfold()
        sql = f"SELECT {_COLUMNS} FROM node WHERE ino = ? AND dev = ? AND id != ?"
        found = (Row(*each) for each in self._db.execute(sql, (row.ino, row.dev, row.id)))
        return [other for other in found if stat.S_IFMT(other.mode) == stat.S_IFMT(row.mode)]

    def share(self, row: Row, entry: Entry) -> Shared:
        """What was sent under one name of a file with several has changed the others beneath its root as well. Beneath
        other roots it has not: each root has a file of its own on the replica."""
        shared = Shared([], [])
        root = self.place(row).root
        for other in self.other_names(row):
            place = self.place(other)
            if place.root == root:
                self._write([self._row(other.id, other.parent, other.name, entry)])
                self.digests.drop(other.id)
                shared.doubts.append(Doubt(other.parent, other.name, other.id))
            elif other.ctime_ns != entry.ctime_ns:
                shared.apart.append(place)
        return shared

    def doubt(self, row: Row, *, digests: bool = False) -> None:
        """It is not certain that the replica has what the row says: whoever looks at it next finds it changed. With
        `digests` they at least are right."""
        self._db.execute("UPDATE node SET mtime_ns = ?, ctime_ns = 0 WHERE id = ?", (_NEVER_NS, row.id))
        if not digests:
            self.digests.drop(row.id)

    def row(self, ident: int) -> Row | None:
        """The row of that id; None when it was forgotten."""
        found = self._db.execute(f"SELECT {_COLUMNS} FROM node WHERE id = ?", (ident,)).fetchone()
        return None if found is None else Row(*found)

    def reserve(self) -> Row:
        """An id for an object that is not on the replica yet: digests may gather under it until `put` takes it."""
        return self._row(self._new_id(), -1, b"", Entry(b"", stat.S_IFREG, 0, 0, 0, 0))

    def put(self, place: Place, entry: Entry, reserved: Row | None = None) -> Row:
        """Notes that `entry` was sent for `place`; its directory has a row already. A row of another object that was
        there goes, with all beneath it; a directory in the place of another keeps what is beneath, for the replica does
        so as well. With `reserved` the object is new and takes that row's id."""
        parent = 0
        name = b"%d" % place.root
        if place.path:
            above, _, name = place.path.rpartition(b"/")
            directory = self._dir_id(Place(place.root, above))
            if directory is None:
                raise KeyError(place)
            parent = directory
        old = self._child(parent, name)
        if old is not None and (reserved is not None or not old.lasts(entry)):
            self.remove(old)
            old = None
        kept = reserved or old
        row = self._row(kept.id if kept else self._new_id(), parent, name, entry)
        self._write([row])
        return row

    def put_child(self, directory: Row, entry: Entry, old: Row | None) -> Row:
        """`put` for an entry of a directory whose row is known, with the row that it had."""
        if old is not None and not old.lasts(entry):
            self.remove(old)
            old = None
        row = self._row(old.id if old is not None else self._new_id(), directory.id, entry.name, entry)
        self._write([row])
        return row

    def put_all(self, directory: Row, entries: Iterable[tuple[Entry, Row | None]]) -> None:
        """Notes entries of one directory at once, each with the row it had."""
        rows = []
        for entry, old in entries:
            kept = old if old is not None and old.lasts(entry) else None
            if old is not None and kept is None:
                self.remove(old)
            rows.append(self._row(kept.id if kept else self._new_id(), directory.id, entry.name, entry))
        self._write(rows)

    def is_blank(self, directory: Row) -> bool:
        """True when nothing is known of what is in the directory."""
        for table in ("node", "listing"):
            if self._db.execute(f"SELECT 1 FROM {table} WHERE parent = ? LIMIT 1", (directory.id,)).fetchone():
                return False
        return True

    def put_listing(self, directory: Row, entries: Sequence[Entry]) -> None:
        """`put_all` for a part of a directory that was blank, each name in one part alone: a tenth of the time."""
        self.put_all(directory, ((entry, None) for entry in entries if _has_own_row(entry)))
        files = [entry for entry in entries if not _has_own_row(entry)]
        if not files:
            return
        pack = _FIELDS.pack
        fields = b"".join(
            [
                pack(mode, uid, gid, size, mtime_ns, ino, dev, rdev, ctime_ns, xattrs)
                for _, mode, uid, gid, size, mtime_ns, _, ino, dev, rdev, ctime_ns, _, _, xattrs in files
            ]
        )
        names = b"\0".join([entry.name for entry in files])
        self._db.execute("INSERT INTO listing VALUES (?, ?, ?, ?)", (directory.id, len(files), names, fields))
        self._folded = True

    def unfold(self) -> None:
        """Gives every object a row of its own."""
        if self._folded:
            for (parent,) in self._db.execute("SELECT DISTINCT parent FROM listing").fetchall():
                self._unfold(parent)
            self._folded = False

    def _unfold(self, parent: int) -> bool:
        """`unfold` for one directory; False when there was nothing to do."""
        if not self._folded:
            return False
        parts = self._db.execute("SELECT names, fields FROM listing WHERE parent = ?", (parent,)).fetchall()
        for names, fields in parts:
            rows = (
                (self._new_id(), parent, name, *head, signed(ino), signed(dev), rdev, ctime_ns, signed(xattrs))
                for name, (*head, ino, dev, rdev, ctime_ns, xattrs) in zip(
                    names.split(b"\0"), _FIELDS.iter_unpack(fields), strict=True
                )
            )
            # A directory that changes while it is read may show a name twice: what has a row is the later one.
            self._db.executemany(f"INSERT OR IGNORE INTO node VALUES ({_MARKS})", rows)
        self._db.execute("DELETE FROM listing WHERE parent = ?", (parent,))
        return bool(parts)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    @staticmethod
    def _row(ident: int, parent: int, name: bytes, entry: Entry) -> Row:
        return Row(
            ident,
            parent,
            name,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.mtime_ns,
            signed(entry.ino),
            signed(entry.dev),
            entry.rdev,
            entry.ctime_ns,
            signed(entry.xattrs),
        )

    def _write(self, rows: list[Row]) -> None:
        self._db.executemany(f"INSERT OR REPLACE INTO node VALUES ({_MARKS})", rows)

    def move(self, row: Row, to: Place) -> Row:
        """The object is at `to` now, with all beneath it; what was there is forgotten."""
        old = self.get(to)
        if old is not None and old.id != row.id:
            self.remove(old)
        above, _, name = to.path.rpartition(b"/")
        parent = self._dir_id(Place(to.root, above))
        if parent is None:
            raise KeyError(to)
        if self.staging and stat.S_ISDIR(row.mode):
            self._move_staging(self.place(row), to)
        self._db.execute("UPDATE node SET parent = ?, name = ? WHERE id = ?", (parent, name, row.id))
        self._paths.clear()
        return row._replace(parent=parent, name=name)

    def remove(self, row: Row) -> None:
        """Forgets the object and all beneath it."""
        if stat.S_ISDIR(row.mode):
            self._db.execute(f"DELETE FROM blocks WHERE node IN ({_SUBTREE} SELECT id FROM sub)", (row.id,))
            self._db.execute(f"DELETE FROM listing WHERE parent IN ({_SUBTREE} SELECT id FROM sub)", (row.id,))
            self._db.execute(f"DELETE FROM node WHERE id IN ({_SUBTREE} SELECT id FROM sub)", (row.id,))
            self._paths.clear()
        else:
            self.digests.drop(row.id)
            self._db.execute("DELETE FROM node WHERE id = ?", (row.id,))

    def count_files(self, row: Row) -> int:
        """How many non-directories are at or beneath the row."""
        if not stat.S_ISDIR(row.mode):
            return 1
        sql = f"{_SUBTREE} SELECT count(*) FROM node JOIN sub USING (id) WHERE mode & ? != ?"
        files = int(self._db.execute(sql, (row.id, 0o170000, stat.S_IFDIR)).fetchone()[0])
        sql = f"{_SUBTREE} SELECT coalesce(sum(files), 0) FROM listing JOIN sub ON listing.parent = sub.id"
        return files + int(self._db.execute(sql, (row.id,)).fetchone()[0])


def _has_own_row(entry: Entry) -> bool:
    """False for what may be kept as it was listed. Files with several names are looked for by inode (`sent_as`)."""
    return entry.nlink > 1 or stat.S_ISDIR(entry.mode)
