"""Reads and opens objects that are open by their place alone (O_PATH): so whatever has their name meanwhile, the object
itself is read, and no device or FIFO is ever opened."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from i2_sink_fs.attributes import NoRoomForAttribute
from i2_sink_fs.kept import Kept
from i2_sink_fs.paths import proc_path
from i2core.api.inode_flags import UNREAD
from i2core.api.present import Facts
from i2core.api.records import Meta
from i2core.posix.entries import xattrs_behind
from i2core.posix.errnos import GONE
from i2core.posix.inode_flags import flags_behind
from i2core.posix.mounts import mount_of
from i2core.posix.opening import CONTENT, OBJECT

_READ = CONTENT & ~os.O_NOFOLLOW  # by way of /proc/self/fd, which leads to the object itself
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Spot(NamedTuple):
    """A name in an open directory."""

    fd: int
    name: bytes


class Volume(NamedTuple):
    """A file system as it is mounted at one place: rename(2) reaches no other, not even the same one that is mounted
    twice."""

    device: int
    mount: int

    @classmethod
    def of(cls, fd: int) -> Volume:
        """That of an open object."""
        return cls(os.fstat(fd).st_dev, mount_of(fd))


def opened(spot: Spot) -> int | None:
    """The object with the name, by its place alone; None: nothing has the name."""
    try:
        return os.open(spot.name, OBJECT, dir_fd=spot.fd)
    except OSError as error:
        if error.errno in (*GONE, errno.ENAMETOOLONG):
            return None
        raise


def facts(fd: int, kept: Kept) -> Facts:
    """What an open object is like.

    Raises:
        OSError: as `meta_of`.
    """
    status = os.fstat(fd)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    target = os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else b""
    meta = meta_of(fd, status, flags=kept.flags.on)
    return Facts(kept.identity(fd, status), meta, size, status.st_nlink, target, status.st_rdev)


def meta_of(fd: int, status: os.stat_result, *, flags: bool) -> Meta:
    """All attributes of an open object, which is now `status`; its inode flags are read with `flags`.

    Raises:
        OSError: it cannot be read. EACCES: it has attributes that this process may not see; without them, what is known
            of the object would be wrong.
    """
    xattrs = xattrs_behind(fd)
    if xattrs is None:
        raise PermissionError(errno.EACCES, "its extended attributes cannot be read", os.readlink(proc_path(fd)))
    return Meta(
        status.st_mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        xattrs,
        flags_behind(fd) if flags else UNREAD,
    )


def set_meta(fd: int, meta: Meta, kept: Kept) -> None:
    """Sets all attributes of an open object, in the order of `attributes`. What this process or file system cannot set
    is said once and left out.

    Raises:
        OSError: they cannot be set. E2BIG: the file system has no room for them.
    """
    target, found = proc_path(fd), os.fstat(fd)
    where = os.fsdecode(os.readlink(target))
    try:
        kept.flags.settle(target, found, meta.flags, where)
        kept.attributes.settle(target, found, meta, where, fresh=False)
    except NoRoomForAttribute as error:
        raise OSError(errno.E2BIG, str(error), where) from error
    finally:
        kept.flags.restore()


def open_content(fd: int, *, write: bool = False) -> int:
    """A regular file for reading, or for writing.

    Raises:
        OSError: it cannot be opened. EINVAL: it is no regular file.
    """
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "no regular file", os.readlink(proc_path(fd)))
    if not write and not os.geteuid():
        try:
            return os.open(proc_path(fd), _READ | os.O_NOATIME)
        except PermissionError:  # root lacks CAP_FOWNER, as in many containers
            pass
    return os.open(proc_path(fd), _WRITE if write else _READ)
