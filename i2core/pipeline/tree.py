"""Reading a source tree: every path is resolved beneath its root, and a symlink is data, never a way.

All calls block and belong into worker threads. Directories are opened with openat2(2) and RESOLVE_BENEATH |
RESOLVE_NO_SYMLINKS, so a directory that an application swaps for a symlink while we look can lead nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from i2core.api import RESERVED_PREFIX, Entry, Xattrs, xattr_digest
from i2core.api.syscalls import has_xattrs, open_beneath

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW

_new = tuple.__new__

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""errno values that mean: the path does not lead to an object of the tree (any more)."""


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
        return entry_of(b"", os.fstat(dir_fd), digest=_digest_at(dir_fd, b"."))

    def entry(self, dir_fd: int, name: bytes) -> Entry | None:
        """What `name` in an open directory is now; None when there is nothing."""
        # Runs for every file at every listing: one function, and tuple.__new__ instead of the slower class.
        try:
            s = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            mode = s.st_mode
            target = os.readlink(name, dir_fd=dir_fd) if stat.S_ISLNK(mode) else b""
            digest = _digest_at(dir_fd, name) if _may_have_xattrs(dir_fd, name) else 0
        except OSError as error:
            if error.errno in GONE:
                return None
            raise
        return _new(
            Entry,
            (
                name,
                mode,
                s.st_uid,
                s.st_gid,
                s.st_size,
                s.st_mtime_ns,
                s.st_nlink,
                s.st_ino,
                s.st_dev,
                s.st_rdev,
                s.st_ctime_ns,
                s.st_blocks,
                target,
                digest,
            ),
        )

    def lookup(self, path: bytes) -> Entry | None:
        """What is at `path` now; None when nothing is. The root's own entry for ``b""``."""
        if not path:
            return self.here(self._fd) if self.is_present() else None
        parent, _, name = path.rpartition(b"/")
        try:
            with self.directory(parent) as fd:
                return self.entry(fd, name)
        except OSError as error:
            if error.errno in GONE:
                return None
            raise

    def entries(self, dir_fd: int, *, at_root: bool) -> Iterator[Entry]:
        """The entries of an open directory, in the file system's order, as a stream. Ours are left out."""
        only = self.only if at_root else None
        # By way of /proc the names come as bytes.
        with os.scandir(b"/proc/self/fd/%d" % dir_fd) as scan:
            for item in scan:
                name = item.name
                if name.startswith(RESERVED_PREFIX) or (only is not None and name != only):
                    continue
                entry = self.entry(dir_fd, name)
                if entry is not None:
                    yield entry


def entry_of(name: bytes, status: os.stat_result, *, target: bytes = b"", digest: int = 0) -> Entry:
    """An `Entry` from an lstat result."""
    return Entry(
        name,
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_nlink,
        status.st_ino,
        status.st_dev,
        status.st_rdev,
        status.st_ctime_ns,
        status.st_blocks,
        target,
        digest,
    )


def _may_have_xattrs(dir_fd: int, name: bytes) -> bool:
    try:
        return has_xattrs(dir_fd, name)
    except OSError:
        return False  # gone, or not ours to see: then it is not ours to copy


def _digest_at(dir_fd: int, name: bytes) -> int:
    return xattr_digest(xattrs_at(dir_fd, name))


def _values(target: int | bytes, names: list[str]) -> list[tuple[bytes, bytes]]:
    pairs = []
    for name in names:
        try:
            if isinstance(target, int):
                value = os.getxattr(target, name)
            else:
                value = os.getxattr(target, name, follow_symlinks=False)
        except OSError:
            continue  # removed between the two calls, or not ours to read: then it is not ours to copy
        pairs.append((os.fsencode(name), value))
    return pairs


def xattrs_of_fd(fd: int) -> Xattrs:
    """The extended attributes of an open file, sorted; empty where the file system has none."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return ()
    return tuple(sorted(_values(fd, names))) if names else ()


def xattrs_at(dir_fd: int, name: bytes) -> Xattrs:
    """The extended attributes of a name in an open directory, without following it."""
    path = b"/proc/self/fd/%d/%s" % (dir_fd, name or b".")
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return ()
    return tuple(sorted(_values(path, names))) if names else ()
