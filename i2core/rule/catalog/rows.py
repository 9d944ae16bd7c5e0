"""The rows of the catalog: the state last sent for one object, and whether it is unverified."""

from __future__ import annotations

import enum
import stat
from collections.abc import Sequence
from typing import Any, NamedTuple

import xxhash

from i2core.api import Entry
from i2core.api.inode_flags import NOCOW, UNREAD, same_flags
from i2core.api.records import EARLIEST_NS, LATEST_NS

NEVER_NS = 1 << 100
"""A time that no file has: seconds have 64 bits."""


def signed(value: int) -> int:
    """SQLite's integers are signed; inode numbers and digests use all 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


def subject(entry: Entry) -> int:
    """The content of a special file as a number: a device's number, or a digest of a symlink's text."""
    return signed(xxhash.xxh3_64_intdigest(entry.target)) if entry.target else entry.rdev


class Row(NamedTuple):
    """The state last sent for one object. A name that shares its object with others has the state last sent under any
    of them (see `i2core/rule/catalog/inodes.py`)."""

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
    """See `subject`."""
    ctime_ns: int
    xattrs: int
    flags: int = UNREAD
    """Inode flags and project id, of a rule that carries them."""
    inode: int = 0
    """Id of the shared inode on the replica; 0: no other name is known to be one object with this one."""

    @property
    def key(self) -> int:
        """The id under which the digests of its blocks are kept."""
        return self.inode or self.id

    @property
    def unverified(self) -> bool:
        """True when the state on the replica is unknown."""
        return self.mtime_ns == NEVER_NS

    def is_object(self, entry: Entry) -> bool:
        """True when `entry` is the object from which this row was made: same inode, same type."""
        same_inode = self.ino == signed(entry.ino) and self.dev == signed(entry.dev)
        return same_inode and stat.S_IFMT(self.mode) == stat.S_IFMT(entry.mode)

    def lasts(self, entry: Entry) -> bool:
        """True when the replica's object can stay for `entry`: it is the same object, or both are directories."""
        return self.is_object(entry) or (stat.S_ISDIR(self.mode) and stat.S_ISDIR(entry.mode))

    def same_content(self, entry: Entry) -> bool:
        """True when size and mtime are those that were sent."""
        return self.size == entry.size and self.mtime_ns == entry.mtime_ns

    def same_meta(self, entry: Entry) -> bool:
        """True when mode, owner, mtime, extended attributes and inode flags are those that were sent. Both were read on
        this node, so they must be equal to the bit; what a replica can hold of them is for the backup node to say
        (`same_meta` in `i2core/rule/backup/session/compare.py`)."""
        mine = (self.mode, self.uid, self.gid, self.mtime_ns, self.xattrs)
        same = mine == (entry.mode, entry.uid, entry.gid, entry.mtime_ns, signed(entry.xattrs))
        return same and same_flags(self.flags, entry.flags)

    def same_storage(self, entry: Entry) -> bool:
        """False when the file must be created again on the replica: a file with content cannot get or lose this
        flag."""
        return not self.size or same_flags(self.flags, entry.flags, NOCOW << 32)

    def same_subject(self, entry: Entry) -> bool:
        """True for the same text of a symlink, or the same device."""
        return self.rdev == subject(entry)

    def untouched(self, entry: Entry) -> bool:
        """True when nothing differs from what was sent, not even the inode's change time."""
        return self.ctime_ns == entry.ctime_ns and self.is_object(entry) and self.same_content(entry)


_new: Any = tuple.__new__
COLUMNS = ", ".join(Row._fields)
MARKS = ", ".join("?" * len(Row._fields))
_MTIME, _CTIME = Row._fields.index("mtime_ns"), Row._fields.index("ctime_ns")


def row_of(ident: int, parent: int, name: bytes, entry: Entry, inode: int = 0) -> Row:
    """The row of an entry that was sent."""
    _, mode, uid, gid, size, mtime_ns, _, ino, dev, rdev, ctime_ns, _, target, xattrs, flags = entry
    if target:
        rdev = subject(entry)
    fields = ident, parent, name, mode, uid, gid, size, mtime_ns, signed(ino), signed(dev), rdev, ctime_ns
    # This runs for each file, and tuple.__new__ takes a third of the time of the class.
    row: Row = _new(Row, (*fields, signed(xattrs), flags, inode))
    return row


# SQLite's integers have 64 bits: a time before 1677 or after 2262 is a blob instead.


def to_row(found: Sequence[Any]) -> Row:
    """A row as the database has it."""
    row: Row = _new(Row, found)
    if type(row.mtime_ns) is int and type(row.ctime_ns) is int:
        return row
    return row._replace(mtime_ns=to_time(row.mtime_ns), ctime_ns=to_time(row.ctime_ns))


def to_time(kept: int | bytes) -> int:
    """A time as the database has it."""
    return kept if isinstance(kept, int) else int.from_bytes(kept, "little", signed=True)


def kept_time(time_ns: int) -> int | bytes:
    """A time for the database."""
    return time_ns if EARLIEST_NS <= time_ns <= LATEST_NS else time_ns.to_bytes(16, "little", signed=True)


def kept_row(row: Row) -> list[object]:
    """A row for the database, whatever its times."""
    fields: list[object] = list(row)
    fields[_MTIME], fields[_CTIME] = kept_time(row.mtime_ns), kept_time(row.ctime_ns)
    return fields


class Depth(enum.IntEnum):
    """How far a doubt reaches, and what the names are that only the replica has there. A greater one includes a lesser
    one. The numbers are in catalogs."""

    NAME = 0
    """The name alone."""
    SUBTREE = 1
    """Everything beneath as well. Each removal there has a doubt of its own; other names that only the replica has are
    orphans."""
    REPLACED = 2
    """Everything beneath as well, and a directory that was sent for this name was removed or moved away. The replica
    may still have it: what only the replica has there was in it."""


class Doubt(NamedTuple):
    """A name on the replica, and the object last sent for it, that may not be as the catalog says. It refers to rows,
    not to a path: directories above may move before the name is compared."""

    parent: int
    """Id of the directory's row; 0: the name is a root."""
    name: bytes
    node: int
    """Id of the object's row; 0: the name was removed."""
    deep: Depth = Depth.NAME
    inode: int = 0
    """Id of the shared inode if the object has several names: all of them may differ, also when this one is gone."""
