"""The directories that contain a directory, also those that a bind mount hides.

``..`` of a directory that is bound to a mount point is the directory of the mount point. Those that contain it in its
own file system are reached through another mount of that file system, if this process sees one.
"""

from __future__ import annotations

import os
from collections.abc import Generator

from i2core.posix.errnos import PASSING
from i2core.posix.mounts import Mount, mount_of, read_mounts
from i2core.posix.opening import BASE, DIRECTORY
from i2core.posix.syscalls import open_beneath


def with_ancestors(fd: int) -> Generator[int, None, None]:
    """The open directory itself, then all that contain it, up to ``/``: each by its mount points, and in its file
    system. Some come more than once. Each descriptor (O_PATH) is valid until the next one is asked for.

    Raises:
        OSError: one cannot be opened.
    """
    ways = [os.open(b".", BASE, dir_fd=fd)]
    crossed: set[int] = set()
    try:
        while ways:
            here = ways[-1]
            yield here
            ways.append(os.open(b"..", BASE, dir_fd=here))
            mount, outside = mount_of(here), mount_of(ways[-1])
            is_top = mount == outside and os.path.samestat(os.fstat(here), os.fstat(ways[-1]))
            os.close(ways.pop(-2))
            if is_top:  # what is above / is / again
                os.close(ways.pop())
            if (is_top or mount != outside) and mount not in crossed:
                crossed.add(mount)
                ways[:0] = _containing_in_its_file_system(mount)
    finally:
        for way in ways:
            os.close(way)


def _containing_in_its_file_system(mount: int) -> list[int]:
    """The directory that contains what the mount shows, opened through another mount of its file system; empty if
    nothing does, or no mount leads there."""
    mounts = read_mounts()
    shown = next((each for each in mounts if each.id == mount), None)
    if shown is None or shown.root == b"/":
        return []
    above = os.path.dirname(shown.root)
    # The mount that shows most of the file system comes first.
    for each in sorted(mounts, key=lambda each: len(each.root)):
        top = each.root.rstrip(b"/")
        if each.device == shown.device and (above + b"/").startswith(top + b"/"):
            found = _open_in(each, above[len(top) :])
            if found is not None:
                return [found]
    return []


def _open_in(mount: Mount, path: bytes) -> int | None:
    """The directory at a path of the mount; None where another mount covers it, or this process may not enter it."""
    # The last dot asks for search permission, which the way further up needs.
    whole = b"/".join(part for part in (mount.point.strip(b"/"), path.strip(b"/"), b".") if part)
    try:
        top = os.open(b"/", BASE)
        try:
            fd = open_beneath(top, whole, DIRECTORY)
        finally:
            os.close(top)
    except OSError as error:
        if error.errno in PASSING:
            raise
        return None
    if mount_of(fd) == mount.id:
        return fd
    os.close(fd)
    return None
