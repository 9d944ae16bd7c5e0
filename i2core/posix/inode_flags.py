"""Reads inode flags and project ids, as the number that `i2core.api.inode_flags` describes. All calls block."""

from __future__ import annotations

import os

from i2core.api.inode_flags import UNREAD, may_have_flags, packed
from i2core.posix.opening import CONTENT
from i2core.posix.syscalls import inode_flags, project_id


def read_flags(fd: int) -> int:
    """The flags of an open regular file or directory; 0 where the file system has none."""
    return packed(inode_flags(fd), project_id(fd))


def flags_at(dir_fd: int, name: bytes, status: os.stat_result) -> int:
    """The flags of a name in an open directory, for which lstat has just returned `status`. A symlink is not followed.

    Returns: `UNREAD` when this process may not open it.

    Raises:
        OSError: it is gone, or cannot be opened for the moment.
    """
    if not may_have_flags(status.st_mode):
        return UNREAD
    try:
        fd = os.open(name, CONTENT, dir_fd=dir_fd)
    except PermissionError:
        return UNREAD
    try:
        now = os.fstat(fd)
        # The object may have been replaced between the two calls, perhaps by a device: only the same object is asked.
        same = (now.st_dev, now.st_ino) == (status.st_dev, status.st_ino)
        return read_flags(fd) if same else UNREAD
    finally:
        os.close(fd)


def flags_behind(fd: int) -> int:
    """The flags of an open object, also of one that is not open for reading (O_PATH).

    Returns: `UNREAD` when it can have none, or this process may not open it.

    Raises:
        OSError: it cannot be opened for the moment.
    """
    if not may_have_flags(os.fstat(fd).st_mode):
        return UNREAD
    try:
        readable = os.open(b"/proc/self/fd/%d" % fd, CONTENT & ~os.O_NOFOLLOW)
    except PermissionError:
        return UNREAD
    try:
        return read_flags(readable)
    finally:
        os.close(readable)
