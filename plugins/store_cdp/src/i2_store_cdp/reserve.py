"""Room that is kept back while there is some, so that a full disk can still be emptied: merging writes the new before
it removes the old."""

from __future__ import annotations

import os
from contextlib import suppress

from i2_store_cdp.home import Home
from i2core.posix.errnos import FULL

_NAME = b"reserve"
_STEP = 8 * 1024 * 1024


class Reserve:
    """A file of which nothing counts but its blocks. Not durable: after a crash it is filled up again."""

    def __init__(self, home: Home, wanted: int) -> None:
        """`wanted`: bytes."""
        self._home, self._wanted = home, wanted
        self.size = 0
        """What is kept back."""

    def fill(self) -> bool:
        """Takes as much as there is room for, up to all; what is in use then is left with as much again.

        Returns: True when all is there.
        Raises:
            OSError: anything but a full disk.
        """
        if not self._wanted:
            self._home.remove_file(_NAME)
            return True
        fd = self._home.open_file(_NAME, os.O_RDWR | os.O_CREAT)
        try:
            self.size = min(os.fstat(fd).st_size, self._wanted)
            os.ftruncate(fd, self.size)
            while self.size < self._wanted and self._grow(fd, min(_STEP, self._wanted - self.size)):
                pass
        finally:
            os.close(fd)
        return self.size == self._wanted

    def _grow(self, fd: int, step: int) -> bool:
        room = os.fstatvfs(fd)
        if room.f_bavail * room.f_frsize < 2 * step:
            return False
        try:
            os.posix_fallocate(fd, self.size, step)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(fd, self.size)
            if error.errno in FULL:
                return False
            raise
        self.size += step
        return True

    def release(self) -> bool:
        """Gives the room back; False when there was none."""
        had, self.size = self.size, 0
        self._home.remove_file(_NAME)
        return had > 0
