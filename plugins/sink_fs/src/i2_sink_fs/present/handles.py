"""Open objects by number: one descriptor each, which tells where the object is and reads nothing of it (O_PATH)."""

from __future__ import annotations

import errno
import itertools
import os

from i2core.api.present import STAGING, STORE, TOP, Handle
from i2core.posix.descriptors import may_keep

_MOST = 4096
"""What plans need at the same time: two batches of 256 records, each with two paths of some levels."""
FIXED = (STORE, TOP, STAGING)
"""The handles of the fixed directories are their numbers."""


class Handles:
    """The open objects. Any thread may use it."""

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}
        self._numbers = itertools.count(max(FIXED) + 1)

    def __len__(self) -> int:
        return len(self._fds)

    def check_room(self) -> None:
        """To be called before another object is opened. The limit follows that of this process, which has other needs
        as well.

        Raises:
            OSError: EMFILE, one that passes: so many are open already.
        """
        if len(self._fds) >= may_keep(_MOST):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def add(self, fd: int) -> Handle:
        """The handle of an object that was just opened; the descriptor is closed with it."""
        number = next(self._numbers)
        self._fds[number] = fd
        return Handle(number)

    def fd(self, handle: Handle) -> int:
        """The descriptor of an open object."""
        return self._fds[handle]

    def release(self, handle: Handle) -> None:
        """Closes an open object; a fixed directory stays."""
        if handle not in FIXED:
            os.close(self._fds.pop(handle))

    def close(self) -> None:
        """Closes all."""
        for handle in list(self._fds):
            os.close(self._fds.pop(handle))
