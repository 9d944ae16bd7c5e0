"""One watched file system: from a directory's handle to its parent and name, as they are now.

No descriptor is held from one batch to the next, so that the file system can be unmounted at any time.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from i2_capture_fanotify.handle import handle_of, open_handle
from i2_capture_fanotify.mounts import Mount
from i2core.api import Code, StopRule

_TRIES = 16


class Link(NamedTuple):
    """Where a directory hangs: the handle of its parent, and its name there. At the top of what can be seen of the
    file system `parent` is None."""

    parent: bytes | None
    name: bytes


TOP = Link(None, b"")


class Unsettled(Exception):
    """A directory's place cannot be told at the moment."""


class FileSystem:
    """Finds directories of one file system by handle, through its mounts."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        """A mount of the whole file system shows every directory. Without one, a directory is looked for in all of
        `mounts`, those that show most first."""
        widest_first = sorted(mounts, key=lambda mount: len(mount.root))
        self._mounts = widest_first[:1] if widest_first[0].root == b"/" else widest_first
        self._open: dict[int, int] = {}

    def close(self) -> None:
        """Closes what `link` opened; it opens again by itself."""
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _entries(self) -> Iterator[tuple[int, int]]:
        """Mount ids with an open directory of each. One that cannot be reached was unmounted or covered a moment ago,
        and the change of the mount table is still to be read."""
        for mount in self._mounts:
            if mount.id not in self._open:
                fd = os.open(mount.point, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                if handle_of(fd)[1] != mount.id:
                    os.close(fd)
                    raise Unsettled
                self._open[mount.id] = fd
            yield mount.id, self._open[mount.id]

    def link(self, handle: bytes) -> Link | None:
        """Where the directory with this handle hangs; None when it is gone.

        Raises:
            Unsettled: it cannot be told now: it is being renamed all the time, or the mounts change.
            StopRule: CAP_DAC_READ_SEARCH is missing.
        """
        try:
            return self._link(handle)
        except OSError as error:
            raise Unsettled from error

    def _link(self, handle: bytes) -> Link | None:
        for mount_id, mount_fd in self._entries():
            try:
                fd = open_handle(mount_fd, handle)
            except OSError as error:
                if error.errno == errno.ESTALE:
                    return None
                if error.errno == errno.EPERM:
                    raise StopRule(
                        "CAP_DAC_READ_SEARCH is missing", code=Code.CAPTURE_UNFIT, next_step="run the node as root"
                    ) from error
                raise
            try:
                return _link_of(fd, handle, mount_id)
            except FileNotFoundError:  # beside the part of the file system that this mount shows
                continue
            finally:
                os.close(fd)
        return TOP


def _link_of(fd: int, handle: bytes, mount_id: int) -> Link | None:
    """Parent and name of the open directory `fd`. Both are read one after the other, so they are believed only when
    the name leads from the parent to the same handle.

    Raises:
        FileNotFoundError: the directory does not lie beneath the root of its mount.
    """
    for _ in range(_TRIES):
        if os.fstat(fd).st_nlink == 0:
            return None
        parent_fd = os.open(b"..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            parent = _within(parent_fd, mount_id)
            if parent is None or parent == handle:
                return TOP
            name = _name_of(fd, handle, parent_fd)
            if name and _leads(parent_fd, name, handle, mount_id):
                return Link(parent, name)
        finally:
            os.close(parent_fd)
    raise Unsettled


def _within(parent_fd: int, mount_id: int) -> bytes | None:
    """The handle of the parent; None when it belongs to another mount, whose file system may have no handles."""
    try:
        handle, found_mount_id = handle_of(parent_fd)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return None
        raise
    return handle if found_mount_id == mount_id else None


def _leads(parent_fd: int, name: bytes, handle: bytes, mount_id: int) -> bool:
    try:
        found, found_mount_id = handle_of(parent_fd, name)
    except OSError:
        return False
    # A mount that covers the directory hides its handle: then the name has to be taken on trust.
    return found == handle or found_mount_id != mount_id


def _name_of(fd: int, handle: bytes, parent_fd: int) -> bytes:
    """The last component of the open directory's path; empty when it was renamed meanwhile."""
    try:
        return os.path.basename(os.readlink(b"/proc/self/fd/%d" % fd))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    # proc cannot tell a path of more than a page, so the parent is searched.
    listing = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        for name in map(os.fsencode, os.listdir(listing)):
            try:
                if handle_of(parent_fd, name)[0] == handle:
                    return name
            except OSError:
                continue
    finally:
        os.close(listing)
    return b""
