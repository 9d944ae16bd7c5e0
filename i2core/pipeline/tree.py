"""Reading a source tree: every path is resolved beneath its root, and a symlink is data, never a way.

All calls block and belong into worker threads. Directories are opened with openat2(2) and RESOLVE_BENEATH |
RESOLVE_NO_SYMLINKS, so a directory that an application swaps for a symlink while we look can lead nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from i2core.api import RESERVED_PREFIX, Entry
from i2core.api.entries import GONE, entry_here, read_entries
from i2core.api.syscalls import open_beneath

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


class SourceTree:
    """One source directory, open for reading. `only` limits a root that is a single file to that name."""

    def __init__(self, path: bytes, only: bytes | None = None) -> None:
        self.path = path
        self.only = only
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self._identity = (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Closes the root; further calls fail."""
        os.close(self._fd)

    def is_present(self) -> bool:
        """False when the root's path no longer names the directory that was opened (deleted, moved, unmounted)."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def open_dir(self, path: bytes) -> int:
        """A descriptor of the directory at `path`; the caller closes it.

        Raises:
            OSError: with an errno in `GONE` when there is no such directory beneath the root.
        """
        if not path:
            return os.open(b".", _DIR_FLAGS, dir_fd=self._fd)
        return open_beneath(self._fd, path, _DIR_FLAGS)

    @contextmanager
    def directory(self, path: bytes) -> Iterator[int]:
        """`open_dir` that closes."""
        fd = self.open_dir(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def here(self, dir_fd: int) -> Entry:
        """An open directory itself, with an empty name."""
        return entry_here(dir_fd)

    def entry(self, dir_fd: int, name: bytes) -> Entry | None:
        """What `name` in an open directory is now; None when there is nothing."""
        return read_entries(dir_fd, (name,))[0]

    def lookup(self, path: bytes) -> Entry | None:
        """What is at `path` now; None when nothing is. The root's own entry for ``b""``."""
        if not path:
            return entry_here(self._fd) if self.is_present() else None
        parent, _, name = path.rpartition(b"/")
        try:
            with self.directory(parent) as fd:
                return self.entry(fd, name)
        except OSError as error:
            if error.errno in GONE:
                return None
            raise

    def listing(self, dir_fd: int, *, at_root: bool, most: int) -> Iterator[list[Entry]]:
        """The entries of an open directory, up to `most` at a time, in the file system's order. Ours are left out."""
        only = self.only if at_root else None
        # By way of /proc the names come as bytes.
        with os.scandir(b"/proc/self/fd/%d" % dir_fd) as scan:
            while part := [item.name for item in islice(scan, most)]:
                names = [name for name in part if not name.startswith(RESERVED_PREFIX)]
                if only is not None:
                    names = [name for name in names if name == only]
                yield [entry for entry in read_entries(dir_fd, names) if entry is not None]

    def entries(self, dir_fd: int, *, at_root: bool) -> Iterator[Entry]:
        """The entries of an open directory, each read when it is asked for."""
        for part in self.listing(dir_fd, at_root=at_root, most=1):
            yield from part
