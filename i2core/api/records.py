"""Records: the ordered steps that change a tree.

A `Record` is what crosses from the work node to the backup node. Records are idempotent: applied twice, in order,
they leave the same tree, or fail and are compared (see `Sink`, *Repeatable*). A batch is a list of records with
consecutive seqs. How they look on the wire is in `i2core/wire/encoding.py`.

Whole files of at most one record's size travel as `CREATE` with their content. Larger ones are staged: `STAGE`,
any number of staged `WRITE`, then `PUBLISH`, which gives the file its name in one rename. A staged record whose
staging file is gone fails, and the file is compared: it may be published already, or be any other.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import xxhash

from i2core.api.inode_flags import UNREAD

BLOCK_BYTES = 64 * 1024
"""Block of the content hashes (xxh3-128, 16 bytes a block; the last block of a file may be short)."""

Buffer = bytes | bytearray | memoryview
Xattrs = tuple[tuple[bytes, bytes], ...]
"""Sorted (name, value) pairs; POSIX ACLs are the pairs ``system.posix_acl_access`` and ``_default``."""


class Kind(enum.IntEnum):
    """A record's kind; the value is its code on the wire."""

    CREATE = 1
    """A regular file with its whole content: created, or atomically put in the place of what was there."""
    STAGE = 2
    """Begin a staged file. With `size` 1 the staging file that an earlier run left is continued. `meta` has the flags
    that a file can only get while it is empty; None: it has none of these."""
    WRITE = 3
    """`data` at `offset`; in place, or into the staging file when `staged`. In place, `meta` tells what is to be
    there: a file of this owner, with no more permissions for others; None: not known. PUNCH and TRUNCATE likewise."""
    PUNCH = 4
    """The range [offset, offset + size) reads as zeros and occupies no space."""
    TRUNCATE = 5
    """The file's length becomes `size` bytes; a grown part is a hole."""
    PUBLISH = 6
    """The staging file, cut to `size`, gets `meta` and atomically takes the name `path`."""
    MKDIR = 7
    SYMLINK = 8
    """`other` is the link's text."""
    MKNOD = 9
    """FIFO, socket, character or block device: the type is in `meta.mode`, the device number in `size`."""
    LINK = 10
    """`path` becomes one more name of the file that is at `other`."""
    RENAME = 11
    """The object at `path` gets the name `other`, replacing what is there."""
    REMOVE = 12
    """The object at `path`, with all beneath it, is gone. When `staged`: its staging file alone."""
    SETATTR = 13
    """`meta` is set on the object at `path`. `offset` is its owner so far plus one; 0: not known."""
    BARRIER = 14
    """All records before this one belong to one consistent moment."""


MAKING = frozenset({Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD, Kind.LINK})
"""Records that make an object, or one more name of it, in one step."""


class Meta(NamedTuple):
    """Metadata of an object. `mode` holds type and permissions (st_mode); times in nanoseconds since the epoch:
    any that the kernel knows, so they may have more than 64 bits."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: Xattrs | None = None
    """The exact set of extended attributes; None leaves the present ones alone."""
    flags: int = UNREAD
    """Inode flags and project id (see `inode_flags`); `UNREAD` leaves the present ones alone."""


class Record(NamedTuple):
    """One step. Fields that a kind does not use stay at their defaults."""

    kind: Kind
    root: int
    path: bytes
    other: bytes = b""
    meta: Meta | None = None
    offset: int = 0
    size: int = 0
    data: Buffer = b""
    staged: bool = False
    time_ns: int = 0
    """When the work node had read what the record says, by its clock, in ns since the epoch; never less than that of
    the record before. So the state at T contains nothing that was written after T. 0: not known. It crosses the wire
    once for each batch, for a rule that wants a history."""


class Batch(NamedTuple):
    """Records with the seqs ``first_seq, first_seq + 1, …``. Seqs start at 1."""

    first_seq: int
    records: Sequence[Record]
    keeps: Sequence[Mapping[bytes, int]] | None = None
    """For each record the objects that it takes their last name from, by the path that they have before it, with their
    numbers in the history of the replica: they are kept whole (`Sink`, *Keeps*). None: the replica has no history."""

    @property
    def last_seq(self) -> int:
        """Seq of the last record; ``first_seq - 1`` for an empty batch."""
        return self.first_seq + len(self.records) - 1


class Entry(NamedTuple):
    """One directory entry as `lstat` gives it, on either node. Times in ns, sizes in bytes."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    nlink: int = 1
    ino: int = 0
    dev: int = 0
    rdev: int = 0
    ctime_ns: int = 0
    blocks: int = 0
    """Allocated 512-byte units: fewer than the size needs means that the file has holes."""
    target: bytes = b""
    """A symlink's text."""
    xattrs: int = 0
    """`xattr_digest` of the extended attributes; `UNREADABLE` where they are not known."""
    flags: int = UNREAD
    """Inode flags and project id, for a rule that carries them (see `inode_flags`)."""


# A time in nanoseconds fits 64 bits from 1677 to 2262. File systems hold more: ext4 up to 2446, xfs up to 2486, btrfs
# and tmpfs any 64-bit second. So a time is kept as 64 bits and an era, the number of times 2^64 ns (584 years) is to be
# added; it is 0 for nearly all, and then takes no room.
EARLIEST_NS, LATEST_NS = -(1 << 63), (1 << 63) - 1
"""The times whose era is 0."""


UNREADABLE = (1 << 64) - 1
"""Pseudo digest of attributes that the process may list but not read: user.* of objects that it may not read. The
replica's attributes are left as they are, since the present ones are unknown."""


def xattr_digest(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """A 64-bit digest of a set of extended attributes; 0 for the empty set."""
    packed = b"".join(struct.pack("<HI", len(n), len(v)) + n + v for n, v in sorted(pairs))
    return xxhash.xxh3_64_intdigest(packed) if packed else 0


def safe_path(path: bytes) -> bool:
    """True for a relative path without empty, ``.`` or ``..`` components and without NUL; ``b""`` is the root."""
    if not path:
        return True
    framed = b"/" + path + b"/"
    return b"//" not in framed and b"/./" not in framed and b"/../" not in framed and b"\0" not in framed


def safe_name(name: bytes) -> bool:
    """True for one component of a safe path."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name
