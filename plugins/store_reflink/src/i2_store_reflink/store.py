"""The store: a directory of clones for each directory of the replica, beside it."""

from __future__ import annotations

import errno
import os
import stat

from i2_store_reflink.clone import Cloner
from i2core.api import check_cancelled
from i2core.posix.beside_snapshots import BesideSnapshots
from i2core.posix.errnos import FULL
from i2core.posix.opening import READABLE
from i2core.posix.removal import remove
from i2core.posix.syscalls import open_beneath, sync_filesystem

_CANNOT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY)


class ReflinkSnapshots(BesideSnapshots):
    """Clones beside the replica."""

    def take(self, home: int, name: bytes, root: int) -> None:
        os.mkdir(name, 0o700, dir_fd=home)
        target = os.open(name, READABLE, dir_fd=home)
        try:
            Cloner(root, target, check_cancelled).clone()
        finally:
            os.close(target)

    def clear(self, home: int, name: bytes) -> None:
        try:
            remove(home, name)
        except OSError as error:
            if error.errno not in FULL:
                raise
            _unlink_files(home, name)
            sync_filesystem(home)  # now they are free
            remove(home, name)

    def why(self, number: int) -> str:
        """As in the base; and where cloning is not possible."""
        return "its file system cannot clone files" if number in _CANNOT else super().why(number)


def _unlink_files(home: int, name: bytes) -> None:
    """Removes all files and no directory: that needs no room, as renaming does."""
    waiting = [name]
    for path in waiting:  # grows as it goes
        fd = open_beneath(home, path, READABLE)
        try:
            for inner in os.listdir(b"/proc/self/fd/%d" % fd):
                if stat.S_ISDIR(os.stat(inner, dir_fd=fd, follow_symlinks=False).st_mode):
                    waiting.append(path + b"/" + inner)
                else:
                    os.unlink(inner, dir_fd=fd)
        finally:
            os.close(fd)
