"""What the simulated kernel's calls give: the parts of `os.stat_result` and its kin that programs read."""

from __future__ import annotations

from collections.abc import Iterator

from i2core.testing.sim.disk import Disk, Inode


class Status:
    """What stat(2) tells."""

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
    """What scandir gives."""

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
    """What scandir returns: an iterator that is a context manager."""

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
        """Nothing is held."""


class Room:
    """What statvfs(2) tells of space."""

    def __init__(self, disk: Disk) -> None:
        self.f_frsize = self.f_bsize = disk.page_bytes
        self.f_bavail = self.f_bfree = disk.free_bytes() // disk.page_bytes
        self.f_blocks = (1 << 50 if disk.capacity_bytes is None else disk.capacity_bytes) // disk.page_bytes
