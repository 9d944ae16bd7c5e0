"""What lstat(2) tells of names in an open directory, as `Entry` values: the same on both nodes, for core and drivers.

A mirror compares what the two sides read here, so nothing may be read in two ways. All calls block.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable

from i2core.api.records import Entry, Xattrs, xattr_digest
from i2core.api.syscalls import has_xattrs

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""errno values that mean: the path does not lead to an object of the tree (any more)."""

_new = tuple.__new__


class AttributesUnreadable(OSError):
    """The attributes of a name cannot be read; `filename` is the name, as bytes."""


def read_entries(dir_fd: int, names: Iterable[bytes], missing: Collection[int] = GONE) -> list[Entry | None]:
    """What these names in an open directory are now, in order; None for nothing, and for an errno in `missing`.

    Extended attributes that cannot be read count as none: what is not ours to see is not ours to copy.

    Raises:
        AttributesUnreadable: (an `OSError`) another errno than those.
    """
    # Runs for every file of both trees at every mirror: plain locals, and tuple.__new__ instead of the slower class.
    lstat, new, symlink, of_type = os.stat, _new, stat.S_IFLNK, 0o170000
    found: list[Entry | None] = []
    add = found.append
    for name in names:
        try:
            s = lstat(name, dir_fd=dir_fd, follow_symlinks=False)
            mode = s.st_mode
            target = os.readlink(name, dir_fd=dir_fd) if mode & of_type == symlink else b""
        except OSError as error:
            if error.errno not in missing:
                raise AttributesUnreadable(error.errno, error.strerror, name) from error
            add(None)
            continue
        digest = xattr_digest(xattrs_at(dir_fd, name)) if has_xattrs(dir_fd, name) else 0
        add(
            new(
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
        )
    return found


def entry_of(name: bytes, status: os.stat_result, *, digest: int = 0) -> Entry:
    """The `Entry` of an object that is open, from fstat(2)."""
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
        b"",
        digest,
    )


def entry_here(dir_fd: int) -> Entry:
    """An open directory itself, with an empty name."""
    return entry_of(b"", os.fstat(dir_fd), digest=xattr_digest(xattrs_at(dir_fd, b".")))


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
