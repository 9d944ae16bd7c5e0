"""Removes an object with all beneath it: no recursion, no symlink followed, three directory fds at most.

A tree of any depth is taken down by lifting: each sub-directory's own sub-directories are renamed up into the top one,
so nothing is ever more than two levels below an open fd. A crash leaves all that is left inside the top directory,
where the repeat finds it.
"""

from __future__ import annotations

import errno
import os

from i2_sink_fs.paths import proc_path
from i2core.api import RESERVED_PREFIX

_LISTABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIFTED = RESERVED_PREFIX + b"gone-%d"
_KEPT = (errno.ENOTEMPTY, errno.EEXIST)


def remove(dir_fd: int, name: bytes) -> bool:
    """Removes `name` in the directory, whatever it is; nothing there is fine.

    Returns: True when it was a directory.

    Raises:
        OSError: EBUSY for a mount point, EPERM for an immutable object, and the like; a part may be gone.
    """
    if not _unlink(dir_fd, name):
        return False
    if _rmdir(dir_fd, name):
        return True
    top = _open(dir_fd, name)
    try:
        clear(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dir_fd)
    return True


def _unlink(dir_fd: int, name: bytes) -> bool:
    """Removes a non-directory; True when `name` is a directory and still there."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        return True
    except PermissionError:
        if _is_directory(dir_fd, name):
            return True
        raise
    return False


def _is_directory(dir_fd: int, name: bytes) -> bool:
    try:
        os.close(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd))
    except OSError:
        return False
    return True


def _rmdir(dir_fd: int, name: bytes) -> bool:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in _KEPT:
            raise
        return False
    return True


def clear(top: int) -> None:
    """Empties the open directory: each directory in it is emptied of files and of directories, then removed."""
    serial = 0
    while names := os.listdir(proc_path(top)):
        for name in names:
            if not _unlink(top, name) or _rmdir(top, name):
                continue
            inner = _open(top, name)
            try:
                for deeper in os.listdir(proc_path(inner)):
                    if _unlink(inner, deeper) and not _rmdir(inner, deeper):
                        if os.geteuid():
                            os.close(_open(inner, deeper))  # a directory must be writable to get another ".."
                        serial = _lift(inner, deeper, top, serial)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _open(dir_fd: int, name: bytes) -> int:
    """A directory that is to be emptied; made writable when we are not root, and it is ours."""
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if os.geteuid() and os.fstat(fd).st_uid == os.geteuid():
            os.chmod(proc_path(fd), 0o700)
        return os.open(b".", _LISTABLE, dir_fd=fd)
    finally:
        os.close(fd)


def _lift(inner: int, name: bytes, top: int, serial: int) -> int:
    """Renames a directory into the top one under the next free name; returns the serial behind it."""
    while True:
        try:
            os.rename(name, _LIFTED % serial, src_dir_fd=inner, dst_dir_fd=top)
            return serial + 1
        except OSError as error:
            if error.errno not in (*_KEPT, errno.ENOTDIR):
                raise
            serial += 1
