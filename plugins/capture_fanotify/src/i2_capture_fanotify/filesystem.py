"""One watched file system: finds a directory's current parent and name by its handle.

No descriptor is kept between batches, so that the file system can be unmounted at any time.
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
    """The link of a directory: the handle of its parent, and its name there. At the top of the visible part of the file
    system `parent` is None."""

    parent: bytes | None
    name: bytes


TOP = Link(None, b"")


class Unsettled(Exception):
    """A directory's place cannot be determined now."""


class FileSystem:
    """Finds directories of one file system by handle, through its mounts."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        """A mount of the whole file system shows every directory. Without one, a directory is searched in all of
        `mounts`, those with the largest part first."""
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
        """The link of the directory with this handle; None if it is gone.

        Raises:
            Unsettled: it cannot be determined now: it is renamed all the time, or the mounts change.
            StopRule: CAP_DAC_READ_SEARCH is missing.
        """
        try:
            return self._link(handle)
        except OSError as error:
            raise Unsettled from error

    def links(self, handle: bytes) -> int:
        """How many names the file with this handle has; 0 when it is gone.

        Raises:
            Unsettled: it cannot be determined now.
        """
        fd = self._open_any(handle, os.O_NOFOLLOW)
        if fd < 0:
            return 0
        try:
            return os.fstat(fd).st_nlink
        finally:
            os.close(fd)

    def leads(self, directory: bytes, name: bytes, target: bytes) -> bool:
        """True when `name` in the directory with this handle is the object with the handle `target`.

        Raises:
            Unsettled: it cannot be determined now.
        """
        fd = self._open_any(directory, os.O_DIRECTORY)
        if fd < 0:
            return False
        try:
            return handle_of(fd, name)[0] == target
        except OSError:
            return False
        finally:
            os.close(fd)

    def _open_any(self, handle: bytes, flags: int) -> int:
        """The object with this handle, through any mount; -1 if it is gone."""
        try:
            _, mount_fd = next(self._entries())
            return open_handle(mount_fd, handle, flags)
        except OSError as error:
            if error.errno == errno.ESTALE:
                return -1
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
            except FileNotFoundError:  # outside of the part of the file system that this mount shows
                continue
            finally:
                os.close(fd)
        return TOP


def _link_of(fd: int, handle: bytes, mount_id: int) -> Link | None:
    """Parent and name of the open directory `fd`. Both are read one after the other, so they are accepted only
    if the name in the parent leads to the same handle.

    Raises:
        FileNotFoundError: the directory is not beneath the root of its mount.
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
    # A mount over the directory hides its handle: then the name cannot be verified, and is accepted.
    return found == handle or found_mount_id != mount_id


def _name_of(fd: int, handle: bytes, parent_fd: int) -> bytes:
    """The last component of the open directory's path; empty if it was renamed in between."""
    try:
        return os.path.basename(os.readlink(b"/proc/self/fd/%d" % fd))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    # /proc cannot show a path longer than a page, so the parent is searched.
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
