"""A tree in memory: the contract of `Tree` in the simplest form, on the same disk to which a `MemorySink` writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import islice

from i2core.api import Entry, Xattrs
from i2core.api.inode_flags import UNREAD
from i2core.api.tree import OpenDirectory, OpenFile, RootGone, Tree
from i2core.testing.memory_disk import MemoryDisk, Node


class MemoryFile(OpenFile):
    """A file of a `MemoryTree`; it has no holes."""

    def __init__(self, disk: MemoryDisk, node: Node, name: bytes) -> None:
        self._disk = disk
        self._node = node
        self._name = name
        self._opened = self.entry()

    def read(self, start: int, length: int) -> memoryview:
        return memoryview(bytes(self._node.data[start : start + length]))

    def next_data(self, at: int) -> int | None:
        return at if at < len(self._node.data) else None

    def next_hole(self, at: int) -> int | None:
        size = len(self._node.data)
        return size if at < size else None

    def entry(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._node.entry(self._name, self._disk.links(), flags=False)._replace(xattrs=xattrs, flags=flags)

    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._opened._replace(xattrs=xattrs, flags=flags)

    def xattrs(self) -> Xattrs:
        return tuple(sorted(self._node.meta.xattrs or ()))

    def flags(self) -> int:
        return self._node.meta.flags

    def kernel_flags(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""


class MemoryDirectory(OpenDirectory):
    """A directory of a `MemoryTree`."""

    def __init__(self, disk: MemoryDisk, node: Node, *, flags: bool, only: bytes | None = None) -> None:
        self._disk = disk
        self._node = node
        self._flags = flags
        self._only = only

    def here(self) -> Entry:
        return self._node.entry(b"", self._disk.links(), flags=self._flags)

    def entry(self, name: bytes) -> Entry | None:
        node = self._node.entries.get(name)
        return None if node is None else node.entry(name, self._disk.links(), flags=self._flags)

    def names(self, most: int) -> Iterator[list[bytes]]:
        names = iter([name for name in list(self._node.entries) if self._only in (None, name)])
        while part := list(islice(names, most)):
            yield part

    def xattrs(self, name: bytes) -> Xattrs | None:
        node = self._node.entries.get(name) if name else self._node
        return () if node is None else tuple(sorted(node.meta.xattrs or ()))

    def open(self, name: bytes) -> OpenFile:
        node = self._node.entries.get(name)
        if node is None or not node.is_file:
            raise _error(errno.ENOENT, name)
        return MemoryFile(self._disk, node, name)

    def kernel_flags(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""


class MemoryTree(Tree):
    """The root directory `path` of a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, path: bytes, only: bytes | None = None, *, flags: bool = False) -> None:
        self.path = path
        self.only = only
        self.flags = flags
        self._disk = disk
        self._top = disk.directory(path)

    def directory(self, path: bytes) -> OpenDirectory:
        if not self.is_present():
            raise RootGone(self)
        node = self._top
        for part in path.split(b"/") if path else ():
            if not node.is_dir:
                raise _error(errno.ENOTDIR, path)
            below = node.entries.get(part)
            if below is None:
                raise _error(errno.ENOENT, path)
            node = below
        if not node.is_dir:
            raise _error(errno.ENOTDIR, path)
        return MemoryDirectory(self._disk, node, flags=self.flags, only=None if path else self.only)

    def lookup(self, path: bytes) -> Entry | None:
        if not path:
            return self.directory(b"").here() if self.is_present() else None
        above, _, name = path.rpartition(b"/")
        try:
            return self.directory(above).entry(name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_present(self) -> bool:
        return self._disk.roots.get(self.path) is self._top

    def close(self) -> None:
        """Nothing is open."""


def _error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)
