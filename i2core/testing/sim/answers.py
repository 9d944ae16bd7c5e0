"""Results of the simulated kernel's calls: the parts of `os.stat_result` and similar types that programs read."""

from __future__ import annotations

from collections.abc import Iterator

from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode


class Status:
    """The result of stat(2)."""

    __slots__ = (
        "st_blocks",
        "st_ctime_ns",
        "st_dev",
        "st_gid",
        "st_ino",
        "st_mode",
        "st_mtime_ns",
        "st_nlink",
        "st_rdev",
        "st_size",
        "st_uid",
    )

    def __init__(self, inode: Inode) -> None:
        disk = inode.disk
        self.st_mode = inode.mode
        self.st_ino = inode.number
        self.st_dev = disk.device
        self.st_nlink = inode.nlink
        self.st_uid = inode.uid
        self.st_gid = inode.gid
        self.st_rdev = inode.rdev
        self.st_size = len(inode.data) or len(inode.target) or (len(inode.entries) * 32 if inode.is_dir else 0)
        self.st_blocks = len(inode.pages) * disk.page_bytes // 512
        self.st_mtime_ns = inode.mtime_ns
        self.st_ctime_ns = inode.ctime_ns


class DirEntry:
    """An entry from `os.scandir`."""

    __slots__ = ("_inode", "name")

    def __init__(self, name: bytes, inode: Inode) -> None:
        self.name = name
        self._inode = inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """As `os.DirEntry.is_dir` without following."""
        return self._inode.is_dir

    def inode(self) -> int:
        """As `os.DirEntry.inode`."""
        return self._inode.number


class Scan:
    """The result of `os.scandir`: an iterator that is also a context manager."""

    def __init__(self, entries: list[DirEntry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[DirEntry]:
        return self._entries

    def __next__(self) -> DirEntry:
        return next(self._entries)

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Does nothing: there is nothing to close."""


class Room:
    """The result of statvfs(2): space, and the id of the file system."""

    def __init__(self, disk: Disk) -> None:
        self.f_fsid = 0xF5 << 32 | disk.device
        self.f_frsize = self.f_bsize = disk.page_bytes
        self.f_bavail = self.f_bfree = disk.free_bytes() // disk.page_bytes
        self.f_files = self.f_favail = 0
        self.f_blocks = (1 << 50 if disk.capacity_bytes is None else disk.capacity_bytes) // disk.page_bytes
