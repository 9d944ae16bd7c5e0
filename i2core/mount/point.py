"""Where something may be mounted: on an empty directory that is no part of what is protected."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress

from i2core.api.errors import UsageError
from i2core.mount.device import KIND, top_mount, unmount
from i2core.mount.layer import is_ours
from i2core.posix.ancestors import with_ancestors
from i2core.posix.opening import READABLE
from i2core.posix.path_text import shown

_DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESTALE)


async def clear_dead(point: bytes) -> bool:
    """Unmounts what a server has left that was killed; True if there was something.

    Raises:
        OSError: it cannot be unmounted.
    """
    found = top_mount(point)
    if found is None or not (found.kind == KIND or is_ours(found)):
        return False
    try:
        os.close(os.open(point, READABLE))
        os.listdir(point)
    except OSError as error:
        if error.errno in _DEAD:
            await unmount(point, lazily=True)
            return True
    return False


def open_point(point: bytes, forbidden: Iterable[bytes]) -> int:
    """The directory, open. `forbidden`: directories in which nothing may be mounted, nor on themselves, whatever path
    or bind mount leads there.

    Raises:
        UsageError: nothing may be mounted there; the text says why.
    """
    name = shown(point)
    if top_mount(point) is not None:
        raise UsageError("something is mounted there", obj=name, next_step="unmount it, or choose another directory")
    try:
        fd = os.open(point, READABLE)
    except FileNotFoundError:
        raise UsageError("is missing", obj=name, next_step="create it") from None
    except NotADirectoryError:
        raise UsageError("is not a directory", obj=name, next_step="choose an empty directory") from None
    except OSError as error:
        raise UsageError(f"cannot be opened: {error.strerror}", obj=name) from error
    try:
        check_place(fd, name, forbidden)
    except BaseException:
        os.close(fd)
        raise
    return fd


def check_place(fd: int, name: str, forbidden: Iterable[bytes]) -> None:
    """As `open_point`, for a directory that is open already.

    Raises:
        UsageError: as `open_point`.
    """
    if os.listdir(fd):
        raise UsageError("is not empty", obj=name, next_step="choose an empty directory")
    places: dict[tuple[int, int], bytes] = {}
    for path in forbidden:
        with suppress(OSError):
            status = os.stat(path)
            places[status.st_dev, status.st_ino] = path
    for above in with_ancestors(fd):
        status = os.fstat(above)
        if (place := places.get((status.st_dev, status.st_ino))) is not None:
            raise UsageError(
                f"lies in {shown(place)}, which is replicated, mounted or kept by i2",
                obj=name,
                next_step="choose an empty directory elsewhere",
            )
