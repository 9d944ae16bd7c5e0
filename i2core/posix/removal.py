"""Removes an object with all beneath it: no recursion, no symlink followed, three directory fds at most.

A tree of any depth is removed by lifting: the sub-directories of each sub-directory are renamed up into the top one, so
nothing is ever more than two levels below an open fd. After a crash everything that is left is inside the top
directory, where the repetition finds it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Protocol

from i2core.posix.errnos import NOT_EMPTY
from i2core.posix.opening import DIRECTORY, READABLE
from i2core.posix.syscalls import open_beneath


class Flags(Protocol):
    """Who can take inode flags off an object for a while."""

    def lifted(self, dir_fd: int, name: bytes) -> AbstractContextManager[bool]:
        """Within the block what pins the name, or the directory, is taken off; True if anything was."""


_LIFTED = b".i2-gone-%d"
"""Free names within a directory that is being removed: one that is taken is passed over."""


def remove(dir_fd: int, name: bytes, flags: Flags | None = None) -> bool:
    """Removes `name` in the directory, whatever it is; nothing there is fine. With `flags` also what is immutable or
    append-only.

    Returns: True when it was a directory.

    Raises:
        OSError: EBUSY for a mount point, EPERM for an immutable object, and the like; a part may be gone.
    """
    if not _unlink(dir_fd, name, flags):
        return False
    if remove_empty(dir_fd, name, flags):
        return True
    top = _open(dir_fd, name)
    try:
        clear(top, flags)
    finally:
        os.close(top)
    remove_empty(dir_fd, name, flags, kept=())
    return True


def _lifting(step: Callable[[], None], flags: Flags | None, dir_fd: int, name: bytes) -> None:
    """Takes the step; once more without what pins the name, or the directory."""
    try:
        step()
    except PermissionError:
        if flags is None:
            raise
        with flags.lifted(dir_fd, name) as any_lifted:
            if not any_lifted:
                raise
            step()


def _unlink(dir_fd: int, name: bytes, flags: Flags | None) -> bool:
    """Removes a non-directory; True when `name` is a directory and still there."""
    try:
        _lifting(lambda: os.unlink(name, dir_fd=dir_fd), flags, dir_fd, name)
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
        os.close(os.open(name, DIRECTORY, dir_fd=dir_fd))
    except OSError:
        return False
    return True


def remove_empty(dir_fd: int, name: bytes, flags: Flags | None = None, kept: tuple[int, ...] = NOT_EMPTY) -> bool:
    """Removes a directory that is empty, or gone already; False for an errno in `kept`: it is not empty."""
    try:
        _lifting(lambda: os.rmdir(name, dir_fd=dir_fd), flags, dir_fd, name)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in kept:
            raise
        return False
    return True


def clear(top: int, flags: Flags | None = None, spared: Collection[bytes] = ()) -> None:
    """Empties the open directory: each directory in it is emptied of files and of directories, then removed. What has
    a name of `spared` in it stays."""
    serial = 0
    while names := [name for name in os.listdir(b"/proc/self/fd/%d" % top) if name not in spared]:
        for name in names:
            if not _unlink(top, name, flags) or remove_empty(top, name, flags):
                continue
            inner = _open(top, name)
            try:
                for deeper in os.listdir(b"/proc/self/fd/%d" % inner):
                    if _unlink(inner, deeper, flags) and not remove_empty(inner, deeper, flags):
                        if os.geteuid():
                            os.close(_open(inner, deeper))  # a directory must be writable to get another ".."
                        serial = _lift(inner, deeper, top, serial, flags)
            finally:
                os.close(inner)
            remove_empty(top, name, flags, kept=())


def prune(dir_fd: int, name: bytes) -> None:
    """Removes the directory `name`, which is the caller's own, and those beneath it, except where there are files."""
    found = [name]
    for path in found:  # grows as it goes
        try:
            fd = open_beneath(dir_fd, path, READABLE)
        except FileNotFoundError:
            continue
        try:
            inner = os.listdir(b"/proc/self/fd/%d" % fd)
            found += [path + b"/" + each for each in inner if _is_directory(fd, each)]
        finally:
            os.close(fd)
    for path in reversed(found):
        above, _, last = path.rpartition(b"/")
        fd = open_beneath(dir_fd, above or b".", DIRECTORY)
        try:
            remove_empty(fd, last)
        finally:
            os.close(fd)


def _open(dir_fd: int, name: bytes) -> int:
    """A directory that is to be emptied; made writable when we are not root, and it is ours."""
    fd = os.open(name, DIRECTORY, dir_fd=dir_fd)
    try:
        if os.geteuid() and os.fstat(fd).st_uid == os.geteuid():
            os.chmod(b"/proc/self/fd/%d" % fd, 0o700)
        return os.open(b".", READABLE, dir_fd=fd)
    finally:
        os.close(fd)


def _lift(inner: int, name: bytes, top: int, serial: int, flags: Flags | None) -> int:
    """Renames a directory into the top one under the next free name; returns the serial after it."""
    while True:

        def rename(new: bytes = _LIFTED % serial) -> None:
            os.rename(name, new, src_dir_fd=inner, dst_dir_fd=top)

        try:
            _lifting(rename, flags, inner, name)
            return serial + 1
        except OSError as error:
            if error.errno not in (*NOT_EMPTY, errno.ENOTDIR):
                raise
            serial += 1
