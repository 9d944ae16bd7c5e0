"""The messages of the kernel's FUSE protocol (linux/fuse.h, 7.31) that a read-only file system needs.

The protocol is part of the kernel's stable interface: a server of an old version works with every later kernel.
"""

from __future__ import annotations

import enum
import os
import stat
import struct

from i2core.api.records import Entry

MAJOR, MINOR = 7, 31
ROOT_ID = 1
"""The node that the kernel knows without asking."""
REQUEST_BYTES = 8192
"""No request is longer, as nothing is written; the kernel requires a buffer of this size."""
READ_BYTES = 1 << 20
"""The most that the kernel asks for in one read."""


class Op(enum.IntEnum):
    """Requests."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    DESTROY = 38
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46


class Init(enum.IntFlag):
    """What kernel and server agree on at the start."""

    ASYNC_READ = 1 << 0
    AUTO_INVAL_DATA = 1 << 12
    """Pages of a file whose time or size has changed are read again."""
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    NO_OPEN_SUPPORT = 1 << 17
    """The kernel can read files that it has not opened here."""
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    """The kernel checks the ACLs of the tree, as well as the modes."""
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23


class Opened(enum.IntFlag):
    """How the kernel may treat what was opened."""

    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3


IN_HEAD = struct.Struct("=IIQQIIIHH")
"""Length, opcode, number of the request, node; uid, gid and pid of who asks; unused."""
OUT_HEAD = struct.Struct("=IiQ")
"""Length, 0 or -errno, number of the request."""
INIT_IN = struct.Struct("=4I")
INIT_OUT = struct.Struct("=4I2H2I2HI28x")
_ATTR = struct.Struct("=6Q10I")
_ENTRY = struct.Struct("=4Q2I")
ATTR_OUT = struct.Struct("=QII")
OPEN_IN = struct.Struct("=II")
OPEN_OUT = struct.Struct("=QIi")
READ_IN = struct.Struct("=QQI")
"""Handle, offset, size."""
HANDLE_IN = struct.Struct("=Q")
GETATTR_IN = struct.Struct("=IIQ")
GETATTR_HANDLE = 1
XATTR_IN = struct.Struct("=II")
XATTR_SIZE_OUT = struct.Struct("=II")
LSEEK_IN = struct.Struct("=QQI")
LSEEK_OUT = struct.Struct("=Q")
FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE = struct.Struct("=QQ")
STATFS_OUT = struct.Struct("=5Q4I24x")
_DIRENT = struct.Struct("=QQII")
ENTRY_BYTES, NAME_BYTES = _ENTRY.size + _ATTR.size, _DIRENT.size
"""Lengths of what goes before a name in a list of names."""
_MASK64, _MASK32 = (1 << 64) - 1, (1 << 32) - 1
_BLOCK_BYTES = 4096


def pack_attributes(entry: Entry, ino: int, changed_ns: int) -> bytes:
    """``struct fuse_attr`` of an object. `changed_ns`: its ctime."""
    seconds, nanoseconds = divmod(entry.mtime_ns, 1_000_000_000)
    changed, changed_rest = divmod(changed_ns, 1_000_000_000)
    seconds &= _MASK64
    return _ATTR.pack(
        ino,
        entry.size,
        entry.blocks,
        seconds,
        seconds,
        changed & _MASK64,
        nanoseconds,
        nanoseconds,
        changed_rest,
        entry.mode,
        min(entry.nlink, _MASK32),
        entry.uid,
        entry.gid,
        _device(entry.rdev),
        _BLOCK_BYTES,
        0,
    )


def _device(number: int) -> int:
    """A device number as the kernel packs it into 32 bits (new_encode_dev)."""
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12


def pack_entry(node: int, valid_s: int, attributes: bytes) -> bytes:
    """``struct fuse_entry_out``: a name leads to this node, and that may be remembered for so long. Node 0: to
    nothing."""
    return _ENTRY.pack(node, 0, valid_s, valid_s, 0, 0) + attributes


NOTHING = _ATTR.pack(*[0] * 16)
"""The attributes that belong to a name that leads to no node."""


def pack_name(name: bytes, ino: int, mode: int, offset: int) -> bytes:
    """``struct fuse_dirent``: a name in a directory. `mode` 0: of unknown type. `offset` is that of the next name."""
    packed = _DIRENT.pack(ino, offset, len(name), stat.S_IFMT(mode) >> 12) + name
    return packed + bytes(-len(packed) % 8)
