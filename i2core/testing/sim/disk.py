"""An in-memory file system of inodes, which loses at a power cut what was not synced.

What a power cut leaves follows from two promises of real file systems, and from nothing else:

- operations on names and attributes are an ordered journal; a prefix of it survives, which reaches at least to the last
  fsync or syncfs (like the logs of ext4 and XFS);
- content that was not synced is old, new, torn within a page, or truncated, file by file and page by page, whatever the
  journal contains about the same file.

A killed process loses nothing that it has written: the kernel has it. The calls here take inodes; paths and descriptors
belong to the kernel (`sim.kernel`). All calls raise OSError with the errno that Linux would return to root.
"""

from __future__ import annotations

import errno
import heapq
import stat
from collections.abc import Callable, Iterator
from random import Random

from i2core.testing.sim.inode import Image, Inode, fail
from i2core.testing.sim.power import Journal, tear

_GRAIN_NS = 64
_UMASK = 0o022


class Disk:
    """One file system, with a method for each call. `capacity_bytes` limits its content; None: no limit."""

    def __init__(
        self,
        device: int,
        now_ns: Callable[[], int],
        *,
        page_bytes: int = 512,
        capacity_bytes: int | None = None,
        umask: int = _UMASK,
    ) -> None:
        self.device = device
        self.page_bytes = page_bytes
        self.capacity_bytes = capacity_bytes
        self.umask = umask
        self._now_ns = now_ns
        self._last_ns = 0
        self._journal = Journal()
        self._unsynced: dict[Inode, None] = {}
        self._free: list[int] = []
        self._next_number = 2
        self.used_bytes = 0
        self.changes = 0
        """A number that grows with each operation that changes something."""
        self.root = self._new(stat.S_IFDIR | 0o755)
        self.root.nlink = 2

    # ------------------------------------------------------------------------------------------ time and space

    def tick_ns(self) -> int:
        """The time for a change. While the clock moves forward, no time is used twice, as on kernels since 6.13, and
        none is used by another disk."""
        now = self._now_ns() // _GRAIN_NS * _GRAIN_NS + self.device % _GRAIN_NS
        if 0 <= self._last_ns - now < 1_000_000:
            now = self._last_ns + _GRAIN_NS
        self._last_ns = now
        return now

    def gave(self, time_ns: int) -> bool:
        """True for a time that this disk has given to an object by itself; for others as good as never."""
        return time_ns % _GRAIN_NS == self.device % _GRAIN_NS

    def free_bytes(self) -> int:
        """Free space for content."""
        return 1 << 50 if self.capacity_bytes is None else max(0, self.capacity_bytes - self.used_bytes)

    def _new(self, mode: int) -> Inode:
        if self.capacity_bytes is not None and self.free_bytes() < self.page_bytes:
            raise fail(errno.ENOSPC)
        number = heapq.heappop(self._free) if self._free else self._next_number
        self._next_number = max(self._next_number, number + 1)
        self.used_bytes += self.page_bytes
        return Inode(self, number, mode, self.tick_ns())

    def release(self, inode: Inode) -> None:
        """Removes an inode that has no name and is not open. The next inode may get its number, as on ext4."""
        if not inode.nlink and not inode.opens and inode.number:
            heapq.heappush(self._free, inode.number)
            self.used_bytes -= self.page_bytes * (1 + len(inode.pages))
            inode.opens = -1  # after a power cut, inodes that come back are counted again

    # ------------------------------------------------------------------------------------------ the journal

    def _begin(self) -> None:
        self._journal.begin()
        self.changes += 1

    def _touch(self, inode: Inode, *, content: bool) -> None:
        now = self.tick_ns()
        if content:
            self._journal.set(inode, "mtime_ns", now)
        self._journal.set(inode, "ctime_ns", now)

    # ------------------------------------------------------------------------------------------ names

    def make(self, parent: Inode, name: bytes, mode: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Creates an object of the type in `mode` under a free name."""
        self._check_free(parent, name)
        inode = self._new(mode if stat.S_ISLNK(mode) else mode & ~self.umask)
        self._begin()
        inode.rdev, inode.target = rdev, target
        if stat.S_ISREG(mode):
            inode.synced = Image(b"", frozenset(), inode.mtime_ns)
            self._unsynced[inode] = None
        if parent.mode & stat.S_ISGID:
            inode.gid = parent.gid
            if inode.is_dir:
                inode.mode |= stat.S_ISGID
        inode.nlink = 2 if inode.is_dir else 1
        self._enter(parent, name, inode)
        return inode

    def _check_free(self, parent: Inode, name: bytes) -> None:
        if not parent.is_dir:
            raise fail(errno.ENOTDIR, name)
        if name in parent.entries or name in (b".", b".."):
            raise fail(errno.EEXIST, name)
        if not parent.nlink:
            raise fail(errno.ENOENT, name)

    def _enter(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self._journal.put(parent.entries, name, inode)
        if inode.is_dir:
            self._journal.set(inode, "parent", parent)
            self._journal.set(parent, "nlink", parent.nlink + 1)
        self._touch(parent, content=True)

    def _leave(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self._journal.put(parent.entries, name, None)
        if inode.is_dir:
            self._journal.set(parent, "nlink", parent.nlink - 1)
        self._touch(parent, content=True)

    def link(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Adds a name."""
        if inode.is_dir:
            raise fail(errno.EPERM, name)
        if inode.disk is not parent.disk:
            raise fail(errno.EXDEV, name)
        self._check_free(parent, name)
        if not inode.nlink:
            raise fail(errno.ENOENT, name)
        self._begin()
        self._journal.set(inode, "nlink", inode.nlink + 1)
        inode.linked = True
        self._enter(parent, name, inode)
        self._touch(inode, content=False)

    def unlink(self, parent: Inode, name: bytes) -> None:
        """Removes a name of a non-directory."""
        inode = self._there(parent, name)
        if inode.is_dir:
            raise fail(errno.EISDIR, name)
        self._begin()
        self._drop(parent, name, inode)

    def _drop(self, parent: Inode, name: bytes, inode: Inode) -> None:
        self._leave(parent, name, inode)
        self._journal.set(inode, "nlink", 0 if inode.is_dir else inode.nlink - 1)
        self._touch(inode, content=False)
        self.release(inode)

    def rmdir(self, parent: Inode, name: bytes) -> None:
        """Removes an empty directory."""
        inode = self._there(parent, name)
        if not inode.is_dir:
            raise fail(errno.ENOTDIR, name)
        if inode.mounted is not None:
            raise fail(errno.EBUSY, name)
        if inode.entries:
            raise fail(errno.ENOTEMPTY, name)
        self._begin()
        self._drop(parent, name, inode)

    def _there(self, parent: Inode, name: bytes) -> Inode:
        if not parent.is_dir:
            raise fail(errno.ENOTDIR, name)
        inode = parent.entries.get(name)
        if inode is None:
            raise fail(errno.ENOENT, name)
        return inode

    def rename(self, old_parent: Inode, old: bytes, new_parent: Inode, new: bytes) -> bool:
        """rename(2). False when both were names of one file, and nothing was done."""
        if old_parent.disk is not new_parent.disk:
            raise fail(errno.EXDEV, new)
        inode = self._there(old_parent, old)
        if not new_parent.is_dir:
            raise fail(errno.ENOTDIR, new)
        there = new_parent.entries.get(new)
        if inode.is_dir and _is_beneath(new_parent, inode):
            raise fail(errno.EINVAL, new)
        if there is not None:
            if there.is_dir and _is_beneath(old_parent, there):
                raise fail(errno.ENOTEMPTY, new)
            if there is inode:
                return False
            if inode.is_dir and not there.is_dir:
                raise fail(errno.ENOTDIR, new)
            if there.is_dir and not inode.is_dir:
                raise fail(errno.EISDIR, new)
            if there.entries:
                raise fail(errno.ENOTEMPTY, new)
            if there.mounted is not None:
                raise fail(errno.EBUSY, new)
        if not new_parent.nlink:
            raise fail(errno.ENOENT, new)
        if inode.mounted is not None:
            raise fail(errno.EBUSY, old)
        self._begin()
        if there is not None:
            self._drop(new_parent, new, there)
        self._leave(old_parent, old, inode)
        self._enter(new_parent, new, inode)
        self._touch(inode, content=False)
        return True

    # ------------------------------------------------------------------------------------------ attributes

    def set_mode(self, inode: Inode, mode: int) -> None:
        """chmod(2)."""
        self._begin()
        self._journal.set(inode, "mode", stat.S_IFMT(inode.mode) | mode & 0o7777)
        self._touch(inode, content=False)

    def set_owner(self, inode: Inode, uid: int, gid: int) -> None:
        """chown(2): clears setuid and setgid."""
        self._begin()
        if uid >= 0:
            self._journal.set(inode, "uid", uid)
        if gid >= 0:
            self._journal.set(inode, "gid", gid)
        if not inode.is_dir:
            mode = inode.mode & ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                mode &= ~stat.S_ISGID
            self._journal.set(inode, "mode", mode)
        self._touch(inode, content=False)

    def set_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """utimensat(2)."""
        self._begin()
        self._journal.set(inode, "mtime_ns", mtime_ns)
        self._touch(inode, content=False)

    def set_xattr(self, inode: Inode, name: str, value: bytes | None) -> None:
        """Sets an extended attribute; None removes it."""
        space = name.partition(".")[0]
        if space not in ("user", "trusted"):
            raise fail(errno.EOPNOTSUPP)
        if space == "user" and not (inode.is_dir or stat.S_ISREG(inode.mode)):
            raise fail(errno.EPERM)
        if value is None and name not in inode.xattrs:
            raise fail(errno.ENODATA)
        self._begin()
        self._journal.put(inode.xattrs, name, value)
        self._touch(inode, content=False)

    # ------------------------------------------------------------------------------------------ content

    def _before_content(self, inode: Inode) -> None:
        self.changes += 1
        if inode.synced is None:
            inode.synced = Image(bytes(inode.data), frozenset(inode.pages), inode.mtime_ns)
            self._unsynced[inode] = None

    def _after_content(self, inode: Inode) -> None:
        inode.mtime_ns = inode.ctime_ns = self.tick_ns()

    def write(self, inode: Inode, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Returns how many bytes were written before the disk was full."""
        if not len(data):
            return 0
        end, size = offset + len(data), self.page_bytes
        fresh = [page for page in range(offset // size, (end - 1) // size + 1) if page not in inode.pages]
        room = self.free_bytes() // size
        if len(fresh) > room:
            end = fresh[room] * size
            if end <= offset:
                raise fail(errno.ENOSPC)
            fresh = fresh[:room]
        self._before_content(inode)
        if len(inode.data) < end:
            inode.data += bytes(end - len(inode.data))
        inode.data[offset:end] = data[: end - offset]
        inode.pages.update(fresh)
        self.used_bytes += len(fresh) * size
        self._after_content(inode)
        return end - offset

    def truncate(self, inode: Inode, length: int) -> None:
        """Makes the file shorter, or longer by a hole."""
        self._before_content(inode)
        if length < len(inode.data):
            del inode.data[length:]
            self._free_pages(inode, -(-length // self.page_bytes), None)
        else:
            inode.data += bytes(length - len(inode.data))
        self._after_content(inode)

    def punch(self, inode: Inode, offset: int, length: int) -> None:
        """Makes a hole; the size stays."""
        self._before_content(inode)
        end = min(offset + length, len(inode.data))
        if end > offset:
            inode.data[offset:end] = bytes(end - offset)
        self._free_pages(inode, -(-offset // self.page_bytes), (offset + length) // self.page_bytes)
        self._after_content(inode)

    def _free_pages(self, inode: Inode, first: int, behind: int | None) -> None:
        gone = {page for page in inode.pages if page >= first and (behind is None or page < behind)}
        inode.pages -= gone
        self.used_bytes -= len(gone) * self.page_bytes

    def extent(self, inode: Inode, offset: int, *, data: bool) -> int:
        """SEEK_DATA and SEEK_HOLE."""
        size, length = self.page_bytes, len(inode.data)
        if offset >= length:
            raise fail(errno.ENXIO)
        page = offset // size
        while page * size < length:
            if (page in inode.pages) is data:
                return max(offset, page * size)
            page += 1
        if data:
            raise fail(errno.ENXIO)
        return length

    # ------------------------------------------------------------------------------------------ durability

    def sync(self) -> None:
        """syncfs(2): everything here survives a power cut."""
        self._journal.sync()
        for inode in self._unsynced:
            inode.synced = None
        self._unsynced.clear()

    def sync_file(self, inode: Inode) -> None:
        """fsync(2): the content of this file, and the journal up to now."""
        self._journal.sync()
        inode.synced = None
        self._unsynced.pop(inode, None)

    def sync_content(self) -> None:
        """Writes back content, and its time: names and other attributes may still be lost. Otherwise a file whose time
        was set before it was written would have that earlier time again, and the new content."""
        for inode in self._unsynced:
            inode.synced = None
            self._journal.keep(inode, "mtime_ns")
        self._unsynced.clear()

    @property
    def is_synced(self) -> bool:
        """True when a power cut would lose nothing."""
        return not self._journal and not self._unsynced

    def power_cut(self, chance: Random) -> None:
        """Cuts the power: removes what is lost, and closes everything."""
        self._journal.cut(chance)
        for inode in self._unsynced:
            tear(inode, self.page_bytes, chance)
            inode.synced = None
        self._unsynced.clear()
        self.changes += 1
        self._count()

    def _count(self) -> None:
        """Counts inode numbers and used space again."""
        seen: dict[int, Inode] = {}
        for inode in self.inodes():
            seen[inode.number] = inode
            inode.opens = 0
        self._next_number = max(seen) + 1
        self._free = [number for number in range(2, self._next_number) if number not in seen]
        self.used_bytes = sum(self.page_bytes * (1 + len(inode.pages)) for inode in seen.values())

    def inodes(self) -> Iterator[Inode]:
        """All inodes with a name; one with several names is yielded for each."""
        waiting = [self.root]
        while waiting:
            inode = waiting.pop()
            yield inode
            waiting += inode.entries.values()


def _is_beneath(directory: Inode, top: Inode) -> bool:
    """True when `directory` is `top` or beneath it."""
    above: Inode | None = directory
    while above is not None:
        if above is top:
            return True
        above = above.parent
    return False
