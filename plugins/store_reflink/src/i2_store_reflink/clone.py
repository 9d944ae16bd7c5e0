"""Clones a directory with all beneath it: contents by FICLONE, which shares the blocks, everything else by copying.

A few descriptors at a time, however deep the tree is. Memory grows with the number of directories, and of files with
several names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable

from i2core.api.records import Xattrs
from i2core.posix.entries import xattrs_at, xattrs_of_fd
from i2core.posix.opening import CONTENT, DIRECTORY, NEW_FILE, READABLE
from i2core.posix.syscalls import open_beneath

_FICLONE = 0x40049409
_NOATIME = os.O_NOATIME if os.geteuid() == 0 else 0


class Cloner:
    """Clones one tree, once."""

    def __init__(self, source: int, target: int, check: Callable[[], None]) -> None:
        """`source`: an open directory; `target`: an empty one on the same file system. `check` is called from time to
        time, and may raise."""
        self._source, self._target, self._check = source, target, check
        self._first: dict[tuple[int, int], bytes] = {}
        """The path of the clone of an object with several names."""
        self._directories: list[bytes] = [b""]

    def clone(self) -> None:
        """Clones everything; what is broken off is left where it is.

        Raises:
            OSError: something cannot be read or written; its path is the error's `filename`. EXDEV: another file system
                is mounted there. EOPNOTSUPP: this one cannot clone.
        """
        for path in self._directories:  # grows as it goes
            self._check()
            self._clone_names(path)
        for path in reversed(self._directories):  # now, for a directory's time is that of the last name in it
            self._copy_directory(path)

    def _clone_names(self, path: bytes) -> None:
        source = open_beneath(self._source, path or b".", READABLE)
        try:
            target = open_beneath(self._target, path or b".", DIRECTORY)
            try:
                for name in os.listdir(b"/proc/self/fd/%d" % source):
                    inner = path + b"/" + name if path else name
                    try:
                        self._clone_object(source, target, name, inner)
                    except OSError as error:
                        raise OSError(error.errno, error.strerror, inner) from error
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _clone_object(self, source: int, target: int, name: bytes, path: bytes) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFDIR:
            os.mkdir(name, 0o700, dir_fd=target)
            self._directories.append(path)
            return
        if status.st_nlink > 1:
            first = self._first.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                above, _, last = first.rpartition(b"/")
                directory = open_beneath(self._target, above or b".", DIRECTORY)
                try:
                    os.link(last, name, src_dir_fd=directory, dst_dir_fd=target, follow_symlinks=False)
                finally:
                    os.close(directory)
                return
        if kind == stat.S_IFREG:
            _clone_file(source, target, name)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, kind | 0o600, status.st_rdev, dir_fd=target)
        _copy_unopened(source, target, name, status)

    def _copy_directory(self, path: bytes) -> None:
        source = open_beneath(self._source, path or b".", READABLE)
        try:
            target = open_beneath(self._target, path or b".", READABLE)
            try:
                _copy_attributes(source, target)
            finally:
                os.close(target)
        finally:
            os.close(source)


def _clone_file(source: int, target: int, name: bytes) -> None:
    old = os.open(name, CONTENT | _NOATIME, dir_fd=source)
    try:
        new = os.open(name, NEW_FILE, 0o600, dir_fd=target)
        try:
            if os.fstat(old).st_size:
                fcntl.ioctl(new, _FICLONE, old)
            _copy_attributes(old, new)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_attributes(source: int, target: int) -> None:
    """Owner, extended attributes, mode, time: in this order, since each may change the following one."""
    status = os.fstat(source)
    found = os.fstat(target)
    if (found.st_uid, found.st_gid) != (status.st_uid, status.st_gid):
        os.chown(target, status.st_uid, status.st_gid)
    wanted = xattrs_of_fd(source)
    _set_xattrs(target, wanted, _names(target))
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_unopened(source: int, target: int, name: bytes, status: os.stat_result) -> None:
    """The same for what must not be opened: a symlink, a FIFO, a device."""
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    path = b"/proc/self/fd/%d/%s" % (target, name)
    for key, value in xattrs_at(source, name) or ():
        os.setxattr(path, key, value, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(path, stat.S_IMODE(status.st_mode))
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _names(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return []


def _set_xattrs(target: int, wanted: Xattrs, present: list[str]) -> None:
    """Exactly these: a new object may have got an access control list from its directory."""
    for key, value in wanted:
        os.setxattr(target, key, value)
    for name in set(map(os.fsencode, present)) - {key for key, _ in wanted}:
        os.removexattr(target, name)
