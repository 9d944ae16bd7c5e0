"""Reads a regular file of this machine. All calls block."""

from __future__ import annotations

import errno
import os
import stat

from i2core.api.content import Content
from i2core.api.inode_flags import UNREAD
from i2core.api.records import Entry, Xattrs
from i2core.api.tree import OpenFile
from i2core.posix.entries import entry_of, xattrs_of_fd
from i2core.posix.errnos import UNFIT
from i2core.posix.inode_flags import read_flags
from i2core.posix.opening import CONTENT
from i2core.posix.syscalls import inode_flags

# Root may usually read without touching atime; others may only do so for their own files, and would get EPERM.
_NOATIME = os.O_NOATIME if os.geteuid() == 0 else 0


class LocalContent(Content):
    """The content behind a descriptor, which stays the caller's."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, start: int, length: int) -> memoryview:
        data = os.pread(self._fd, length, start)
        while 0 < len(data) < length:
            more = os.pread(self._fd, length - len(data), start + len(data))
            if not more:
                break
            data += more
        return memoryview(data)

    def next_data(self, at: int) -> int | None:
        return self._seek(at, os.SEEK_DATA)

    def next_hole(self, at: int) -> int | None:
        return self._seek(at, os.SEEK_HOLE)

    def _seek(self, at: int, whence: int) -> int | None:
        """Everything is data where the file system does not support the search."""
        try:
            return os.lseek(self._fd, at, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:  # `at` is at or after the end of the file, or no data follows
                return None
            # Any other error is a failed read. If it counted as "not supported", a sparse file would be sent without
            # its holes, and no compare would find that, as zeros and holes compare equal.
            if error.errno not in UNFIT:
                raise
        size = os.fstat(self._fd).st_size
        if at >= size:
            return None
        return at if whence == os.SEEK_DATA else size


class LocalFile(LocalContent, OpenFile):
    """A regular file of a `LocalTree`."""

    __slots__ = ("_name", "_status")

    def __init__(self, fd: int, name: bytes, status: os.stat_result) -> None:
        """The descriptor is this object's from now on; `status` is what fstat has just returned for it."""
        self._fd = fd
        self._name = name
        self._status = status

    def entry(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return entry_of(self._name, os.fstat(self._fd), b"", xattrs, flags)

    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return entry_of(self._name, self._status, b"", xattrs, flags)

    def xattrs(self) -> Xattrs:
        return xattrs_of_fd(self._fd)

    def flags(self) -> int:
        return read_flags(self._fd)

    def kernel_flags(self) -> int:
        return inode_flags(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_file(dir_fd: int, name: bytes) -> LocalFile:
    """Opens a regular file in an open directory for reading. Never follows a symlink, never blocks on a FIFO.

    Raises:
        OSError: it cannot be opened.
        FileNotFoundError: there is no regular file of that name (any more).
    """
    try:
        fd = os.open(name, CONTENT | _NOATIME, dir_fd=dir_fd)
    except PermissionError:  # another owner's file, and root lacks CAP_FOWNER, as in many containers
        fd = os.open(name, CONTENT, dir_fd=dir_fd)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "no longer a regular file", name)
    return LocalFile(fd, name, status)
