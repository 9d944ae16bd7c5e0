"""Reads a directory of this machine as a `Tree`. Every path is resolved beneath its root; a symlink is read as data and
never followed.

All calls block and belong into worker threads. Directories are opened with openat2(2) and RESOLVE_BENEATH |
RESOLVE_NO_SYMLINKS. So if an application replaces a directory by a symlink in the middle of a read, nothing outside of
the root is read.

A root is open while there is something to read. At rest it is closed, since a file system with an open directory cannot
be unmounted. The next read opens the path again, and checks that it is the same directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice

from i2core.api import Entry, Xattrs
from i2core.api.tree import OpenDirectory, OpenFile, RootGone, Tree
from i2core.posix.entries import entry_here, read_entries, xattrs_at
from i2core.posix.errnos import GONE
from i2core.posix.file import open_file
from i2core.posix.identity import Standing, identity
from i2core.posix.opening import READABLE
from i2core.posix.syscalls import inode_flags, open_beneath
from i2core.posix.trail import LONG_BYTES, Trails


class LocalDirectory(OpenDirectory):
    """A directory of a `LocalTree`."""

    __slots__ = ("_fd", "_flags", "_only")

    def __init__(self, fd: int, *, flags: bool, only: bytes | None = None) -> None:
        """The descriptor is this object's from now on. `only` limits what is listed."""
        self._fd = fd
        self._flags = flags
        self._only = only

    def here(self) -> Entry:
        return entry_here(self._fd, flags=self._flags)

    def entry(self, name: bytes) -> Entry | None:
        return self.look((name,))[0]

    def look(self, names: Sequence[bytes]) -> list[Entry | None]:
        return read_entries(self._fd, names, flags=self._flags)

    def names(self, most: int) -> Iterator[list[bytes]]:
        """In the file system's order."""
        only = self._only
        # For a path in /proc, names are returned as bytes; for a descriptor they would be text.
        with os.scandir(b"/proc/self/fd/%d" % self._fd) as scan:
            while names := [item.name for item in islice(scan, most)]:
                yield names if only is None else [name for name in names if name == only]

    def xattrs(self, name: bytes) -> Xattrs | None:
        return xattrs_at(self._fd, name)

    def open(self, name: bytes) -> OpenFile:
        return open_file(self._fd, name)

    def kernel_flags(self) -> int:
        return inode_flags(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LocalTree(Tree):
    """A directory of this machine, open for reading."""

    def __init__(self, path: bytes, only: bytes | None = None, *, flags: bool = False) -> None:
        self.path = path
        self.only = only
        self.flags = flags
        self._trails = Trails()
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        """-1 at rest."""
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)
        self.device = status.st_dev
        try:
            self.standing = Standing.of(self._fd)
            """Distinguishes it from any other directory, also after a reboot."""
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def rest(self) -> None:
        """Closes the root until the next call."""
        # Without a time of birth, another directory could get the same inode number while the root is closed.
        if self.standing.here.born_ns:
            self.close()

    def is_present(self) -> bool:
        """False when it was deleted, moved or unmounted."""
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) != self._identity:
                return False
            if self._fd < 0:
                os.close(self._open_again())
        except RootGone:
            return False
        except OSError as error:
            return error.errno not in GONE  # any other error does not mean that it was removed
        return True

    def _root(self) -> int:
        if self._fd < 0:
            try:
                self._fd = self._open_again()
            except OSError as error:
                if error.errno in GONE:
                    raise RootGone(self) from error
                raise
        return self._fd

    def _open_again(self) -> int:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            is_same = os.fstat(fd).st_dev == self.device and identity(fd).is_same(self.standing.here)
        except BaseException:
            os.close(fd)
            raise
        if not is_same:
            os.close(fd)
            raise RootGone(self)
        return fd

    def directory(self, path: bytes) -> OpenDirectory:
        if not path:
            fd = os.open(b".", READABLE, dir_fd=self._root())
            return LocalDirectory(fd, flags=self.flags, only=self.only)
        return LocalDirectory(self._open_beneath(path), flags=self.flags)

    def _open_beneath(self, path: bytes) -> int:
        trail = self._trails.current() if len(path) >= LONG_BYTES else None
        if trail is None:
            return open_beneath(self._root(), path, READABLE)
        try:
            return trail.open(self._root(), path)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        trail.close()  # its descriptors only save time, so they are given up first
        return open_beneath(self._root(), path, READABLE)

    def lookup(self, path: bytes) -> Entry | None:
        if not path:
            return entry_here(self._root(), flags=self.flags) if self.is_present() else None
        parent, _, name = path.rpartition(b"/")
        try:
            with self.directory(parent) as directory:
                return directory.entry(name)
        except OSError as error:
            if error.errno in GONE:
                return None
            raise

    def job(self) -> AbstractContextManager[None]:
        """Deep directories are opened from those above them, which stay open meanwhile."""
        return self._trails.job()
