"""The inodes of a simulated disk, and the errors of its calls."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from i2core.testing.sim.disk import Disk

NAME_BYTES = 255


def fail(code: int, name: bytes = b"") -> OSError:
    """The error of a system call."""
    return OSError(code, os.strerror(code), name)


class Image(NamedTuple):
    """Content at the last sync."""

    data: bytes
    pages: frozenset[int]
    mtime_ns: int


class Inode:
    """A file, directory, symlink or device node. A directory has `entries`, a regular file `data` and `pages` (those
    that are not holes), a symlink `target`. Many attributes: the fields of a real inode, and what a power cut would
    leave of them."""

    __slots__ = (
        "born_ns",
        "ctime_ns",
        "data",
        "disk",
        "entries",
        "gid",
        "linked",
        "mode",
        "mounted",
        "mtime_ns",
        "nlink",
        "number",
        "opens",
        "pages",
        "parent",
        "rdev",
        "synced",
        "target",
        "uid",
        "xattrs",
    )

    def __init__(self, disk: Disk, number: int, mode: int, now_ns: int) -> None:
        self.disk = disk
        self.number = number
        self.mode = mode
        self.uid = self.gid = self.rdev = 0
        self.nlink = 0
        self.opens = 0
        self.mtime_ns = self.ctime_ns = self.born_ns = now_ns
        self.xattrs: dict[str, bytes] = {}
        self.entries: dict[bytes, Inode] = {}
        self.parent: Inode | None = None
        self.mounted: Inode | None = None
        self.data = bytearray()
        self.pages: set[int] = set()
        self.target = b""
        self.synced: Image | None = None
        """Set while the file has content that was not synced."""
        self.linked = False
        """True if it has, or had, several names."""

    @property
    def is_dir(self) -> bool:
        """True for a directory."""
        return stat.S_ISDIR(self.mode)
