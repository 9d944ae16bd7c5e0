"""Reads names in an open directory with lstat(2), as `Entry` values: the same on both nodes, for core and drivers.

A mirror compares what both nodes read here, so there must be only one way to read it. All calls block.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable

from i2core.api.inode_flags import UNREAD
from i2core.api.records import UNREADABLE, Entry, Xattrs, xattr_digest
from i2core.api.tree import AttributesUnreadable
from i2core.posix.errnos import GONE, READ_FAILED
from i2core.posix.inode_flags import flags_at, read_flags
from i2core.posix.syscalls import has_xattrs

_new = tuple.__new__


def read_entries(
    dir_fd: int, names: Iterable[bytes], missing: Collection[int] = GONE, *, flags: bool = False
) -> list[Entry | None]:
    """What these names in an open directory are now, in order; None for nothing, and for an errno in `missing`. With
    `flags` their inode flags are read as well, for which each file and directory is opened.

    Extended attributes that this process may not see count as absent, and are not copied.

    Raises:
        AttributesUnreadable: (an `OSError`) another errno than those.
    """
    # Runs for every file of both trees at every mirror: plain locals, and tuple.__new__ instead of the slower class.
    lstat, symlink, of_type = os.lstat, stat.S_IFLNK, 0o170000
    found: list[Entry | None] = []
    add = found.append
    for name in names:
        try:
            status = lstat(name, dir_fd=dir_fd)
            target = os.readlink(name, dir_fd=dir_fd) if status.st_mode & of_type == symlink else b""
            inode_flags = flags_at(dir_fd, name, status) if flags else UNREAD
            digest = _digest_at(dir_fd, name) if has_xattrs(dir_fd, name) else 0
        except OSError as error:
            if error.errno not in missing:
                raise AttributesUnreadable(error.errno, error.strerror, name) from error
            add(None)
        else:
            add(entry_of(name, status, target, digest, inode_flags))
    return found


def entry_of(name: bytes, status: os.stat_result, target: bytes = b"", digest: int = 0, flags: int = UNREAD) -> Entry:
    """The `Entry` of an object, from lstat(2) or fstat(2)."""
    fields = (
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
        flags,
    )
    entry: Entry = _new(Entry, fields)
    return entry


def entry_here(dir_fd: int, *, flags: bool = False) -> Entry:
    """An open directory itself, with an empty name; with `flags` its inode flags, too."""
    digest = _digest_at(dir_fd, b".")
    return entry_of(b"", os.fstat(dir_fd), digest=digest, flags=read_flags(dir_fd) if flags else UNREAD)


def _digest_at(dir_fd: int, name: bytes) -> int:
    pairs = xattrs_at(dir_fd, name)
    return UNREADABLE if pairs is None else xattr_digest(pairs)


def xattrs_of_fd(fd: int) -> Xattrs:
    """The extended attributes of an open file, sorted; empty where the file system has none."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno in READ_FAILED:
            raise
        return ()
    return _values(fd, names) or ()


def xattrs_at(dir_fd: int, name: bytes) -> Xattrs | None:
    """The extended attributes of a name in an open directory, without following it; None: they are unreadable."""
    path = b"/proc/self/fd/%d/%s" % (dir_fd, name or b".")
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in READ_FAILED:
            raise
        return ()
    return _values(path, names)


def xattrs_behind(fd: int) -> Xattrs | None:
    """The extended attributes of an open object, also of one that is not open for reading (O_PATH), as a symlink; None:
    they are unreadable."""
    path = b"/proc/self/fd/%d" % fd
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno in READ_FAILED:
            raise
        return ()
    return _values(path, names, follow=True)


def _values(target: int | bytes, names: list[str], *, follow: bool = False) -> Xattrs | None:
    pairs = []
    for name in names:
        try:
            if isinstance(target, int):
                value = os.getxattr(target, name)
            else:
                value = os.getxattr(target, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.EACCES and name.startswith("user."):
                return None
            if error.errno in READ_FAILED:
                raise  # taken for none, they would be removed from the replica
            continue  # removed between the two calls, or not ours to read: then it is not ours to copy
        pairs.append((os.fsencode(name), value))
    return tuple(sorted(pairs))
