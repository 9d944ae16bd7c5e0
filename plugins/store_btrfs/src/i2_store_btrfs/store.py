"""The store: a read-only subvolume for each directory of the replica, beside it."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from i2_store_btrfs.subvolume import destroy, has_inner, snapshot
from i2core.posix.beside_snapshots import BesideSnapshots


class BtrfsSnapshots(BesideSnapshots):
    """Subvolumes beside the replica."""

    def take(self, home: int, name: bytes, root: int) -> None:
        if has_inner(root):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        snapshot(root, home, name)

    def clear(self, home: int, name: bytes) -> None:
        with suppress(FileNotFoundError):
            destroy(home, name)

    def why(self, number: int) -> str:
        """As in the base, in the words of btrfs."""
        if number == errno.EXDEV:
            return "there is another subvolume in it, which a snapshot cannot have"
        if number in (errno.EINVAL, errno.ENOTTY):
            return "the target is no subvolume of btrfs"
        return ""
