"""Packed listings: directories as a mirror has listed them, many files in one row until one of them is needed.

A mirror notes whole directories, and most of their files are never looked up again. Packing takes a tenth of the time
and a fifth of the space of separate rows. Directories and files with several names always have rows of their own, since
they are looked up by id or by inode.
"""

# ruff: noqa: S608 (the statements are put together from constants of this module alone)

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator, Sequence, Set

from i2core.api import Entry
from i2core.api.records import EARLIEST_NS, LATEST_NS
from i2core.rule.catalog.database import SUBTREE, Database
from i2core.rule.catalog.rows import MARKS, signed

SCHEMA = """
CREATE TABLE IF NOT EXISTS listing (
    parent INTEGER NOT NULL, files INTEGER NOT NULL, names BLOB NOT NULL, fields BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS listing_parent ON listing (parent);
"""
_FIELDS = struct.Struct("<IIIQqQQQqQq")
"""An object in a listing: mode, uid, gid, size, mtime_ns, ino, dev, rdev (see `subject`), ctime_ns, xattrs, flags."""
_INODE = struct.Struct("<28xq40x")
"""The same, of which only the inode number is read; signed, as a row has it."""
_TYPE, _DIRECTORY = 0o170000, stat.S_IFDIR


def _inodes(fields: bytes) -> Iterator[int]:
    """The inode numbers of the objects in a listing."""
    return (ino for (ino,) in _INODE.iter_unpack(fields))


class Listings:
    """The table of packed listings in a catalog's database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._look()
        db.after_undo.append(self._look)

    def _look(self) -> None:
        self._any = self._db.execute("SELECT 1 FROM listing LIMIT 1").fetchone() is not None
        """False: there is none, so nothing needs to be looked up."""

    def add(self, parent: int, files: Sequence[Entry]) -> None:
        """Notes files of a directory, each of which `may_be_packed`."""
        pack = _FIELDS.pack
        fields = b"".join(
            [
                pack(mode, uid, gid, size, mtime_ns, ino, dev, rdev, ctime_ns, xattrs, flags)
                for _, mode, uid, gid, size, mtime_ns, _, ino, dev, rdev, ctime_ns, _, _, xattrs, flags in files
            ]
        )
        names = b"\0".join([entry.name for entry in files])
        self._db.execute("INSERT INTO listing VALUES (?, ?, ?, ?)", (parent, len(files), names, fields))
        self._any = True

    def has(self, parent: int) -> bool:
        """True when files of that directory are packed."""
        return self._db.execute("SELECT 1 FROM listing WHERE parent = ? LIMIT 1", (parent,)).fetchone() is not None

    def expand_all(self) -> None:
        """Gives every object a row of its own."""
        if self._any:
            for (parent,) in self._db.execute("SELECT DISTINCT parent FROM listing").fetchall():
                self.expand(parent)
            self._any = False

    def expand_objects(self, inodes: Set[int]) -> None:
        """`expand_all` for the directories with a packed object that has one of these inode numbers, as a row has
        them."""
        if self._any:
            found = self._db.execute("SELECT parent, fields FROM listing")
            holding = (parent for parent, fields in found if not inodes.isdisjoint(_inodes(fields)))
            for parent in list(dict.fromkeys(holding)):
                self.expand(parent)

    def expand(self, parent: int) -> bool:
        """`expand_all` for one directory; False when there was nothing to do."""
        if not self._any:
            return False
        new_id = self._db.new_id
        parts = self._db.execute("SELECT names, fields FROM listing WHERE parent = ?", (parent,)).fetchall()
        for names, fields in parts:
            rows = (
                (new_id(), parent, name, *head, signed(ino), signed(dev), rdev, ctime_ns, signed(xattrs), flags, 0)
                for name, (*head, ino, dev, rdev, ctime_ns, xattrs, flags) in zip(
                    names.split(b"\0"), _FIELDS.iter_unpack(fields), strict=True
                )
            )
            # A directory that changes while it is read may show a name twice: the later one has a row already.
            self._db.executemany(f"INSERT OR IGNORE INTO node VALUES ({MARKS})", rows)
        self._db.execute("DELETE FROM listing WHERE parent = ?", (parent,))
        return bool(parts)

    def drop_beneath(self, ident: int) -> None:
        """Forgets the files of a directory and of all beneath it."""
        self._db.execute(f"DELETE FROM listing WHERE parent IN ({SUBTREE} SELECT id FROM sub)", (ident,))

    def count_beneath(self, ident: int) -> int:
        """How many files of a directory, and of all directories beneath it, are packed."""
        sql = f"{SUBTREE} SELECT coalesce(sum(files), 0) FROM listing JOIN sub ON listing.parent = sub.id"
        return int(self._db.execute(sql, (ident,)).fetchone()[0])


def may_be_packed(entry: Entry) -> bool:
    """False for an object that needs a row of its own from the beginning: files with several names are looked up by
    inode number (`ObjectNames.sent_as`), and a time outside of 64 bits does not fit."""
    if entry.nlink > 1 or entry.mode & _TYPE == _DIRECTORY:
        return False
    return EARLIEST_NS <= entry.mtime_ns <= LATEST_NS and EARLIEST_NS <= entry.ctime_ns <= LATEST_NS
